//! Target `frames`: random frames, many more than the tests have time for.

use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{build_tests, folder},
    process::{command, is_root},
    setup,
};

/// The name of this target.
pub const NAME: &str = "frames";
/// In one line, for people.
pub const ABOUT: &str = "frames through the loaded programs and the model on the host (needs root)";
/// Ten million take some minutes.
pub const DEFAULT_FRAMES: u64 = 10_000_000;

const SUITE: &str = "program";
const CASE: &str = "mutated_frames_agree_with_the_model";

/// Sends random and mutated frames through the loaded programs and the model on the host, until they
/// disagree on one. Without a seed, others each time.
pub fn run(frames: u64, seed: Option<u64>) -> Result<ExitCode> {
    if !is_root() {
        bail!("this loads programs into the kernel, which needs root: run it with sudo -E");
    }
    setup::ensure(&[])?;
    let suite = build_tests(&[SUITE])?
        .remove(SUITE)
        .context("cargo built no executable for the suite")?;
    let seed = match seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("{frames} frames of seed {seed}");
    let home = folder("tests");
    let error = command(suite)
        .arg(CASE)
        .current_dir(&home)
        .env("CARGO_MANIFEST_DIR", &home)
        .env("DOORSTEP_FRAMES", frames.to_string())
        .env("DOORSTEP_SEED", seed.to_string())
        .exec();
    Err(error).context("the suite cannot be started")
}
