//! `bpf-linker`, built from its source package against Debian's LLVM.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process::{command, run};

pub const VERSION: &str = "0.13.0";

/// How a person would install it.
pub const COMMAND: &str =
    "cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22";

/// The LLVM that the linker is built against: it must be at least as new as the compiler's.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

const LLVM_FEATURE: &str = "llvm-22";

/// Where bpf-linker's own build script, and that of its LLVM bindings, look for LLVM.
const LLVM_PREFIX_VARIABLES: [&str; 2] = ["LLVM_PREFIX", "LLVM_SYS_221_PREFIX"];

/// Builds and installs the linker into cargo's bin folder.
pub fn install() -> Result<()> {
    println!("setup: cargo install bpf-linker {VERSION} (about a minute)");
    let mut cargo = command("cargo");
    if Path::new(LLVM_PREFIX).is_dir() {
        cargo.envs(LLVM_PREFIX_VARIABLES.map(|name| (name, LLVM_PREFIX)));
    }
    run(cargo
        .args(["install", "--quiet", "bpf-linker", "--version", VERSION])
        .args(["--locked", "--no-default-features"])
        .args(["--features", LLVM_FEATURE]))
    .with_context(|| {
        format!(
            "bpf-linker could not be built: it needs LLVM 22's development files at {LLVM_PREFIX} \
             or where {} say",
            LLVM_PREFIX_VARIABLES.join(" and ")
        )
    })
}
