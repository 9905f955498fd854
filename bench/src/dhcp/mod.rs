//! `doorstep-bench dhcp`: ordinary routers ask the real gateway for their addresses.
//!
//! The gateway is its own process, its programs run on its port, and the load is this process: raw
//! frames on the other end of the cable. Everything shares the machine's CPUs.

mod client;
mod drive;
mod wire;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use doorstep_tests::lab::netns;
use nix::unistd::Uid;
use serde::Serialize;

use self::client::{Delegation, Dora};
use self::drive::{Driven, Order, Pace};
use self::world::World;
use crate::asked::{Asked, Clock};
use crate::machine::Machine;
use crate::subscriber;

/// Of the report's structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 1;

/// Have ten thousand ordinary routers ask a gateway for their addresses, as fast as it can answer.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Lines, each with a session and a router.
    #[arg(long)]
    lines: Option<u32>,
    /// Exchanges under way at once while as many as possible are made.
    #[arg(long, default_value_t = 128)]
    in_flight: usize,
    /// Exchanges that begin in a second at most. Of more than 10,000 the gateway's programs let not
    /// every frame through to its daemon.
    #[arg(long, default_value_t = 9_500.0)]
    at_most: f64,
    /// Seconds of each measurement of routers that ask again.
    #[arg(long)]
    seconds: Option<u32>,
}

/// Rates of DISCOVER, OFFER, REQUEST, ACK.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    machine: Machine,
    /// The lower one of `first` and `again`.
    dora_per_s: f64,
    /// The higher one of `first_at_half` and `again_at_half`.
    p99_ms: f64,
    /// Once every router has its address and its prefix.
    daemon_rss_mib: f64,
    lines: u32,
    in_flight: usize,
    at_most: f64,
    /// Frames that were held back before the daemon, by the limits that protect it, all in all.
    held_back: u64,
    /// Each opens a session: recorded, in the fast path, reported, acknowledged.
    first: Driven,
    /// The same at half the rate.
    first_at_half: Driven,
    /// Of routers that had their address before.
    again: Driven,
    again_at_half: Driven,
    /// Prefixes delegated by DHCPv6: SOLICIT, ADVERTISE, REQUEST, REPLY.
    delegation: Driven,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        Uid::effective().is_root(),
        "this makes network namespaces and loads programs, which needs root"
    );
    let or = |quick, full| if args.asked.quick { quick } else { full };
    let lines = args.lines.unwrap_or(or(2_000, 10_000));
    let seconds = args.seconds.unwrap_or(or(2, 10)).max(1);
    ensure!(
        (1..=subscriber::MAX / 2).contains(&lines),
        "--lines: 1..={}",
        subscriber::MAX / 2
    );
    ensure!(args.in_flight > 0, "--in-flight: at least 1");
    ensure!(args.at_most >= 1.0, "--at-most: at least 1");
    netns::sweep();
    let machine = Machine::read(None)?;
    let clock = Clock(Instant::now());
    let all_once = |pace| Order {
        exchanges: lines,
        lines,
        pace,
        first_id: 1,
    };
    clock.say(format_args!("telling a gateway of {lines} lines, twice"));
    let most = Pace::InFlight {
        most: args.in_flight,
        per_s: args.at_most,
    };
    let first = {
        let world = World::start(lines)?;
        let first = world.drive(Dora, all_once(most))?;
        world.wait_for_reports(lines)?;
        first
    };
    say(&clock, "first", &first);
    let world = World::start(lines)?;
    let first_at_half = world.drive(Dora, all_once(Pace::PerSecond(first.per_s / 2.0)))?;
    world.wait_for_reports(lines)?;
    say(&clock, "first, at half the rate", &first_at_half);

    // As many as take so long at the rate of the first ones, which took more work.
    let many = |per_s: f64, pace, first_id| Order {
        exchanges: (per_s * f64::from(seconds)) as u32,
        pace,
        first_id,
        ..all_once(pace)
    };
    let order = many(first.per_s, most, lines + 1);
    let again = world.drive(Dora, order)?;
    say(&clock, "again", &again);
    let half = again.per_s / 2.0;
    let next = order.first_id + order.exchanges;
    let order = many(half, Pace::PerSecond(half), next);
    let again_at_half = world.drive(Dora, order)?;
    say(&clock, "again, at half the rate", &again_at_half);
    let delegation = world.drive(Delegation, all_once(most))?;
    say(&clock, "prefixes", &delegation);
    let daemon_rss_mib = world.resident_mib()?;
    println!("the daemon takes {daemon_rss_mib:.1} MiB with {lines} lines");
    let report = Report {
        schema: SCHEMA,
        machine,
        dora_per_s: first.per_s.min(again.per_s),
        p99_ms: first_at_half.ms_p99.max(again_at_half.ms_p99),
        daemon_rss_mib,
        lines,
        in_flight: args.in_flight,
        at_most: args.at_most,
        held_back: world.held_back()?,
        first,
        first_at_half,
        again,
        again_at_half,
        delegation,
    };
    args.asked.write(&report)?;
    Ok(ExitCode::SUCCESS)
}

fn say(clock: &Clock, what: &str, driven: &Driven) {
    clock.say(format_args!(
        "{what}: {:.0} exchanges/s; half within {:.2} ms, 99 % within {:.2} ms, all within {:.1} ms; \
         {} questions asked again",
        driven.per_s, driven.ms_p50, driven.ms_p99, driven.ms_max, driven.asked_again
    ));
}
