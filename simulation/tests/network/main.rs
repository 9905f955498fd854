//! The control plane over a simulated network: the server's real services over its real database, two
//! gateways but for the kernel, terminals' real clients, in one thread and in simulated time.
//!
//! A seed says what subscribers wish and what breaks: links that are cut, one way or both, or hold
//! messages back, processes that are killed or stopped and start again from their disks. Meanwhile an
//! observer watches the gateways' maps; once everything works again all must come to rest and agree.
//! The same seed gives the same trace: each is run twice, in a process of its own, because some of
//! what chance decides is counted per process.
//!
//! ```text
//! cargo test -p doorstep-simulation --test network                       a handful of seeds
//! cargo xtask simulate --seeds 100 --seed 1                              many
//! cargo xtask simulate --seed 17 --trace                                 what happens in one
//! ```

#![expect(
    clippy::print_stdout,
    reason = "a test program speaks through standard output"
)]

mod auditor;
mod fast_path;
mod gateway;
mod homes;
mod observer;
mod runs;
mod scenario;
mod server;
mod system;
mod terminal;
mod timetable;
mod wire;
mod world;

use std::process::ExitCode;

use clap::Parser;
use fast_path::Lie;
use libtest_mimic::{Arguments, Trial};

/// The seeds of the test.
const HANDFUL: std::ops::RangeInclusive<u64> = 1..=4;

/// Seeds of the control plane's simulation.
#[derive(Parser)]
struct Options {
    /// How many.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Show what happens.
    #[arg(long)]
    trace: bool,
    /// Run the one seed here, once, and say what happens: what this program calls itself with.
    #[arg(long, hide = true)]
    here: bool,
    /// With maps that lie.
    #[arg(long, hide = true)]
    lie: Option<fast_path::Lie>,
}

fn main() -> ExitCode {
    let own = ["--seed", "--seeds", "--trace", "--here"];
    let is_own = |argument: &String| {
        own.iter()
            .any(|name| argument == name || argument.starts_with(&format!("{name}=")))
    };
    if !std::env::args().skip(1).any(|argument| is_own(&argument)) {
        return libtest_mimic::run(&Arguments::from_args(), trials()).exit_code();
    }
    let options = Options::parse();
    match options.here {
        true => runs::here(options.seed, options.lie),
        false => runs::many(options.seed, options.seeds, options.trace),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = HANDFUL
        .map(|seed| {
            let name = format!("seed_{seed}_comes_to_rest_twice_in_the_same_way");
            Trial::test(name, move || {
                let trace = runs::twice(seed)?.trace;
                let count = |what: &str| trace.iter().filter(|line| line.contains(what)).count();
                let (opened, killed) = (count("is forwarded, "), count("Kill("));
                match opened >= 20 && killed >= 1 {
                    true => Ok(()),
                    false => Err(format!("little happens: {opened}, {killed}").into()),
                }
            })
        })
        .collect();
    let lies = [
        ("kept", Lie::Keeps, "both forward"),
        ("missing", Lie::Opens, "no rest: "),
    ];
    trials.extend(lies.map(|(name, lie, found)| {
        let name = format!("rows_that_are_{name}_at_gateways_that_lie_are_found_out");
        Trial::test(name, move || match runs::child(1, Some(lie))?.result {
            Err(why) if why.contains(found) => Ok(()),
            other => Err(format!("{other:?}").into()),
        })
    }));
    trials
}
