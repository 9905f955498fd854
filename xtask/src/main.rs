//! `cargo xtask`: everything one does with this workspace besides `cargo build`.
#![expect(
    clippy::print_stdout,
    reason = "a command-line tool speaks through standard output"
)]

mod bench;
mod build;
mod cargo;
mod demo;
mod dist;
mod docs;
mod folder;
mod fuzz;
mod load;
mod process;
mod setup;
mod simulate;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Tasks of the Doorstep workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Setup(setup::Args),
    Build(build::Args),
    /// Build the gateway, attach its programs to the configured ports and leave them pinned.
    BuildAndLoad(load::Args),
    /// Take the programs off the configured ports again.
    Unload(load::Args),
    Bench(bench::Args),
    Demo(demo::Args),
    Dist(dist::Args),
    Docs(docs::Args),
    Fuzz(fuzz::Args),
    Simulate(simulate::Args),
    Soak(soak::Args),
    Test(test::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => build::run(&args),
        Task::BuildAndLoad(args) => load::load(&args),
        Task::Unload(args) => load::unload(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Simulate(args) => simulate::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Vm(args) => vm::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use doorstep_test_docs::{Document, wrong_commands};

    use super::*;

    #[test]
    fn the_documents_have_no_other_tasks() {
        let wrong = wrong_commands(&Cli::command(), &Document::all());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
