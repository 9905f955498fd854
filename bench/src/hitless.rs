//! `doorstep-bench hitless`: restarts and upgrades under traffic, and what is lost by them.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use doorstep_tests::hitless::{Phase, Rig};
use doorstep_tests::lab::street::{Plan, Street};
use nix::unistd::Uid;
use serde::Serialize;

use crate::asked::{Asked, Clock};
use crate::machine::Machine;

/// Of the report's structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 1;

/// Connected; the first one's session carries the traffic.
const HOMES: usize = 4;

/// Kill and upgrade a gateway's daemon again and again, and count what gets lost meanwhile.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// How often the daemon is killed and started again.
    #[arg(long)]
    kills: Option<u32>,
    /// How often the programs are replaced.
    #[arg(long)]
    upgrades: Option<u32>,
    /// How often an upgrade is tried that is refused.
    #[arg(long)]
    refusals: Option<u32>,
    /// Packets per second, each way.
    #[arg(long, default_value_t = 30_000)]
    rate: u32,
    /// Packets per second, both ways together, below which it says nothing.
    #[arg(long, default_value_t = 30_000)]
    at_least: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    machine: Machine,
    /// Whether the traffic was as much as it should, and nothing of it was lost or miscounted, and
    /// no entry of a map was changed.
    holds: bool,
    packets_sent: u64,
    packets_lost: u64,
    /// Packets that the gateway has counted, less those that were sent.
    packets_miscounted: i64,
    entries_changed: usize,
    /// Both ways together, in the phase with the least.
    packets_per_s: f64,
    kills: u32,
    upgrades: u32,
    refused_upgrades: u32,
    phases: Vec<Phase>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        Uid::effective().is_root(),
        "this makes network namespaces and loads programs, which needs root"
    );
    let times =
        |wanted: Option<u32>, full| wanted.unwrap_or(if args.asked.quick { 3 } else { full });
    let (kills, upgrades) = (times(args.kills, 200), times(args.upgrades, 200));
    let refusals = args
        .refusals
        .unwrap_or(if args.asked.quick { 5 } else { 100 });
    let machine = Machine::read(None)?;
    let clock = Clock(Instant::now());
    clock.say(format_args!("connecting {HOMES} homes"));
    let street = Street::new(Plan {
        homes: HOMES,
        ..Plan::default()
    })?;
    let mut sessions = Vec::new();
    for (number, home) in street.homes.iter().enumerate() {
        home.register()?;
        sessions.push(home.request(&street.seal(0, number)?)?);
    }
    let session = sessions.swap_remove(0);
    let mut rig = Rig {
        street,
        session,
        rate: args.rate,
    };
    let mut phases = Vec::new();
    clock.say(format_args!("kill -9 and restart, {kills} times"));
    phases.push(rig.kill(kills)?);
    clock.say(format_args!("upgrade, {upgrades} times"));
    phases.push(rig.upgrade(upgrades)?);
    clock.say(format_args!("upgrade refused, {refusals} times"));
    phases.push(rig.refuse(refusals)?);
    for phase in &phases {
        println!("{}", line(phase));
    }
    let slowest = phases.iter().map(|phase| phase.packets_per_s);
    let slowest = slowest.fold(f64::INFINITY, f64::min);
    let fast = slowest >= f64::from(args.at_least);
    if !fast {
        println!(
            "{slowest:.0} packets/s, not {}: this machine had not the time; it says nothing",
            args.at_least
        );
    }
    let report = Report {
        schema: SCHEMA,
        machine,
        holds: fast && phases.iter().all(Phase::holds),
        packets_sent: phases.iter().map(sent).sum(),
        packets_lost: phases.iter().map(|phase| phase.lost).sum(),
        packets_miscounted: phases.iter().map(|phase| phase.miscounted).sum(),
        entries_changed: phases.iter().map(|phase| phase.entries_changed).sum(),
        packets_per_s: slowest,
        kills,
        upgrades,
        refused_upgrades: refusals,
        phases,
    };
    args.asked.write(&report)?;
    Ok(match report.holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn sent(phase: &Phase) -> u64 {
    phase.traffic.upstream.sent + phase.traffic.downstream.sent
}

fn line(phase: &Phase) -> String {
    format!(
        "{:<20} {:>4} times  {:>9} packets at {:>6.0}/s  lost {}  miscounted {}  {} of {} map \
         entries changed",
        phase.what,
        phase.times,
        sent(phase),
        phase.packets_per_s,
        phase.lost,
        phase.miscounted,
        phase.entries_changed,
        phase.entries
    )
}
