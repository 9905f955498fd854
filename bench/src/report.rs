//! The result, as JSON and as a table.

use serde::Serialize;

use crate::load::Size;
use crate::machine::Machine;
use crate::rows::{Row, ratio};
use crate::throughput::Way;
use crate::verdicts::Verdict;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub rounds: usize,
    /// Of each row in one round.
    pub packets: u32,
    pub sessions: Vec<u32>,
    pub sizes: Vec<Size>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub upstream_vs_redirect_1k: Option<f64>,
    pub downstream_vs_redirect_1k: Option<f64>,
    pub upstream_vs_redirect_1m: Option<f64>,
    pub downstream_vs_redirect_1m: Option<f64>,
    pub upstream_vs_kernel: Option<f64>,
    pub machine: Machine,
    pub settings: Settings,
    pub rows: Vec<Row>,
    pub verdicts: Vec<Verdict>,
}

impl Report {
    pub fn new(machine: Machine, settings: Settings, rows: Vec<Row>, verdicts: Vec<Verdict>) -> Self {
        let over = |sessions, a, b| ratio(&rows, sessions, a, b);
        Self {
            upstream_vs_redirect_1k: over(1_000, Way::UpstreamPoliced, Way::Redirect),
            downstream_vs_redirect_1k: over(1_000, Way::DownstreamPoliced, Way::Redirect),
            upstream_vs_redirect_1m: over(1_000_000, Way::UpstreamPoliced, Way::Redirect),
            downstream_vs_redirect_1m: over(1_000_000, Way::DownstreamPoliced, Way::Redirect),
            upstream_vs_kernel: over(1_000, Way::UpstreamPoliced, Way::Kernel),
            machine,
            settings,
            rows,
            verdicts,
        }
    }

    pub fn print(&self) {
        for row in &self.rows {
            println!(
                "{:<22}{:>6}{:>10}{:>9.3}{:>9.3}{:>9.3}{:>9.1}  {}",
                row.way.name(),
                row.size.name(),
                row.sessions,
                row.mpps,
                row.mpps_min,
                row.mpps_max,
                row.ns_per_packet,
                row.failed.as_deref().unwrap_or("")
            );
        }
        for verdict in &self.verdicts {
            println!("{:<36}{:<22}{:>8.1}{:>8.1}", verdict.case, verdict.reason, verdict.ns, verdict.ns_restore);
        }
    }
}
