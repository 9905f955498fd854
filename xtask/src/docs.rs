//! `cargo xtask docs`: the daemons' man pages, and completions for shells.

use std::process::ExitCode;

use anyhow::Result;
use doorstep_ebpf_build::target_dir;

use crate::{
    cargo::{DAEMONS, Profile, build_binaries},
    folder,
    process::{command, run_quietly},
    setup,
};

/// Make man pages and shell completions of the daemons' commands, in target/docs.
#[derive(clap::Args)]
pub struct Args {
    /// By optimized binaries, where these are built anyway.
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[])?;
    let daemons = DAEMONS.map(|name| (name, name));
    let bin_dir = build_binaries(Profile::from_flag(args.release), &daemons)?;
    let (made, docs) = (target_dir().join("docs.new"), target_dir().join("docs"));
    folder::make_anew(&made)?;
    for name in DAEMONS {
        let mut manual = command(bin_dir.join(name));
        run_quietly(manual.arg("manual").arg("--out").arg(&made))?;
    }
    folder::put_in_place(&made, &docs)?;
    println!("{}", docs.display());
    Ok(ExitCode::SUCCESS)
}
