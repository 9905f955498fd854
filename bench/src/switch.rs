//! `doorstep-bench switch`: a home goes from one operator to the other, in one step and by an end
//! and a beginning, and what a ping notices.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use doorstep_tests::switching::{Noticed, Rig};
use nix::unistd::Uid;
use serde::Serialize;

use crate::asked::{Asked, Clock};
use crate::machine::Machine;
use crate::percentile::percentile;

/// Of the report's structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 1;

/// Take a home from one operator to the other again and again, and measure what it notices.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// How often each of the two is done.
    #[arg(long)]
    times: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    machine: Machine,
    /// Whether the switch was noticed less, each time.
    holds: bool,
    /// In one step: `switch`.
    switch: Summary,
    /// `release`, then `request` of the other operator, in the same run.
    end_and_begin: Summary,
    /// How many times longer the home waits for an answer, at the median.
    ratio: f64,
}

/// Of pings, one a millisecond, with the source that the kernel chooses for each.
#[derive(Debug, Serialize)]
struct Summary {
    times: usize,
    pings: usize,
    lost: usize,
    lost_most: usize,
    /// The longest time between two answers, of each run.
    longest_ms_p50: f64,
    longest_ms_max: f64,
}

impl Summary {
    fn of(runs: &[Noticed]) -> Self {
        let mut longest: Vec<f64> = runs
            .iter()
            .map(|run| run.longest.as_secs_f64() * 1000.0)
            .collect();
        longest.sort_by(f64::total_cmp);
        Self {
            times: runs.len(),
            pings: runs.iter().map(|run| run.sent).sum(),
            lost: runs.iter().map(|run| run.lost).sum(),
            lost_most: runs.iter().map(|run| run.lost).max().unwrap_or_default(),
            longest_ms_p50: percentile(&longest, 50).unwrap_or_default(),
            longest_ms_max: longest.last().copied().unwrap_or_default(),
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        Uid::effective().is_root(),
        "this makes network namespaces and loads programs, which needs root"
    );
    let times = args.times.unwrap_or(if args.asked.quick { 3 } else { 50 });
    ensure!(times > 0, "--times: at least 1");
    let machine = Machine::read(None)?;
    let clock = Clock(Instant::now());
    clock.say(format_args!(
        "a home between two operators, {times} times each way"
    ));
    let mut rig = Rig::new()?;
    let (mut switched, mut renewed) = (Vec::new(), Vec::new());
    for _ in 0..times {
        switched.push(rig.switch()?);
        renewed.push(rig.leave_and_come()?);
    }
    let holds = switched
        .iter()
        .zip(&renewed)
        .all(|(switched, renewed)| switched.lost < renewed.lost);
    let (switch, end_and_begin) = (Summary::of(&switched), Summary::of(&renewed));
    for (what, summary) in [
        ("in one step", &switch),
        ("an end and a beginning", &end_and_begin),
    ] {
        println!(
            "{what:<24} {} of {} pings lost, at most {} at once; longest pause {:.1} ms at the \
             median, {:.1} ms at most",
            summary.lost,
            summary.pings,
            summary.lost_most,
            summary.longest_ms_p50,
            summary.longest_ms_max
        );
    }
    let report = Report {
        schema: SCHEMA,
        machine,
        holds,
        ratio: end_and_begin.longest_ms_p50 / switch.longest_ms_p50,
        switch,
        end_and_begin,
    };
    args.asked.write(&report)?;
    Ok(match report.holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
