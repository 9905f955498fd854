//! `doorstep-server`: the operator's daemon, and its own client.

#![forbid(unsafe_code)]

/// Thousands of streams, and requests that live for milliseconds: less time, and less memory that
/// is held in pieces, than with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::main(cli::Cli::parse())
}
