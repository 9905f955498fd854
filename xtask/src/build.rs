//! `cargo xtask build`: the eBPF object and all binaries.

use std::process::ExitCode;

use anyhow::Result;
use doorstep_ebpf_build::BuildRequest;

use crate::{
    cargo::{self, Metadata, Profile},
    process, setup,
};

/// Build the eBPF programs and all binaries.
#[derive(clap::Args)]
pub struct Args {
    /// Build the binaries optimized.
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[])?;
    for (package, bin) in Metadata::read()?.ebpf_programs() {
        let object = doorstep_ebpf_build::build(&BuildRequest::new(package, bin))?;
        println!("{}", object.display());
    }
    let profile = Profile::from_flag(args.release);
    let mut build = cargo::cargo();
    build.args(["build", "--bins"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    process::run(&mut build)?;
    println!("{}", profile.bin_dir().display());
    Ok(ExitCode::SUCCESS)
}
