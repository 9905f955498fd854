//! `cargo xtask soak`: gateways without their server, for as long as one has the patience.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{Profile, build_tests, folder},
    process::is_root,
    setup,
    test::NETNS,
};

/// The cases that take as long as they are told.
const CASES: &str = "soak::";

/// Keep the server away while traffic flows, and see that nobody notices.
#[derive(clap::Args)]
pub struct Args {
    /// How long.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !is_root() {
        bail!("the soak makes network namespaces, which needs root: run it with sudo -E");
    }
    setup::ensure(&[])?;
    let mut built = build_tests(&[NETNS])?;
    let executable = built.remove(NETNS).context("cargo built no netns suite")?;
    let seconds = args.minutes.saturating_mul(60);
    // Becomes the suite, so that Ctrl-C reaches it and nothing else.
    let error = std::process::Command::new(executable)
        .arg(CASES)
        .current_dir(folder("tests"))
        .env("CARGO_MANIFEST_DIR", folder("tests"))
        .env("DOORSTEP_BIN_DIR", Profile::Dev.bin_dir())
        .env("DOORSTEP_SOAK_SECONDS", seconds.to_string())
        .exec();
    Err(error).context("cannot run the netns suite")
}
