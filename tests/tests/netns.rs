//! The real daemons, with real packets between namespaces.

use std::process::ExitCode;

use doorstep_tests::suite;

fn main() -> ExitCode {
    suite::main(&[])
}
