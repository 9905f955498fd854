//! `cargo xtask build-and-load` and `unload`: the gateway's programs on this host's ports.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{self, Profile},
    process::is_root,
    setup,
};

const GATEWAY: &str = "doorstep-gateway";

#[derive(clap::Args)]
pub struct Args {
    /// The gateway's configuration, which names the ports.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn load(args: &Args) -> Result<ExitCode> {
    gateway("load", args)
}

pub fn unload(args: &Args) -> Result<ExitCode> {
    gateway("detach", args)
}

/// Becomes `doorstep-gateway ACTION --config FILE`.
fn gateway(action: &str, args: &Args) -> Result<ExitCode> {
    let config = args
        .config
        .canonicalize()
        .with_context(|| format!("cannot find the configuration {}", args.config.display()))?;
    if !is_root() {
        bail!("`doorstep-gateway {action}` needs root: run this with sudo -E");
    }
    setup::ensure(&[])?;
    let bin_dir = cargo::build_binaries(Profile::Release, &[(GATEWAY, GATEWAY)])?;
    let error = Command::new(bin_dir.join(GATEWAY))
        .arg(action)
        .arg("--config")
        .arg(config)
        .exec();
    Err(error).context("cannot run doorstep-gateway")
}
