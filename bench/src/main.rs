//! Benchmarks of the gateway's fast path, of what changes under it, and of the control plane.
#![expect(
    clippy::print_stdout,
    reason = "a command-line tool speaks through standard output"
)]

mod asked;
mod control;
mod cpu;
mod dataplane;
mod dhcp;
mod fill;
mod frames;
mod gateway;
mod hitless;
mod kernel;
mod lab;
mod load;
mod machine;
mod memory;
mod percentile;
mod plot;
mod ports;
mod program;
mod rates;
mod report;
mod rows;
mod sessions;
#[path = "../ebpf/src/shared.rs"]
mod shared;
mod subscriber;
mod switch;
mod table;
mod throughput;
mod verdicts;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use doorstep_tests::lab::cleanup;

/// Benchmarks of the gateway's fast path and of the control plane.
#[derive(Parser)]
#[command(name = "doorstep-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Control(control::Args),
    Dataplane(dataplane::Args),
    Dhcp(dhcp::Args),
    Hitless(hitless::Args),
    Program(program::Args),
    Switch(switch::Args),
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    cleanup::on_signals();
    let result: Result<ExitCode> = match command {
        Command::Control(args) => control::run(&args),
        Command::Dataplane(args) => dataplane::run(&args),
        Command::Dhcp(args) => dhcp::run(&args),
        Command::Hitless(args) => hitless::run(&args),
        Command::Switch(args) => switch::run(&args),
        Command::Program(args) => program::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
