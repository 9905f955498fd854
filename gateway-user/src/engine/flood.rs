//! Whether Connects come faster than they do in everyday life, as at an empty gateway's first stream.

use std::time::{Duration, Instant};

/// Connects in a second that are no flood, however long they go on.
const RATE: u32 = 2000;
/// Connects at once that are no flood either.
const BURST: u32 = 256;
/// So long after the last of a flood it is over.
const REST: Duration = Duration::from_millis(50);

/// A bucket that leaks: each Connect adds what takes `1 / RATE` to run off.
#[derive(Clone, Debug)]
pub(super) struct Flood {
    /// When the bucket is empty.
    empty: Instant,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self { empty: now }
    }

    /// A Connect was recorded.
    pub(super) fn note(&mut self, now: Instant) {
        let full = now + Self::burst() + REST;
        self.empty = (self.empty.max(now) + Self::one()).min(full);
    }

    /// From when on there is none, if no more Connects come; in the past where there is none now.
    pub(super) fn ends(&self) -> Instant {
        self.empty.checked_sub(Self::burst()).unwrap_or(self.empty)
    }

    fn one() -> Duration {
        Duration::from_secs(1) / RATE
    }

    fn burst() -> Duration {
        Self::one() * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(flood: &mut Flood, connects: u32, pause: Duration, mut now: Instant) -> Instant {
        for _ in 0..connects {
            flood.note(now);
            now += pause;
        }
        now
    }

    #[test]
    fn as_many_as_come_on_a_busy_day_are_no_flood() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        let now = after(&mut flood, BURST, Duration::ZERO, start);
        assert!(flood.ends() <= now, "at once");
        let later = start + Duration::from_secs(60);
        let now = after(&mut flood, 10 * RATE, Duration::from_secs(1) / RATE, later);
        assert!(flood.ends() <= now, "one after the other");
    }

    #[test]
    fn a_flood_is_over_soon_after_the_last_of_it() {
        let start = Instant::now();
        for connects in [10 * BURST, 100_000] {
            let mut flood = Flood::new(start);
            let now = after(&mut flood, connects, Duration::from_micros(10), start);
            assert!(flood.ends() > now, "{connects}");
            assert!(flood.ends() <= now + REST, "{connects}");
        }
    }
}
