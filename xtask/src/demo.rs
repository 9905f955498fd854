//! `cargo xtask demo`: a home connects, moves house, and its packets really flow.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{DAEMONS, Profile, TESTS, build_binaries},
    process::is_root,
    setup,
    vm::{self, BIN_DIR, First, Guest, kernel::Kernel},
};

const DEMO: &str = "doorstep-demo";
const VM_TIMEOUT: Duration = Duration::from_secs(900);

/// Run the demonstration in network namespaces of its own.
#[derive(clap::Args)]
pub struct Args {
    /// Run it on a distribution's kernel, in a virtual machine.
    #[arg(long)]
    vm: bool,
    /// The virtual machine's kernel.
    #[arg(long, value_enum, default_value_t, requires = "vm")]
    kernel: Kernel,
    /// Write what was measured, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// More arguments for the demonstration itself; see `demo -- --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.vm && !is_root() {
        bail!(
            "the demonstration makes network namespaces, which needs root: run it with sudo -E, \
             or in a virtual machine with --vm"
        );
    }
    let booted = args.vm.then_some(args.kernel);
    setup::ensure(booted.as_slice())?;
    let mut binaries: Vec<(&str, &str)> = DAEMONS.iter().map(|name| (*name, *name)).collect();
    binaries.push((TESTS, DEMO));
    let bin_dir = build_binaries(Profile::Release, &binaries)?;
    if args.vm {
        in_vm(args, &bin_dir)
    } else {
        here(args, &bin_dir)
    }
}

/// Becomes the demonstration, so that Ctrl-C reaches it and nothing else.
fn here(args: &Args, bin_dir: &Path) -> Result<ExitCode> {
    let mut demo = Command::new(bin_dir.join(DEMO));
    demo.env("DOORSTEP_BIN_DIR", bin_dir);
    if let Some(report) = &args.report {
        demo.arg("--report").arg(report);
    }
    Err(demo.args(&args.more).exec()).with_context(|| format!("cannot run {DEMO}"))
}

fn in_vm(args: &Args, bin_dir: &Path) -> Result<ExitCode> {
    const REPORT: &str = "report.json";

    let programs: Vec<PathBuf> = DAEMONS
        .iter()
        .chain(&[DEMO])
        .map(|name| bin_dir.join(name))
        .collect();
    let mut words = vec![
        format!("{BIN_DIR}/{DEMO}"),
        "--report".to_owned(),
        format!("/out/{REPORT}"),
    ];
    words.extend(args.more.iter().cloned());
    let finished = vm::run_guest(&Guest {
        label: None,
        kernel: args.kernel,
        programs: &programs,
        script: &vm::line(&words),
        first: First::Script,
        timeout: VM_TIMEOUT,
        kvm: false,
    })?;
    if let Some(report) = &args.report {
        let content = finished.file(REPORT)?;
        let path = env::current_dir()?.join(report);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::from(finished.code))
}
