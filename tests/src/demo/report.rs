//! What the demonstration measured.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Counters of a session, as in its receipt.
#[derive(Clone, Copy, Debug, Default, Serialize, serde::Deserialize)]
pub struct Counters {
    pub upstream_packets: u64,
    pub upstream_bytes: u64,
    pub downstream_packets: u64,
    pub downstream_bytes: u64,
}

/// The report's JSON. Times are in milliseconds; packets are those of all gateways together,
/// unless the name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub kernel: String,
    /// `host` or `vm`.
    #[serde(rename = "where")]
    pub place: &'static str,
    pub ok: bool,
    /// From the request to the first answer from the internet.
    pub connect_ms: f64,
    /// From the last answer through gateway 1 to the first through gateway 2.
    pub move_outage_ms: f64,
    pub move_pings_sent: usize,
    pub move_pings_lost: usize,
    /// Lost pings that were sent outside the outage.
    pub move_pings_lost_unexplained: usize,
    pub download_bytes: u64,
    /// Slowest of the downloads.
    pub download_mbps: f64,
    /// Packets of the downloads, as the gateways counted them.
    pub xdp_packets_upstream: u64,
    pub xdp_packets_downstream: u64,
    pub kernel_path_packets: u64,
    /// Share of the downloads' packets that XDP forwarded.
    pub xdp_share: f64,
    /// Of the home with an ordinary router: from the router's start to the first answer from the
    /// internet. None where homes tag for themselves.
    pub plain_connect_ms: Option<f64>,
    /// From the operator's word, with the cable in the other building, to the first answer.
    pub plain_move_ms: Option<f64>,
    pub gateway1_packets_after_receipt: u64,
    pub gateway1_final_counters: Counters,
}

impl Report {
    pub fn new(place: &'static str) -> Self {
        let kernel = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Self {
            kernel,
            place,
            ok: false,
            connect_ms: 0.0,
            move_outage_ms: 0.0,
            move_pings_sent: 0,
            move_pings_lost: 0,
            move_pings_lost_unexplained: 0,
            download_bytes: 0,
            download_mbps: 0.0,
            xdp_packets_upstream: 0,
            xdp_packets_downstream: 0,
            kernel_path_packets: 0,
            xdp_share: 0.0,
            plain_connect_ms: None,
            plain_move_ms: None,
            gateway1_packets_after_receipt: 0,
            gateway1_final_counters: Counters::default(),
        }
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The figures that a person wants to see.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let plain = self.plain_connect_ms.zip(self.plain_move_ms);
        let plain = plain.map(|(connect, moved)| {
            let figures = format!("{connect:.0} ms to connect, {moved:.0} ms to move");
            ("an ordinary router", figures)
        });
        let lines = vec![
            ("kernel", format!("{} ({})", self.kernel, self.place)),
            ("connected after", format!("{:.0} ms", self.connect_ms)),
            (
                "outage of the move",
                format!("{:.0} ms", self.move_outage_ms),
            ),
            (
                "pings across the move",
                format!(
                    "{} sent, {} lost",
                    self.move_pings_sent, self.move_pings_lost
                ),
            ),
            ("download", format!("{:.0} Mbit/s", self.download_mbps)),
            (
                "of its packets through XDP",
                format!("{:.3} %", self.xdp_share * 100.0),
            ),
            (
                "gateway 1 forwarded after receipts",
                format!("{} packets", self.gateway1_packets_after_receipt),
            ),
        ];
        lines.into_iter().chain(plain).collect()
    }
}
