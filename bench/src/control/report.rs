//! The result as JSON. `docs/performance.md` explains every field.

use std::collections::BTreeMap;

use nix::unistd::Uid;
use serde::Serialize;

use super::acks::Acks;
use super::database::Kind;
use super::kill9::Kills;
use super::moves::{Latency, Peak};
use super::overload::Overload;
use super::population::Populated;
use super::streams::{Back, Up};
use crate::machine::Machine;
use crate::program;

/// Of this structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 2;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub databases: Vec<Kind>,
    pub gateways: u32,
    pub subscribers: u32,
    /// Of a measurement of moves.
    pub seconds: u32,
    pub in_flight: usize,
    /// Null: half of the peak.
    pub offered_per_s: Option<u32>,
    /// That all terminals share.
    pub connections: usize,
    pub kills: u32,
    pub kill_gateways: u32,
    pub kill_subscribers: u32,
    /// Threads of the load.
    pub threads: usize,
    /// Beside `fsync=on`.
    pub postgres_settings: Vec<String>,
}

/// What was found on one database.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    pub streams: Up,
    pub population: Populated,
    pub peak: Peak,
    pub latency: Latency,
    pub overload: Overload,
    pub acks: Acks,
    pub restart: Back,
    /// Sessions that two gateways forwarded at once, in all of the above.
    pub doubled: u64,
    /// Instructions that gateways refused, in all of the above.
    pub refused: u64,
    pub kill9: Option<Kills>,
}

impl Found {
    /// Whether nothing was lost, doubled or refused.
    fn holds(&self) -> bool {
        let nothing = self.doubled == 0
            && self.peak.failed == 0
            && self.latency.failed == 0
            && self.overload.failed == 0;
        let killed = self.kill9.as_ref();
        nothing && killed.is_none_or(|kills| kills.lost == 0 && kills.doubled == 0)
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub moves_per_s_postgres: Option<f64>,
    pub moves_per_s_sqlite: Option<f64>,
    pub move_p99_ms_postgres: Option<f64>,
    pub move_p99_ms_sqlite: Option<f64>,
    pub streams: u32,
    /// Of the peak, with ten times as many clients. Of the databases that were measured the worse,
    /// here and below.
    pub overload_of_peak: Option<f64>,
    pub streams_up_s: Option<f64>,
    pub bytes_per_stream: Option<f64>,
    pub acks_per_s: Option<f64>,
    pub restart_back_s: Option<f64>,
    /// As root only.
    pub program_100k_s: Option<f64>,
    /// Why a figure above is null.
    pub not_measured: BTreeMap<&'static str, String>,
    /// Whether nothing was lost, doubled or refused.
    pub holds: bool,
    pub machine: Machine,
    pub settings: Settings,
    pub databases: BTreeMap<Kind, Found>,
}

impl Report {
    pub fn new(machine: Machine, settings: Settings, databases: BTreeMap<Kind, Found>) -> Self {
        let of = |kind, figure: fn(&Found) -> Option<f64>| databases.get(&kind).and_then(figure);
        let all = |figure: fn(&Found) -> f64| databases.values().map(figure);
        let peak = |found: &Found| Some(found.peak.moves_per_s);
        let p99 = |found: &Found| found.latency.ms_p99;
        let most = |figure| all(figure).max_by(f64::total_cmp);
        let program_100k = program_100k_s();
        let mut report = Self {
            schema: SCHEMA,
            moves_per_s_postgres: of(Kind::Postgres, peak),
            moves_per_s_sqlite: of(Kind::Sqlite, peak),
            move_p99_ms_postgres: of(Kind::Postgres, p99),
            move_p99_ms_sqlite: of(Kind::Sqlite, p99),
            streams: settings.gateways,
            overload_of_peak: all(|found| found.overload.of_peak).min_by(f64::total_cmp),
            streams_up_s: most(|found| found.streams.up_s),
            bytes_per_stream: most(|found| found.streams.bytes_per_stream),
            acks_per_s: all(|found| found.acks.acks_per_s).min_by(f64::total_cmp),
            restart_back_s: most(|found| found.restart.back_s),
            program_100k_s: program_100k.as_ref().ok().copied(),
            not_measured: BTreeMap::new(),
            holds: databases.values().all(Found::holds),
            machine,
            settings,
            databases,
        };
        report.not_measured = report.reasons();
        if let Err(why) = program_100k {
            report.not_measured.insert("program_100k_s", why);
        }
        report
    }

    fn reasons(&self) -> BTreeMap<&'static str, String> {
        let mut reasons = BTreeMap::new();
        let fields = [
            ("moves_per_s_postgres", self.moves_per_s_postgres),
            ("moves_per_s_sqlite", self.moves_per_s_sqlite),
            ("move_p99_ms_postgres", self.move_p99_ms_postgres),
            ("move_p99_ms_sqlite", self.move_p99_ms_sqlite),
        ];
        for (field, figure) in fields {
            if figure.is_none() {
                reasons.insert(field, "--databases leaves this one out".to_owned());
            }
        }
        reasons
    }
}

/// A real gateway with 100,000 sessions, from the server's first Connect to the last Ack, and from
/// its journal to every row in its maps, in seconds; or why that could not be measured. The same as
/// `doorstep-bench program`.
fn program_100k_s() -> Result<f64, String> {
    if !Uid::effective().is_root() {
        return Err("a real gateway's maps need root".to_owned());
    }
    match program::measure(program::BINDINGS) {
        Ok(program) => Ok(program.seconds),
        Err(error) => Err(format!("it failed: {error:#}")),
    }
}
