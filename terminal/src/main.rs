//! `doorstep-terminal`: the daemon (`run`) and its client.

use std::process::ExitCode;

fn main() -> ExitCode {
    doorstep_terminal::cli::main()
}
