//! Which slots of the counter maps are free.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use doorstep_gateway_common::Slot;

/// How long a freed slot rests, so that a packet still on its way is not counted for another.
pub const REST: Duration = Duration::from_secs(10);

/// Hands out slots, the lowest first.
#[derive(Debug)]
pub struct Slots {
    max: u32,
    /// Slots from here on were never handed out.
    fresh: Slot,
    free: BTreeSet<Slot>,
    /// Freed slots in the order of the times at which their rest ends.
    resting: VecDeque<(Instant, Slot)>,
}

impl Slots {
    /// `held` belong to sessions; `warm` do not, but the fast path has just used them.
    pub fn new(
        max: u32,
        held: &BTreeSet<Slot>,
        warm: impl IntoIterator<Item = Slot>,
        now: Instant,
    ) -> Self {
        let warm: BTreeSet<Slot> = warm
            .into_iter()
            .filter(|slot| *slot < max && !held.contains(slot))
            .collect();
        let fresh = held
            .union(&warm)
            .copied()
            .filter(|slot| *slot < max)
            .last()
            .map_or(0, |slot| slot + 1);
        let free = (0..fresh)
            .filter(|slot| !held.contains(slot) && !warm.contains(slot))
            .collect();
        Self {
            max,
            fresh,
            free,
            resting: warm.into_iter().map(|slot| (now + REST, slot)).collect(),
        }
    }

    /// A slot, unless all are taken or rest.
    pub fn take(&mut self, now: Instant) -> Option<Slot> {
        while let Some(&(until, slot)) = self.resting.front() {
            if until > now {
                break;
            }
            self.resting.pop_front();
            self.free.insert(slot);
        }
        if let Some(slot) = self.free.pop_first() {
            return Some(slot);
        }
        let slot = (self.fresh < self.max).then_some(self.fresh)?;
        self.fresh += 1;
        Some(slot)
    }

    /// Gives a slot back.
    pub fn free(&mut self, slot: Slot, now: Instant) {
        // A slot from a time when max_sessions was larger goes away with its session.
        if slot < self.max {
            self.resting.push_back((now + REST, slot));
        }
    }

    /// How many are taken or rest.
    pub fn used(&self) -> u32 {
        self.fresh - u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_rests() {
        let now = Instant::now();
        let mut slots = Slots::new(2, &BTreeSet::new(), [], now);
        assert_eq!(slots.take(now), Some(0));
        assert_eq!(slots.take(now), Some(1));
        assert_eq!(slots.take(now), None);
        slots.free(0, now);
        assert_eq!(slots.take(now + REST - Duration::from_millis(1)), None);
        assert_eq!(slots.take(now + REST), Some(0));
        assert_eq!(slots.used(), 2);
    }

    #[test]
    fn after_a_restart_held_ones_are_taken_and_warm_ones_rest() {
        let now = Instant::now();
        let mut slots = Slots::new(5, &BTreeSet::from([1, 3]), [2, 3, 9], now);
        assert_eq!(slots.take(now), Some(0));
        assert_eq!(slots.take(now), Some(4));
        assert_eq!(slots.take(now), None);
        assert_eq!(slots.take(now + REST), Some(2));
        assert_eq!(slots.take(now + REST), None);
    }

    #[test]
    fn a_slot_beyond_a_smaller_maximum_is_not_handed_out_again() {
        let now = Instant::now();
        let mut slots = Slots::new(1, &BTreeSet::from([7]), [], now);
        slots.free(7, now);
        assert_eq!(slots.take(now + REST), Some(0));
        assert_eq!(slots.take(now + REST), None);
    }
}
