//! `doorstep-fuzz`: targets without coverage guidance, and single inputs again.
#![expect(
    clippy::print_stdout,
    reason = "a command-line tool speaks through standard output"
)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use doorstep_fuzz::run::{self, Until};
use doorstep_fuzz::{Target, corpus, targets};

/// Runs a fuzz target; `cargo xtask fuzz` is the usual way to do so.
#[derive(Parser)]
struct Args {
    /// One of those that --list shows.
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// Show the targets.
    #[arg(long)]
    list: bool,
    /// Run this input alone; may be given several times.
    #[arg(long)]
    input: Vec<PathBuf>,
    /// Only write the inputs that code makes into this folder.
    #[arg(long, conflicts_with = "input")]
    write_seeds: Option<PathBuf>,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 60, conflicts_with = "inputs")]
    seconds: u64,
    /// Stop after so many mutated inputs.
    #[arg(long)]
    inputs: Option<u64>,
    /// What the inputs follow from.
    #[arg(long, default_value_t = run::SEED)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.list {
        for target in targets::ALL {
            println!("{:<20} {}", target.name, target.about);
        }
        return Ok(());
    }
    let name = args.target.as_deref().unwrap_or_default();
    let target = Target::named(name)
        .with_context(|| format!("there is no target '{name}'; --list shows them"))?;
    if let Some(folder) = &args.write_seeds {
        return corpus::write_seeds(target, folder)
            .with_context(|| format!("cannot write to {}", folder.display()));
    }
    if !args.input.is_empty() {
        return again(target, &args.input);
    }
    let until = match args.inputs {
        Some(inputs) => Until::Inputs(inputs),
        None => Until::Time(Duration::from_secs(args.seconds)),
    };
    let count = run::run(target, args.seed, until)?;
    println!("{name}: {count} inputs of seed {}, none failed", args.seed);
    Ok(())
}

/// Runs single inputs; a panic ends the program as it would end a daemon's.
fn again(target: &Target, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let input =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        (target.check)(&input);
        println!("{}: {} holds", target.name, file.display());
    }
    Ok(())
}
