//! What is to be looked at again, and when.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use doorstep_gateway_common::{LineKey, OperatorIndex};

use super::row::SessionRef;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// An establishment request to repeat, or a close or change to try again.
    Session(SessionRef),
    /// Receipts to repeat.
    Receipts(OperatorIndex),
    /// Contact with the server to record, or sessions whose time to live may be over.
    Lapse(OperatorIndex),
    /// Counters to report.
    Accounting(OperatorIndex),
    /// Rows that nobody has claimed to remove again.
    Unclaimed(OperatorIndex),
    /// The end of a line's lease of the garden, or to try again.
    Lease(LineKey),
    /// A line to be told of IPv6 again.
    Advertise(SessionRef),
    /// Fences that may be old.
    Fences,
}

/// At most one time for each.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    when: HashMap<Timer, Instant>,
}

impl Timers {
    /// Sets a timer anew, or off.
    pub fn set(&mut self, timer: Timer, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.when.insert(timer, at),
            None => self.when.remove(&timer),
        };
        if let Some(before) = before {
            self.order.remove(&(before, timer));
        }
        if let Some(at) = at {
            self.order.insert((at, timer));
        }
    }

    pub fn is_set(&self, timer: Timer) -> bool {
        self.when.contains_key(&timer)
    }

    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.set(timer, None);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_has_one_time() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.set(Timer::Receipts(1), Some(now));
        timers.set(Timer::Receipts(1), Some(now + Duration::from_secs(2)));
        timers.set(Timer::Accounting(1), Some(now + Duration::from_secs(1)));
        timers.set(Timer::Accounting(2), Some(now));
        timers.set(Timer::Accounting(2), None);
        assert_eq!(timers.pop_due(now), None);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        let later = now + Duration::from_secs(9);
        assert_eq!(timers.pop_due(later), Some(Timer::Accounting(1)));
        assert_eq!(timers.pop_due(later), Some(Timer::Receipts(1)));
        assert_eq!(timers.pop_due(later), None);
        assert_eq!(timers.next(), None);
    }
}
