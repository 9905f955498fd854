//! The daemons' packages, installed under systemd on a machine of their own.

#[path = "packages/hosts.rs"]
mod hosts;
#[path = "packages/life.rs"]
mod life;
#[path = "packages/machine.rs"]
mod machine;

use std::process::ExitCode;

use doorstep_tests::cases;
use doorstep_tests::suite::{self, Suite};

fn main() -> ExitCode {
    suite::main(Suite {
        each_kernel: &[],
        newer_kernels: &[],
        any_kernel: cases![life::{installed_upgraded_removed}],
    })
}
