//! How much goes through gateways, by what they count of their sessions: a short ring of samples in
//! memory, kept only where somebody may look at it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;

use uuid::Uuid;

use super::lock;
use crate::store::Counters;

/// What one sample is of, in milliseconds: gateways report about as often.
pub const SAMPLE_MS: i64 = 10_000;
/// Samples kept of a gateway: a quarter of an hour.
pub const SAMPLES: usize = 90;

/// Between two reports, in all. Bytes and packets, from homes and to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it began, Unix milliseconds, a multiple of [`SAMPLE_MS`].
    pub at_ms: i64,
    pub upstream_bytes: f64,
    pub downstream_bytes: f64,
    /// Packets that were faster than their sessions may be, and so dropped.
    pub dropped_packets: f64,
}

/// Traffic by gateway; of nobody unless it was switched on.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<Option<HashMap<String, Flow>>>);

#[derive(Debug, Default)]
struct Flow {
    /// What was last said of each session, and when.
    last: HashMap<Uuid, (i64, u64, Counters)>,
    samples: VecDeque<Sample>,
}

impl Traffic {
    /// From now on what gateways say is kept.
    pub fn keep(&self) {
        lock(&self.0).get_or_insert_default();
    }

    /// Takes a gateway's report: sessions with generation and counters.
    pub fn take(&self, gateway: &str, reports: &[(Uuid, u64, Counters)], at_ms: i64) {
        if let Some(flows) = &mut *lock(&self.0) {
            let flow = flows.entry(gateway.to_owned()).or_default();
            flow.take(reports, at_ms);
        }
    }

    /// These have ended.
    pub fn forget(&self, gateway: &str, sessions: impl Iterator<Item = Uuid>) {
        if let Some(flow) = lock(&self.0).as_mut().and_then(|all| all.get_mut(gateway)) {
            for session in sessions {
                flow.last.remove(&session);
            }
        }
    }

    /// The samples of a gateway, the oldest first, without a gap up to the last one that is over.
    pub fn of(&self, gateway: &str, now_ms: i64) -> Vec<Sample> {
        let flows = lock(&self.0);
        let Some(flow) = flows.as_ref().and_then(|flows| flows.get(gateway)) else {
            return Vec::new();
        };
        flow.samples(now_ms)
    }
}

impl Flow {
    fn take(&mut self, reports: &[(Uuid, u64, Counters)], at_ms: i64) {
        // Sessions are mostly reported together, so that there are one or two of these.
        let mut grown: BTreeMap<i64, Sample> = BTreeMap::new();
        for (session, generation, counters) in reports {
            let said = (at_ms, *generation, *counters);
            let Some((from_ms, former, before)) = self.last.insert(*session, said) else {
                continue;
            };
            // Under another generation a gateway counts from zero.
            let before = if former == *generation {
                before
            } else {
                Counters::default()
            };
            let sum = grown.entry(from_ms).or_default();
            sum.upstream_bytes += growth(before.upstream_bytes, counters.upstream_bytes);
            sum.downstream_bytes += growth(before.downstream_bytes, counters.downstream_bytes);
            sum.dropped_packets += growth(before.upstream_policed, counters.upstream_policed)
                + growth(before.downstream_policed, counters.downstream_policed);
        }
        for (from_ms, sum) in grown {
            self.spread(from_ms, at_ms, sum);
        }
    }

    /// Adds what has grown evenly over the time in which it has.
    fn spread(&mut self, from_ms: i64, to_ms: i64, sum: Sample) {
        let oldest = to_ms - to_ms.rem_euclid(SAMPLE_MS) - SAMPLE_MS * (SAMPLES as i64 - 1);
        let length = (to_ms - from_ms).max(1);
        let mut at_ms = from_ms.max(oldest);
        at_ms -= at_ms.rem_euclid(SAMPLE_MS);
        while at_ms < to_ms {
            let overlap = to_ms.min(at_ms + SAMPLE_MS) - from_ms.max(at_ms);
            let part = as_f64(overlap) / as_f64(length);
            if let Some(sample) = self.sample(at_ms) {
                sample.upstream_bytes += sum.upstream_bytes * part;
                sample.downstream_bytes += sum.downstream_bytes * part;
                sample.dropped_packets += sum.dropped_packets * part;
            }
            at_ms += SAMPLE_MS;
        }
    }

    /// The sample that begins then; none, if it is too old to be kept.
    fn sample(&mut self, at_ms: i64) -> Option<&mut Sample> {
        let empty = |at_ms| Sample {
            at_ms,
            ..Sample::default()
        };
        match self.samples.back() {
            // Too long ago for anything between to be worth a row.
            Some(last) if at_ms - last.at_ms > SAMPLE_MS * SAMPLES as i64 => self.samples.clear(),
            _ => {}
        }
        let Some(first) = self.samples.front().map(|first| first.at_ms) else {
            self.samples.push_back(empty(at_ms));
            return self.samples.back_mut();
        };
        if at_ms < first {
            return None;
        }
        while let Some(last) = self.samples.back().map(|last| last.at_ms)
            && last < at_ms
        {
            self.samples.push_back(empty(last + SAMPLE_MS));
        }
        while self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
        self.samples
            .iter_mut()
            .rev()
            .find(|sample| sample.at_ms == at_ms)
    }

    fn samples(&self, now_ms: i64) -> Vec<Sample> {
        // What is reported up to now may still be on its way.
        let newest = now_ms - now_ms.rem_euclid(SAMPLE_MS) - 2 * SAMPLE_MS;
        let oldest = newest - SAMPLE_MS * (SAMPLES as i64 - 1);
        let Some(first) = self.samples.front() else {
            return Vec::new();
        };
        let mut all = Vec::with_capacity(SAMPLES);
        let mut at_ms = first.at_ms.max(oldest);
        while at_ms <= newest {
            let kept = self.samples.iter().find(|sample| sample.at_ms == at_ms);
            all.push(kept.copied().unwrap_or(Sample {
                at_ms,
                ..Sample::default()
            }));
            at_ms += SAMPLE_MS;
        }
        all
    }
}

/// A gateway that begins anew counts from zero.
#[expect(
    clippy::cast_precision_loss,
    reason = "what grows within seconds has far fewer than 52 bits"
)]
fn growth(before: u64, now: u64) -> f64 {
    now.checked_sub(before).unwrap_or(now) as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "spans of time have far fewer than 52 bits"
)]
fn as_f64(ms: i64) -> f64 {
    ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Uuid = Uuid::from_u128(1);
    const START: i64 = 1_700_000_000_000;

    fn report(generation: u64, bytes: u64, policed: u64) -> [(Uuid, u64, Counters); 1] {
        let counters = Counters {
            upstream_bytes: bytes,
            downstream_policed: policed,
            ..Counters::default()
        };
        [(SESSION, generation, counters)]
    }

    fn upstream(traffic: &Traffic, now_ms: i64) -> Vec<f64> {
        let samples = traffic.of("gw1", now_ms);
        samples.iter().map(|sample| sample.upstream_bytes).collect()
    }

    #[test]
    fn growth_is_spread_over_its_time() {
        let traffic = Traffic::default();
        traffic.keep();
        // What was counted before is nobody's to place.
        traffic.take("gw1", &report(1, 5000, 0), START + 5_000);
        traffic.take("gw1", &report(1, 6000, 4), START + 15_000);
        traffic.take("gw1", &report(1, 8000, 4), START + 25_000);
        assert_eq!(upstream(&traffic, START + 40_000), [500.0, 1500.0, 1000.0]);
        let samples = traffic.of("gw1", START + 40_000);
        let dropped: Vec<_> = samples
            .iter()
            .map(|sample| sample.dropped_packets)
            .collect();
        assert_eq!(dropped, [2.0, 2.0, 0.0]);
        // Silence is nothing, not a gap.
        assert_eq!(
            upstream(&traffic, START + 60_000),
            [500.0, 1500.0, 1000.0, 0.0, 0.0]
        );
        assert_eq!(traffic.of("gw2", START + 60_000), []);
    }

    #[test]
    fn counting_begins_anew_with_a_generation() {
        let traffic = Traffic::default();
        traffic.keep();
        traffic.take("gw1", &report(1, 5000, 0), START);
        traffic.take("gw1", &report(3, 700, 0), START + 10_000);
        traffic.take("gw1", &report(3, 100, 0), START + 20_000);
        assert_eq!(upstream(&traffic, START + 40_000), [700.0, 100.0, 0.0]);
    }

    #[test]
    fn the_ring_stays_short() {
        let traffic = Traffic::default();
        traffic.keep();
        let mut at_ms = START;
        for bytes in 0..500 {
            traffic.take("gw1", &report(1, bytes * 10, 0), at_ms);
            at_ms += SAMPLE_MS;
        }
        let kept = upstream(&traffic, at_ms);
        assert_eq!(kept.len(), SAMPLES);
        assert!(kept[..SAMPLES - 1].iter().all(|bytes| *bytes == 10.0));
        // After a night of silence nothing of it is left.
        traffic.take("gw1", &report(1, 10_000, 0), at_ms + 36_000_000);
        let flows = lock(&traffic.0);
        assert!(flows.as_ref().unwrap()["gw1"].samples.len() <= SAMPLES);
    }

    #[test]
    fn nothing_is_kept_unless_somebody_looks() {
        let traffic = Traffic::default();
        traffic.take("gw1", &report(1, 5000, 0), START);
        traffic.take("gw1", &report(1, 6000, 0), START + 10_000);
        assert_eq!(traffic.of("gw1", START + 40_000), []);
        assert!(lock(&traffic.0).is_none());
    }
}
