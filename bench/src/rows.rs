//! Rows of the throughput table: medians over rounds, and what was lost.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Size;
use crate::throughput::{Key, Measured, Way};

/// A larger part of the packets lost makes a row worth nothing.
const TOLERATED_LOSS: f64 = 0.001;

/// One row: one way, one size, one number of sessions.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub way: Way,
    /// Frame size in bytes with the check sequence, or `imix`.
    pub size: Size,
    pub sessions: u32,
    /// Median over the rounds, millions of packets per second.
    pub mpps: f64,
    /// The slowest and the fastest round.
    pub mpps_min: f64,
    pub mpps_max: f64,
    /// 1000 / `mpps`, nanoseconds of the one CPU for all of generator, gateway and sink.
    pub ns_per_packet: f64,
    /// Every round, in the order of measuring.
    pub rounds: Vec<f64>,
    /// Packets over all rounds.
    pub generated: u64,
    pub arrived: u64,
    /// Bytes of a frame where it arrived, without the check sequence, on average.
    pub arrived_bytes_per_packet: f64,
    /// Packets that the gateway counted, by reason.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Generated packets that neither arrived nor were dropped by name.
    pub unexplained: u64,
    /// Why the row must not be used.
    pub failed: Option<String>,
}

impl Row {
    pub fn of(key: Key, measured: &[Measured]) -> Self {
        let rounds: Vec<f64> = measured.iter().map(Measured::mpps).collect();
        let sum = |value: fn(&Measured) -> u64| measured.iter().map(value).sum::<u64>();
        let generated = sum(|one| one.generated);
        let arrived = sum(|one| one.sent.seen.packets);
        let bytes = sum(|one| one.sent.seen.bytes);
        let mut reasons = BTreeMap::new();
        let mut dropped = 0;
        for (reason, count) in measured.iter().flat_map(|one| &one.reasons) {
            *reasons.entry(reason.name()).or_insert(0) += count;
            if reason.is_drop() {
                dropped += count;
            }
        }
        let lost = generated.saturating_sub(arrived);
        let failed = (lost as f64 > generated as f64 * TOLERATED_LOSS).then(|| {
            format!("{lost} of {generated} packets did not arrive; the gateway counted {reasons:?}")
        });
        let mpps = median(&rounds);
        Self {
            way: key.way,
            size: key.size,
            sessions: key.sessions,
            mpps,
            mpps_min: rounds.iter().copied().fold(f64::INFINITY, f64::min),
            mpps_max: rounds.iter().copied().fold(0.0, f64::max),
            ns_per_packet: 1000.0 / mpps,
            rounds,
            generated,
            arrived,
            arrived_bytes_per_packet: bytes as f64 / arrived.max(1) as f64,
            reasons,
            unexplained: lost.saturating_sub(dropped),
            failed,
        }
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// `a` over `b`, packets per second; none where one was not measured or failed.
pub fn ratio(rows: &[Row], size: Size, sessions: u32, a: Way, b: Way) -> Option<f64> {
    paired(
        usable(rows, size, sessions, a)?,
        usable(rows, size, sessions, b)?,
    )
}

/// What a small packet costs with more sessions over what it costs with fewer.
pub fn cost_ratio(rows: &[Row], way: Way, more: u32, fewer: u32) -> Option<f64> {
    paired(
        usable(rows, Size::Small, fewer, way)?,
        usable(rows, Size::Small, more, way)?,
    )
}

/// The median of the rounds' own ratios: what slows the machine for some seconds hits both rows of
/// a round.
fn paired(a: &Row, b: &Row) -> Option<f64> {
    let ratios: Vec<f64> = a.rounds.iter().zip(&b.rounds).map(|(a, b)| a / b).collect();
    (!ratios.is_empty()).then(|| median(&ratios))
}

fn usable(rows: &[Row], size: Size, sessions: u32, way: Way) -> Option<&Row> {
    rows.iter()
        .find(|row| row.way == way && row.sessions == sessions && row.size == size)
        .filter(|row| row.failed.is_none())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use doorstep_gateway_common::Reason;

    use super::*;
    use crate::load::Sent;
    use crate::shared::Seen;

    fn measured(arrived: u64, ms: u64) -> Measured {
        Measured {
            generated: 10_000,
            sent: Sent {
                took: Duration::from_millis(ms),
                seen: Seen {
                    packets: arrived,
                    bytes: arrived * 52,
                },
            },
            reasons: vec![
                (Reason::ForwardedUpstream, arrived),
                (Reason::MacNotBound, (10_000 - arrived) / 2),
            ],
        }
    }

    fn row(way: Way, rounds: &[Measured]) -> Row {
        let key = Key {
            size: Size::Small,
            sessions: 1_000,
            way,
        };
        Row::of(key, rounds)
    }

    #[test]
    fn the_median_is_the_middle() {
        for (values, expected) in [
            (&[3.0][..], 3.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 9.0], 3.0),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_row_with_losses_is_not_used() {
        let whole = row(Way::Redirect, &[10, 5, 20].map(|ms| measured(10_000, ms)));
        assert_eq!(
            (whole.mpps, whole.mpps_min, whole.mpps_max),
            (1.0, 0.5, 2.0)
        );
        assert_eq!(whole.arrived_bytes_per_packet, 52.0);
        let few = row(Way::Upstream, &[measured(9_990, 20)]);
        assert_eq!(few.failed, None);
        let many = row(Way::Downstream, &[measured(9_980, 20)]);
        assert_eq!((many.reasons["mac_not_bound"], many.unexplained), (10, 10));
        let why = many.failed.as_deref().expect("failed");
        assert!(why.contains("20 of 10000"), "{why}");
        let rows = [whole, few, many];
        let over = |way| ratio(&rows, Size::Small, 1_000, way, Way::Redirect);
        assert_eq!(over(Way::Upstream), Some(0.4995));
        assert_eq!(over(Way::Downstream), None);
        assert_eq!(over(Way::Kernel), None);
    }

    #[test]
    fn ratios_are_made_round_by_round() {
        // The machine was slow in the second and third round.
        let a = row(Way::Upstream, &[20, 80, 90].map(|ms| measured(10_000, ms)));
        let b = row(Way::Redirect, &[10, 40, 10].map(|ms| measured(10_000, ms)));
        let rows = [a, b];
        let found = ratio(&rows, Size::Small, 1_000, Way::Upstream, Way::Redirect);
        assert_eq!(found, Some(0.5));
    }
}
