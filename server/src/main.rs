//! `doorstep-server`: the operator's daemon, and its own client.

#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::main(cli::Cli::parse())
}
