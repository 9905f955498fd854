//! `cargo xtask fuzz`: the fuzz targets, for as long as one likes.
//!
//! The targets of `fuzz/` run with libFuzzer's coverage guidance where a C++ compiler can build that,
//! otherwise by the loop that the tests use too. `frames` is about the loaded eBPF programs.

mod build;
mod frames;
mod limit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use doorstep_ebpf_build::{target_dir, workspace_root};

use crate::process::{command, describe, is_root};
use crate::setup::apt;
use limit::Limit;

/// Run a fuzz target until it fails, or for a time; by default `frames`.
#[derive(clap::Args)]
pub struct Args {
    /// One of those that --list shows.
    #[arg(default_value = frames::NAME)]
    target: String,
    /// Show the targets.
    #[arg(long)]
    list: bool,
    /// How long, such as 60s, 10m, 2h; a minute unless told otherwise.
    #[arg(long, value_parser = limit::time, conflicts_with = "inputs")]
    time: Option<u64>,
    /// How many inputs, instead of a time.
    #[arg(long)]
    inputs: Option<u64>,
    /// What the inputs follow from; without it, others each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this input alone, as after a failure; may be given several times.
    #[arg(long, value_name = "FILE")]
    input: Vec<PathBuf>,
    /// Without coverage guidance, even where a C++ compiler is there.
    #[arg(long)]
    plain: bool,
    /// How many frames; of the target `frames` only.
    #[arg(long, conflicts_with_all = ["time", "inputs"])]
    frames: Option<u64>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        println!("{:<20} {}", frames::NAME, frames::ABOUT);
        return status(command(build::plain()?).arg("--list"));
    }
    if args.target == frames::NAME {
        return of_frames(args);
    }
    if args.frames.is_some() {
        bail!("--frames is for the target {}; say --inputs", frames::NAME);
    }
    if !args.input.is_empty() {
        let mut again = command(build::plain()?);
        again.arg(&args.target);
        for file in &args.input {
            again.arg("--input").arg(file);
        }
        return status(&mut again);
    }
    let limit = Limit::of(args.time, args.inputs);
    let seed = limit::seed(args.seed)?;
    if args.plain || !ensure_cpp()? {
        return plain(&args.target, limit, seed);
    }
    guided(&args.target, limit, seed)
}

/// Whether libFuzzer can be built; its compiler is no part of `setup`, because nothing else needs it.
fn ensure_cpp() -> Result<bool> {
    if build::has_cpp() {
        return Ok(true);
    }
    if is_root() && apt::is_there() {
        apt::install(&["g++"])?;
        return Ok(true);
    }
    println!("fuzz: without coverage guidance, which needs a C++ compiler: install g++");
    Ok(false)
}

fn of_frames(args: &Args) -> Result<ExitCode> {
    if args.time.is_some() || !args.input.is_empty() {
        bail!("the target {} takes --frames and --seed", frames::NAME);
    }
    let frames = args.frames.or(args.inputs);
    frames::run(frames.unwrap_or(frames::DEFAULT_FRAMES), args.seed)
}

/// The loop that the tests use; it keeps what fails, and tells how to run it again.
fn plain(target: &str, limit: Limit, seed: u64) -> Result<ExitCode> {
    let mut run = command(build::plain()?);
    run.arg(target).args(limit.plain());
    status(run.args(["--seed", &seed.to_string()]))
}

/// libFuzzer. What it finds to lead elsewhere in the code it keeps below the target folder, and
/// begins with the next time.
fn guided(target: &str, limit: Limit, seed: u64) -> Result<ExitCode> {
    let plain = build::plain()?;
    let found = target_dir().join("fuzz/corpus").join(target);
    let seeds = command(plain)
        .arg(target)
        .arg("--write-seeds")
        .arg(&found)
        .status()
        .context("cannot run doorstep-fuzz")?;
    if !seeds.success() {
        return Ok(ExitCode::FAILURE);
    }
    let fuzzer = build::guided()?;
    let home = workspace_root().join("fuzz");
    let artifacts = home.join("artifacts").join(target);
    fs::create_dir_all(&artifacts)
        .with_context(|| format!("cannot make {}", artifacts.display()))?;
    let before = files(&artifacts)?;
    let mut run = command(fuzzer);
    run.env("DOORSTEP_FUZZ_TARGET", target)
        .args(limit.guided())
        .arg(format!("-seed={}", seed % u64::from(u32::MAX)))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-timeout=10", "-max_len=8192"])
        .arg(&found);
    let committed = home.join("corpus").join(target);
    if committed.is_dir() {
        run.arg(committed);
    }
    println!("{target}: seed {seed}");
    let code = status(&mut run)?;
    for file in files(&artifacts)? {
        if !before.contains(&file) {
            println!(
                "{target}: an input failed and is kept; run it again with\n  \
                 cargo xtask fuzz {target} --input {}",
                file.display()
            );
        }
    }
    Ok(code)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("cannot read {}", folder.display()))
}

/// Runs a program to its end, whose success is ours.
fn status(program: &mut Command) -> Result<ExitCode> {
    let status = program
        .status()
        .with_context(|| format!("cannot run `{}`", describe(program)))?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
