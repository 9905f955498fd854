use std::cell::Cell;

use doorstep_gateway_common::account::Account;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::LineUse;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::{Policers, Rate};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineValue, OperatorIndex};

use super::*;

const SECOND: u64 = 1_000_000_000;
const SLOT: Slot = 0;

/// A clock, and one session's policers; no other map has anything in it.
#[derive(Default)]
struct World {
    now_ns: Cell<u64>,
    policers: Policers,
    globals: Globals,
}

impl World {
    fn new(bps: u64, burst_ms: u64) -> Self {
        let world = Self::default();
        world.now_ns.set(SECOND);
        world
            .policers
            .upstream
            .set(Rate::new(bps, burst_ms * 1_000_000));
        world
    }
}

impl Tables for World {
    fn globals(&self) -> &Globals {
        &self.globals
    }
    fn line(&self, _: &LineKey) -> Option<&LineValue> {
        None
    }
    fn upstream_v4(&self, _: &UpstreamV4Key) -> Option<&UpstreamValue> {
        None
    }
    fn upstream_v6(&self, _: &UpstreamV6Key) -> Option<&UpstreamValue> {
        None
    }
    fn downstream_v4(&self, _: &DownstreamV4Key) -> Option<&DownstreamValue> {
        None
    }
    fn downstream_v6(&self, _: &DownstreamV6Key) -> Option<&DownstreamValue> {
        None
    }
    fn operator(&self, _: OperatorIndex) -> Option<&OperatorValue> {
        None
    }
    fn uplink(&self, _: &UplinkKey) -> Option<&UplinkValue> {
        None
    }
    fn is_in_garden(&self, _: &GardenKey) -> bool {
        false
    }
    fn account(&self, _: Slot) -> Option<&Account> {
        None
    }
    fn policers(&self, _: Slot) -> Option<&Policers> {
        Some(&self.policers)
    }
    fn liveness(&self, _: Slot) -> Option<&Liveness> {
        None
    }
    fn line_use(&self, _: &LineKey) -> Option<&LineUse> {
        None
    }
    fn punts(&self) -> Option<&Word> {
        None
    }
    fn swap(&self, cell: &Word, old: u64, new: u64) -> bool {
        cell.swap(old, new)
    }
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }
}

/// Bytes that pass in `seconds` when packets of `bytes` come every `every_ns`, to one of `cpus` in
/// turn.
fn passed(bps: u64, bytes: u32, every_ns: u64, cpus: usize, seconds: u64) -> u64 {
    let world = World::new(bps, 20);
    let meters: Vec<_> = (0..cpus).map(|_| Meter::default()).collect();
    let mut total = 0;
    for turn in 0..seconds * SECOND / every_ns {
        world.now_ns.set(SECOND + turn * every_ns);
        let meter = &meters[turn as usize % cpus];
        if admit(&world, meter, SLOT, Direction::Upstream, bytes) {
            total += u64::from(bytes);
        }
    }
    total
}

#[test]
fn keeps_rates() {
    const SECONDS: u64 = 10;
    for bps in [1_000_000, 20_000_000, 300_000_000] {
        for bytes in [64, 700, 1500] {
            for cpus in [1, 2] {
                // Twice as much is offered.
                let every_ns = u64::from(bytes) * 8 * SECOND / bps / 2;
                let got = passed(bps, bytes, every_ns, cpus, SECONDS) as f64;
                let due = (bps / 8 * SECONDS) as f64;
                let error = got / due - 1.0;
                // At the beginning 20 ms pass at once, or two grants where that is more; at the
                // end each CPU may have a grant in hand.
                let burst = (2.0 * 9_216.0 / due).max(0.002);
                let in_hand = cpus as f64 * 9_216.0_f64.max(bps as f64 / 8_000.0) / due;
                let range = -0.001 - in_hand..0.001 + burst;
                assert!(range.contains(&error), "{bps} {bytes} {cpus}: {error}");
            }
        }
    }
}

#[test]
fn a_packet_longer_than_a_grant_passes() {
    let world = World::new(8_000_000, 100);
    let meter = Meter::default();
    assert_eq!(world.policers.upstream.rate().grant_bytes, 9_216);
    assert!(admit(&world, &meter, SLOT, Direction::Upstream, 20_000));
    let credit = meter.credit.get();
    assert_eq!(credit, 3 * 9_216 - 20_000);
}

#[test]
fn without_a_rate_everything_passes() {
    let world = World::new(0, 0);
    let meter = Meter::default();
    for _ in 0..1000 {
        assert!(admit(&world, &meter, SLOT, Direction::Upstream, 1500));
    }
}

#[test]
fn a_shaper_spaces_packets() {
    let world = World::new(12_000_000, 10);
    let times: Vec<_> = std::iter::from_fn(|| departure(&world, &world.policers.upstream, 1500))
        .take(100)
        .collect();
    // 1500 bytes take a millisecond. Those that would have to wait more than the depth, which is
    // two grants at least, are refused.
    let depth_ns = world.policers.upstream.rate().depth_ns;
    assert_eq!(times.len() as u64, depth_ns / 1_000_000 + 1);
    for (i, at) in times.iter().enumerate() {
        assert_eq!(*at, SECOND + i as u64 * 1_000_000);
    }
}

#[test]
fn events_have_their_pace() {
    let pace = Pace::per_second(100, 10);
    let world = World::new(0, 0);
    let used = Word::new(0);
    let burst = (0..50).filter(|_| event(&world, &used, pace)).count();
    assert_eq!(burst, 10);
    let later = (1..=50u64).filter(|ms| {
        world.now_ns.set(SECOND + ms * 1_000_000);
        event(&world, &used, pace)
    });
    assert_eq!(later.count(), 5, "one every ten milliseconds");
    assert!(event(&world, &used, Pace::default()), "no limit");
}
