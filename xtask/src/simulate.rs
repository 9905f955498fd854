//! `cargo xtask simulate`: the control plane over a simulated network, by as many seeds as one likes.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cargo::cargo;
use crate::process::describe;

/// Run seeds of the control plane's simulation, each twice, and say which fail or go two ways.
#[derive(clap::Args)]
pub struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show all that happens, with simulated times.
    #[arg(long)]
    trace: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut test = cargo();
    test.args(["test", "--quiet", "--package", "doorstep-simulation"])
        .args(["--test", "network", "--"])
        .args(["--seeds", &args.seeds.to_string()])
        .args(["--seed", &args.seed.to_string()]);
    if args.trace {
        test.arg("--trace");
    }
    let status = test
        .status()
        .with_context(|| format!("cannot run `{}`", describe(&test)))?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
