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
    /// Move subscribers between thousands of gateways as fast as the server can, and kill it
    /// meanwhile
    Control(Asked),
    /// Measure the gateway's fast path, beside a bare redirect and Linux without us
    Dataplane {
        #[command(flatten)]
        asked: Asked,
        /// Draw packets per second by number of sessions, as SVG
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// Have ten thousand ordinary routers ask a gateway for their addresses, as fast as it can answer
    Dhcp(Asked),
    /// Kill and upgrade a gateway's daemon under traffic, hundreds of times, and count what gets lost
    Hitless(Asked),
    /// Take a home from one operator to the other, in one step and by an end and a beginning, and
    /// measure what it notices
    Switch(Asked),
}

/// What every benchmark takes.
#[derive(clap::Args)]
struct Asked {
    /// Write what was found, as JSON; docs/performance.md explains it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: less of everything, in a few minutes at most.
    #[arg(long)]
    quick: bool,
    /// More arguments for the benchmark itself, which has its own `--help`: `-- --help`.
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
    let mut plot = None;
    let (name, asked) = match &args.what {
        What::Control(asked) => {
            binaries.push((SERVER, SERVER));
            ("control", asked)
        }
        What::Dataplane { asked, plot: file } => {
            plot = file.as_ref();
            ("dataplane", asked)
        }
        What::Dhcp(asked) => ("dhcp", asked),
        What::Hitless(asked) => ("hitless", asked),
        What::Switch(asked) => ("switch", asked),
    };
    if matches!(
        args.what,
        What::Dhcp(_) | What::Hitless(_) | What::Switch(_)
    ) {
        binaries.extend(DAEMONS.map(|daemon| (daemon, daemon)));
    }
    let bin_dir = build_binaries(Profile::Release, &binaries)?;
    let mut bench = Command::new(bin_dir.join(BENCH));
    bench.arg(name);
    for (option, file) in [("--json", asked.json.as_ref()), ("--plot", plot)] {
        if let Some(file) = file {
            bench.arg(option).arg(file);
        }
    }
    if asked.quick {
        bench.arg("--quick");
    }
    // Becomes the benchmark, so that Ctrl-C reaches it and nothing else.
    Err(bench.args(&asked.more).exec()).with_context(|| format!("cannot run {BENCH}"))
}
