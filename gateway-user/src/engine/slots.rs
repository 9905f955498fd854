//! Which slots of `ACCOUNTS` and `POLICERS` are free.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use doorstep_gateway_common::Slot;

/// How long a freed slot rests, so that a packet still on its way is not counted for another.
pub const REST: Duration = Duration::from_secs(10);

/// Hands out slots: the one that is near, or else the lowest.
#[derive(Clone, Debug)]
pub struct Slots {
    /// By slot, whether it is taken or rests.
    taken: Vec<bool>,
    used: u32,
    /// So many may be.
    max: u32,
    /// All below are taken.
    lowest: usize,
    /// Freed slots in the order of the times at which their rest ends.
    resting: VecDeque<(Instant, Slot)>,
}

impl Slots {
    /// Of the slots below `range`, `max` at a time. `held` belong to sessions; `warm` do not, but the fast path has just used them.
    pub fn new(
        range: Slot,
        max: u32,
        held: &BTreeSet<Slot>,
        warm: impl IntoIterator<Item = Slot>,
        now: Instant,
    ) -> Self {
        let mut slots = Self {
            taken: vec![false; range as usize],
            used: 0,
            max,
            lowest: 0,
            resting: VecDeque::new(),
        };
        for slot in held {
            slots.mark(*slot);
        }
        for slot in warm {
            if slots.mark(slot) {
                slots.resting.push_back((now + REST, slot));
            }
        }
        slots
    }

    /// A slot, unless all are taken or rest. If `near` is free, it is that one.
    pub fn take(&mut self, near: Option<Slot>, now: Instant) -> Option<Slot> {
        while let Some(&(until, slot)) = self.resting.front() {
            if until > now {
                break;
            }
            self.resting.pop_front();
            self.taken[slot as usize] = false;
            self.used -= 1;
            self.lowest = self.lowest.min(slot as usize);
        }
        if self.used >= self.max {
            return None;
        }
        if let Some(near) = near
            && self.mark(near)
        {
            return Some(near);
        }
        let free = self.taken[self.lowest..].iter().position(|taken| !taken);
        self.lowest = free.map_or(self.taken.len(), |free| self.lowest + free);
        let slot = Slot::try_from(self.lowest).ok()?;
        self.mark(slot).then_some(slot)
    }

    /// Gives a slot back.
    pub fn free(&mut self, slot: Slot, now: Instant) {
        // A slot from a time when max_sessions was larger goes away with its session.
        if (slot as usize) < self.taken.len() {
            self.resting.push_back((now + REST, slot));
        }
    }

    /// How many are taken or rest.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Takes a slot, however many are taken; false if it is none, or not free.
    fn mark(&mut self, slot: Slot) -> bool {
        match self.taken.get_mut(slot as usize) {
            Some(taken) if !*taken => {
                *taken = true;
                self.used += 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_rests() {
        let now = Instant::now();
        let mut slots = Slots::new(2, 2, &BTreeSet::new(), [], now);
        assert_eq!(slots.take(None, now), Some(0));
        assert_eq!(slots.take(None, now), Some(1));
        assert_eq!(slots.take(None, now), None);
        slots.free(0, now);
        assert_eq!(
            slots.take(None, now + REST - Duration::from_millis(1)),
            None
        );
        assert_eq!(slots.take(None, now + REST), Some(0));
        assert_eq!(slots.used(), 2);
    }

    #[test]
    fn the_near_one_if_it_is_free() {
        let now = Instant::now();
        let mut slots = Slots::new(8, 4, &BTreeSet::from([2]), [], now);
        assert_eq!(slots.take(Some(1), now), Some(1));
        assert_eq!(slots.take(Some(1), now), Some(0));
        assert_eq!(slots.take(Some(9), now), Some(3));
        assert_eq!(slots.take(Some(0), now), None);
        slots.free(3, now);
        slots.free(0, now);
        assert_eq!(slots.take(Some(3), now + REST), Some(3));
        assert_eq!(slots.used(), 3);
        assert_eq!(slots.take(None, now + REST), Some(0));
    }

    #[test]
    fn after_a_restart_held_ones_are_taken_and_warm_ones_rest() {
        let now = Instant::now();
        let mut slots = Slots::new(5, 5, &BTreeSet::from([1, 3]), [2, 3, 9], now);
        assert_eq!(slots.take(None, now), Some(0));
        assert_eq!(slots.take(None, now), Some(4));
        assert_eq!(slots.take(None, now), None);
        assert_eq!(slots.take(None, now + REST), Some(2));
        assert_eq!(slots.take(None, now + REST), None);
    }

    #[test]
    fn a_slot_beyond_a_smaller_maximum_is_not_handed_out_again() {
        let now = Instant::now();
        let mut slots = Slots::new(1, 1, &BTreeSet::from([7]), [], now);
        slots.free(7, now);
        assert_eq!(slots.take(None, now + REST), Some(0));
        assert_eq!(slots.take(None, now + REST), None);
    }
}
