//! The result as JSON. `docs/performance.md` explains every field.

use serde::Serialize;

use crate::kernel::LinuxPath;
use crate::load::{BATCH, Size};
use crate::machine::Machine;
use crate::rows::{Row, cost_ratio, ratio};
use crate::sessions::Sessions;
use crate::throughput::Way;
use crate::verdicts::{self, Verdict};

/// Of this structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 1;

const THOUSAND: u32 = 1_000;
const MILLION: u32 = 1_000_000;

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub rounds: usize,
    /// Of each row in one round.
    pub packets: u32,
    pub sessions: Vec<u32>,
    pub sizes: Vec<Size>,
    /// Sessions that are opened through the daemon's code.
    pub control_sessions: u32,
    /// Sessions that are closed through it.
    pub receipts: usize,
}

/// How it is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    /// The helper by which the gateway and the bare redirect send.
    redirect_helper: &'static str,
    /// Frames that the kernel generates at a time.
    batch: u32,
    frames: &'static str,
    imix: &'static str,
    throughput: &'static str,
}

impl Method {
    const NOW: Self = Self {
        redirect_helper: "bpf_redirect",
        batch: BATCH,
        frames: "IPv4 UDP, all headers written anew for each frame; two tags from the lines, \
                 none from the world",
        imix: "frame by frame, at random, 7:4:1 of 64, 594 and 1518 bytes (bpf_xdp_adjust_tail)",
        throughput: "packets that arrived over the wall time from the first frame made to the last; \
                     generator, gateway and sink on one CPU",
    };
}

/// Ratios between rows of one size and number of sessions.
#[derive(Clone, Debug, Serialize)]
pub struct Ratios {
    pub size: Size,
    pub sessions: u32,
    pub upstream_vs_redirect: Option<f64>,
    pub downstream_vs_redirect: Option<f64>,
    pub upstream_policed_vs_redirect: Option<f64>,
    pub downstream_policed_vs_redirect: Option<f64>,
    pub upstream_policed_vs_kernel: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    /// 64-byte frames, policed, over the bare redirect with as many sessions.
    pub upstream_vs_redirect_1k: Option<f64>,
    pub downstream_vs_redirect_1k: Option<f64>,
    pub upstream_vs_redirect_1m: Option<f64>,
    pub downstream_vs_redirect_1m: Option<f64>,
    /// 64-byte frames, policed, 1,000 sessions, over Linux without us.
    pub upstream_vs_kernel: Option<f64>,
    /// A packet's time with 1,000,000 sessions over its time with 1,000; 64 bytes, policed.
    pub upstream_cost_1m_vs_1k: Option<f64>,
    pub downstream_cost_1m_vs_1k: Option<f64>,
    /// Dual-stack sessions per second, one plan applied at one go.
    pub sessions_per_s: f64,
    /// Bytes of the gateway's maps over the sessions that they are made for.
    pub kernel_bytes_per_session: f64,
    /// 99th percentile of closing a session, microseconds.
    pub receipt_us_p99: f64,
    /// Whether the gateway's programs police. If not, the policed rows are like the others.
    pub gateway_polices: bool,
    pub machine: Machine,
    pub settings: Settings,
    pub method: Method,
    pub linux_path: LinuxPath,
    pub rows: Vec<Row>,
    pub ratios: Vec<Ratios>,
    pub verdicts: Vec<Verdict>,
    pub control: Sessions,
}

/// What the parts of a run found.
pub struct Found {
    pub machine: Machine,
    pub settings: Settings,
    pub linux_path: LinuxPath,
    pub rows: Vec<Row>,
    pub verdicts: verdicts::Found,
    pub control: Sessions,
}

impl Report {
    pub fn new(found: Found) -> Self {
        let rows = &found.rows;
        let over = |sessions, a, b| ratio(rows, Size::Small, sessions, a, b);
        let cost = |way| cost_ratio(rows, way, MILLION, THOUSAND);
        let (up, down) = (Way::UpstreamPoliced, Way::DownstreamPoliced);
        Self {
            schema: SCHEMA,
            upstream_vs_redirect_1k: over(THOUSAND, up, Way::Redirect),
            downstream_vs_redirect_1k: over(THOUSAND, down, Way::Redirect),
            upstream_vs_redirect_1m: over(MILLION, up, Way::Redirect),
            downstream_vs_redirect_1m: over(MILLION, down, Way::Redirect),
            upstream_vs_kernel: over(THOUSAND, up, Way::Kernel),
            upstream_cost_1m_vs_1k: cost(up),
            downstream_cost_1m_vs_1k: cost(down),
            sessions_per_s: found.control.sessions_per_s,
            kernel_bytes_per_session: found.control.memory.bytes_per_session,
            receipt_us_p99: found.control.receipt.us_p99,
            ratios: ratios(rows, &found.settings),
            gateway_polices: found.verdicts.polices,
            machine: found.machine,
            settings: found.settings,
            method: Method::NOW,
            linux_path: found.linux_path,
            rows: found.rows,
            verdicts: found.verdicts.verdicts,
            control: found.control,
        }
    }

    /// Rows that must not be used.
    pub fn failed(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.rows
            .iter()
            .filter_map(|row| Some((row, row.failed.as_deref()?)))
    }
}

fn ratios(rows: &[Row], settings: &Settings) -> Vec<Ratios> {
    let mut ratios = Vec::new();
    for &size in &settings.sizes {
        for &sessions in &settings.sessions {
            let over = |a, b| ratio(rows, size, sessions, a, b);
            ratios.push(Ratios {
                size,
                sessions,
                upstream_vs_redirect: over(Way::Upstream, Way::Redirect),
                downstream_vs_redirect: over(Way::Downstream, Way::Redirect),
                upstream_policed_vs_redirect: over(Way::UpstreamPoliced, Way::Redirect),
                downstream_policed_vs_redirect: over(Way::DownstreamPoliced, Way::Redirect),
                upstream_policed_vs_kernel: over(Way::UpstreamPoliced, Way::Kernel),
            });
        }
    }
    ratios
}
