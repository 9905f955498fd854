//! The gateway: daemon and client in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorstep_gateway::cli::main()
}
