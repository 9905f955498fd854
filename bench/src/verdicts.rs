//! Nanoseconds of each verdict, by test runs.
//!
//! A run finds the frame as the run before left it, so a program of ours puts it back and then
//! tail-calls the gateway's. What that costs without the gateway is measured in the same way, and
//! given beside. Where the gateway changes a frame's length, putting that back is part of the
//! verdict's time: some nanoseconds to its disadvantage.

use std::time::Duration;

use anyhow::{Result, ensure};
use aya::maps::{MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use doorstep_gateway::session::{Service, SessionEntry};
use doorstep_gateway_common::LineValue;
use doorstep_gateway_common::names::map;
use doorstep_tests::lab::netns::Netns;
use serde::Serialize;

use crate::frames::{self, Case, Side};
use crate::gateway::{Gateway, Place, counted};
use crate::lab::Port;
use crate::load::Load;
use crate::rows::median;
use crate::{rates, subscriber};

/// The port that test runs come from: the loopback of the namespace.
const LOOPBACK: u32 = 1;
/// A port that nothing is sent to: a test run only says that it would.
const ELSEWHERE: u32 = 9;
/// Runs of one call, which gives their average in whole nanoseconds. Around each call the kernel
/// waits for two grace periods of RCU.
const REPEAT: u32 = 100_000;
/// Frames that fit into the punt ring, 256 KiB of records of 1552 + 8 bytes.
const PUNTS: u32 = 160;
const PUNT_CALLS: u32 = 20;

/// A grant in a minute: no rate is slower.
const SLOW: Service = Service {
    upstream_bps: 64,
    downstream_bps: 64,
    shape_downstream: false,
    priority: 0,
    time_to_live_s: 0,
};

/// Time of one verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What the frame is.
    pub case: &'static str,
    /// The reason that every run was counted under.
    pub reason: &'static str,
    /// Median over the rounds, nanoseconds of a run, less those without the gateway.
    pub ns: f64,
    /// Nanoseconds of a run as measured.
    pub ns_with_restore: f64,
    /// Nanoseconds of a run that only puts the frame back.
    pub ns_restore: f64,
}

/// What test runs tell.
#[derive(Clone, Debug)]
pub struct Found {
    pub verdicts: Vec<Verdict>,
    /// Whether a session that is far above its rate loses packets.
    pub polices: bool,
}

/// Measures every case in turn, in a namespace of its own.
pub fn measure(rounds: usize) -> Result<Found> {
    let netns = Netns::new("verdicts")?;
    netns.enter()?;
    let place = Place {
        access: Port {
            ifindex: LOOPBACK,
            mac: frames::GATEWAY,
        },
        uplink: Port {
            ifindex: LOOPBACK,
            mac: frames::GATEWAY,
        },
        next_hop: frames::NEXT_HOP,
    };
    let mut bench = Bench::new(place)?;
    let cases = frames::cases()?;
    let polices = bench.spend(&cases)?;
    let mut times = vec![(Vec::new(), Vec::new()); cases.len()];
    for _ in 0..rounds {
        for (case, (with, without)) in cases.iter().zip(&mut times) {
            without.push(bench.time(case, false)?);
            with.push(bench.time(case, true)?);
        }
    }
    let verdicts = cases
        .iter()
        .zip(&times)
        .map(|(case, (with, without))| {
            let differences: Vec<f64> = with.iter().zip(without).map(|(a, b)| a - b).collect();
            Verdict {
                case: case.name,
                reason: case.reason.name(),
                ns: median(&differences),
                ns_with_restore: median(with),
                ns_restore: median(without),
            }
        })
        .collect();
    Ok(Found { verdicts, polices })
}

struct Bench {
    load: Load,
    gateway: Gateway,
    punt: RingBuf<MapData>,
}

impl Bench {
    fn new(place: Place) -> Result<Self> {
        let mut gateway = Gateway::new(place, frames::CAPACITY)?;
        let key = frames::probe_key()?;
        let mut open = |entry: &SessionEntry| -> Result<()> {
            let maps = &mut gateway.maps;
            maps.line(entry.line.key, LineValue::default())?;
            if entry.slot == frames::TWO_TAGS {
                maps.expect_probes(entry, &key)?;
            }
            maps.session(entry)
        };
        for i in 0..frames::ONE_TAG {
            let service = match i {
                frames::POLICED => rates::policed(1),
                frames::SLOW => SLOW,
                _ => Service::default(),
            };
            open(&subscriber::entry(i, LOOPBACK, service)?)?;
        }
        for entry in frames::more_sessions(LOOPBACK)? {
            open(&entry)?;
        }
        let blocked = LineValue {
            flags: LineValue::BLOCKED,
            ..LineValue::default()
        };
        gateway.maps.line(frames::blocked_line(LOOPBACK), blocked)?;
        let punt = RingBuf::try_from(gateway.take_map(map::PUNT)?)?;
        Ok(Self {
            load: Load::new(ELSEWHERE)?,
            gateway,
            punt,
        })
    }

    /// Nanoseconds of a run, with the gateway or only putting the frame back.
    fn time(&mut self, case: &Case, with_gateway: bool) -> Result<f64> {
        self.arrange(case, with_gateway)?;
        let (repeat, calls) = if case.punts() {
            (PUNTS, PUNT_CALLS)
        } else {
            (REPEAT, 1)
        };
        let before = self.gateway.maps.reasons()?;
        let mut total = Duration::ZERO;
        for _ in 0..calls {
            while self.punt.next().is_some() {}
            total += self.run(case, repeat)?;
        }
        let after = self.gateway.maps.reasons()?;
        let runs = u64::from(repeat) * u64::from(calls);
        let found: Vec<_> = counted(&before, &after).collect();
        let expected = if with_gateway {
            vec![(case.reason, runs)]
        } else {
            Vec::new()
        };
        ensure!(
            found == expected,
            "{}: the gateway counted {found:?}, expected {expected:?}",
            case.name
        );
        Ok(total.as_nanos() as f64 / f64::from(calls))
    }

    /// Spends what the slow session may have at once, so that from now on it is policed; whether
    /// it is.
    fn spend(&mut self, cases: &[Case]) -> Result<bool> {
        let before = self.gateway.maps.reasons()?;
        for case in cases.iter().filter(|case| case.is_policed()) {
            self.arrange(case, true)?;
            self.run(case, REPEAT)?;
        }
        let after = self.gateway.maps.reasons()?;
        Ok(counted(&before, &after).any(|(reason, _)| reason.is_drop()))
    }

    /// Sets the frame, and what runs after it was put back.
    fn arrange(&mut self, case: &Case, with_gateway: bool) -> Result<()> {
        self.load.set_template(case.template())?;
        if !with_gateway {
            return self.load.set_next_to_nothing();
        }
        let program = match case.side {
            Side::Access => self.gateway.access()?,
            Side::Uplink => self.gateway.uplink()?,
        };
        self.load.set_next(program)
    }

    /// The kernel's average over so many runs.
    fn run(&mut self, case: &Case, repeat: u32) -> Result<Duration> {
        let options = TestRunOptions {
            data_in: Some(&case.frame),
            repeat,
            ..TestRunOptions::default()
        };
        Ok(self.load.program("restore")?.test_run(options)?.duration)
    }
}
