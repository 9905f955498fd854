//! `cargo xtask bench`: how fast it is, and what it loses, on this host.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    cargo::{BENCH, DAEMONS, Profile, SERVER, build_binaries},
    process::is_root,
    setup,
};

/// Measure how fast it is, on this host.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Control(Control),
    Dataplane(Dataplane),
    Dhcp(Dhcp),
    Hitless(Hitless),
    Switch(Switch),
}

/// Move subscribers between thousands of gateways as fast as the server can, and kill it meanwhile.
#[derive(clap::Args)]
struct Control {
    /// Write what was measured, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: fewer subscribers, shorter, a few kills.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself; see `bench control -- --help`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Measure the gateway's fast path, beside a bare redirect and Linux without us.
#[derive(clap::Args)]
struct Dataplane {
    /// Write what was measured, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw packets per second by number of sessions, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// A first look, in one or two minutes.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself; see `bench dataplane -- --help`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Have ten thousand ordinary routers ask a gateway for their addresses, as fast as it can answer.
#[derive(clap::Args)]
struct Dhcp {
    /// Write what was measured, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: fewer lines, shorter.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself; see `bench dhcp -- --help`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Kill and upgrade a gateway's daemon under traffic, hundreds of times, and count what gets lost.
#[derive(clap::Args)]
struct Hitless {
    /// Write what was found, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: a few times each.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself; see `bench hitless -- --help`.
    #[arg(last = true)]
    more: Vec<String>,
}

/// Take a home from one operator to the other, in one step and by an end and a beginning, and measure
/// what it notices.
#[derive(clap::Args)]
struct Switch {
    /// Write what was measured, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: a few times each.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself; see `bench switch -- --help`.
    #[arg(last = true)]
    more: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !is_root() && !matches!(args.what, What::Control(_)) {
        bail!(
            "the benchmark makes network namespaces and loads programs, which needs root: run it \
             with sudo -E"
        );
    }
    setup::ensure(&[])?;
    let mut binaries = vec![(BENCH, BENCH)];
    let (name, json, plot, quick, more) = match &args.what {
        What::Control(it) => {
            binaries.push((SERVER, SERVER));
            ("control", &it.json, None, it.quick, &it.more)
        }
        What::Dataplane(it) => ("dataplane", &it.json, it.plot.as_ref(), it.quick, &it.more),
        What::Dhcp(it) => {
            binaries.extend(DAEMONS.map(|daemon| (daemon, daemon)));
            ("dhcp", &it.json, None, it.quick, &it.more)
        }
        What::Hitless(it) => {
            binaries.extend(DAEMONS.map(|daemon| (daemon, daemon)));
            ("hitless", &it.json, None, it.quick, &it.more)
        }
        What::Switch(it) => {
            binaries.extend(DAEMONS.map(|daemon| (daemon, daemon)));
            ("switch", &it.json, None, it.quick, &it.more)
        }
    };
    let bin_dir = build_binaries(Profile::Release, &binaries)?;
    let mut bench = Command::new(bin_dir.join(BENCH));
    bench.arg(name);
    for (option, file) in [("--json", json.as_ref()), ("--plot", plot)] {
        if let Some(file) = file {
            bench.arg(option).arg(file);
        }
    }
    if quick {
        bench.arg("--quick");
    }
    // Becomes the benchmark, so that Ctrl-C reaches it and nothing else.
    Err(bench.args(more).exec()).with_context(|| format!("cannot run {BENCH}"))
}
