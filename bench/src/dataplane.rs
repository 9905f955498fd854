//! `doorstep-bench dataplane`: everything in one run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::netns;
use nix::unistd::Uid;

use crate::asked::{Asked, Clock, write};
use crate::cpu;
use crate::lab::Lab;
use crate::load::Size;
use crate::machine::{Machine, online_cpus};
use crate::plot;
use crate::report::{Found, Report, Settings};
use crate::rows::Row;
use crate::sessions::{self, Amount};
use crate::table::Table;
use crate::throughput::{Key, Measured, Rig, Way};
use crate::{subscriber, verdicts};

/// Most sessions that are opened through the daemon's code at one go.
const CONTROL_SESSIONS: u32 = 100_000;
/// Most rounds of what takes long by itself, and is not compared with something else: verdicts, and
/// sessions that are opened.
const MOST_LONG_ROUNDS: usize = 7;

/// Measure the fast path: packets per second, time per verdict, sessions per second, memory.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Draw packets per second by number of sessions, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Rounds; each row's figure is the median over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Packets of a row in one round.
    #[arg(long)]
    packets: Option<u32>,
    /// Numbers of sessions.
    #[arg(long, value_delimiter = ',')]
    sessions: Option<Vec<u32>>,
    /// Sessions to close, for the time of a receipt.
    #[arg(long)]
    receipts: Option<usize>,
    /// The CPU to measure on; the last one unless given.
    #[arg(long)]
    cpu: Option<usize>,
}

impl Args {
    fn settings(&self) -> Result<Settings> {
        let all: &[u32] = if self.asked.quick {
            &[1, 1_000, 1_000_000]
        } else {
            &[1, 1_000, 100_000, 1_000_000]
        };
        let mut sessions = self.sessions.clone().unwrap_or_else(|| all.to_vec());
        sessions.sort_unstable();
        sessions.dedup();
        ensure!(
            sessions.iter().all(|n| (1..=subscriber::MAX).contains(n)),
            "--sessions: each number is 1..={}",
            subscriber::MAX
        );
        let most = sessions.last().copied().unwrap_or(1);
        let settings = Settings {
            control_sessions: most.min(CONTROL_SESSIONS),
            receipts: self
                .receipts
                .unwrap_or(if self.asked.quick { 200 } else { 1_000 }),
            rounds: self.rounds.unwrap_or(if self.asked.quick { 9 } else { 35 }),
            packets: self
                .packets
                .unwrap_or(if self.asked.quick { 100_000 } else { 200_000 }),
            sessions,
            sizes: if self.asked.quick {
                vec![Size::Small]
            } else {
                vec![Size::Small, Size::Imix]
            },
        };
        ensure!(settings.rounds > 0, "--rounds: at least one is needed");
        ensure!(settings.receipts > 0, "--receipts: at least one is needed");
        ensure!(settings.packets > 0, "--packets: at least one is needed");
        Ok(settings)
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let settings = args.settings()?;
    ensure!(
        Uid::effective().is_root(),
        "the benchmark makes network namespaces and loads programs, which needs root"
    );
    netns::sweep();
    let cpu = match args.cpu {
        Some(cpu) => cpu,
        None => online_cpus()?.last().copied().unwrap_or(0) as usize,
    };
    let machine = Machine::read(Some(cpu))?;
    let clock = Clock(Instant::now());
    clock.say(format_args!(
        "opening {:?} sessions, twice each",
        settings.sessions
    ));
    let rig = Rig::new(Lab::new()?, &settings.sessions)?;
    let linux_path = rig.describe_linux(&settings.sessions);
    cpu::pin(cpu)?;
    let _first = cpu::go_first();
    let rows = throughput(rig, &settings, &clock)?;
    clock.say(format_args!("timing verdicts"));
    let long_rounds = settings.rounds.min(MOST_LONG_ROUNDS);
    let verdicts = verdicts::measure(long_rounds)?;
    clock.say(format_args!(
        "opening and closing {} sessions",
        settings.control_sessions
    ));
    let control = sessions::measure(Amount {
        sessions: settings.control_sessions,
        rounds: long_rounds,
        receipts: settings.receipts,
    })?;
    let report = Report::new(Found {
        machine,
        settings,
        linux_path,
        rows,
        verdicts,
        control,
    });
    println!("{}", Table(&report));
    args.asked.write(&report)?;
    if let Some(path) = &args.plot {
        write(path, &plot::svg(&report))?;
    }
    Ok(match report.failed().next() {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

fn throughput(mut rig: Rig, settings: &Settings, clock: &Clock) -> Result<Vec<Row>> {
    let mut measured: BTreeMap<Key, Vec<Measured>> = BTreeMap::new();
    for round in 0..settings.rounds {
        clock.say(format_args!("round {} of {}", round + 1, settings.rounds));
        for key in keys(settings) {
            let one = rig
                .measure(key, settings.packets)
                .with_context(|| format!("{key:?}"))?;
            measured.entry(key).or_default().push(one);
        }
    }
    Ok(measured
        .iter()
        .map(|(key, rounds)| Row::of(*key, rounds))
        .collect())
}

fn keys(settings: &Settings) -> Vec<Key> {
    let mut keys = Vec::new();
    for &size in &settings.sizes {
        for &sessions in &settings.sessions {
            keys.extend(Way::ALL.map(|way| Key {
                size,
                sessions,
                way,
            }));
        }
    }
    keys
}
