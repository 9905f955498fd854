//! How long to wait before the next attempt.

use std::time::Duration;

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server shuts down, and has said so: another one may be up.
    Draining,
    /// The server ended a stream that worked, or restarts.
    Ended,
    /// It cannot be reached.
    Unreachable,
    /// It has more to do than it can.
    Overloaded,
    /// It does not want us, or a file of ours is wrong: somebody has to do something about it.
    Refused,
}

impl Class {
    /// The bounds of the first pause and of the longest.
    const fn bounds(self) -> (Duration, Duration) {
        match self {
            Self::Draining | Self::Ended | Self::Unreachable => {
                (Duration::from_millis(100), Duration::from_secs(10))
            }
            Self::Overloaded => (Duration::from_secs(1), Duration::from_secs(30)),
            Self::Refused => (Duration::from_secs(2), Duration::from_secs(30)),
        }
    }
}

/// The pause after so many failures in a row before this one, with full jitter: anything up to a
/// bound that doubles with each. `random` is in 0.0..=1.0.
pub fn pause(class: Class, failures: u32, random: f64) -> Duration {
    let (first, longest) = class.bounds();
    let bound = (first * 2u32.pow(failures.min(10))).min(longest);
    bound.mul_f64(random.clamp(0.0, 1.0))
}

/// Which of the server's addresses comes next, and when.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    address: usize,
}

impl Backoff {
    /// After a stream that worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last stream worked, or there was none.
    pub fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// Which address to dial.
    pub fn address(&self) -> usize {
        self.address
    }

    /// Goes on to the next of so many addresses, and says how long to wait before. The pauses grow
    /// once all have been tried.
    pub fn next(&mut self, class: Class, addresses: usize, random: f64) -> Duration {
        let addresses = addresses.max(1);
        self.address = (self.address + 1) % addresses;
        let rounds = self.failures / u32::try_from(addresses).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        pause(class, rounds, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_by_class_up_to_the_longest() {
        let ms = |class, failures| pause(class, failures, 1.0).as_millis();
        for (class, expected) in [
            (Class::Draining, [100, 200, 400, 10_000]),
            (Class::Ended, [100, 200, 400, 10_000]),
            (Class::Unreachable, [100, 200, 400, 10_000]),
            (Class::Overloaded, [1_000, 2_000, 4_000, 30_000]),
            (Class::Refused, [2_000, 4_000, 8_000, 30_000]),
        ] {
            let bounds = [0, 1, 2, u32::MAX].map(|failures| ms(class, failures));
            assert_eq!(bounds, expected, "{class:?}");
        }
    }

    #[test]
    fn the_jitter_is_full() {
        assert_eq!(pause(Class::Refused, 3, 0.0), Duration::ZERO);
        assert_eq!(pause(Class::Refused, 1, 0.25), Duration::from_secs(1));
        assert_eq!(pause(Class::Refused, 1, 9.0), Duration::from_secs(4));
    }

    #[test]
    fn all_addresses_are_tried_before_the_pauses_grow() {
        let mut backoff = Backoff::default();
        let mut next = |class| {
            let pause = backoff.next(class, 2, 1.0);
            (backoff.address(), pause.as_millis())
        };
        assert_eq!(next(Class::Draining), (1, 100));
        assert_eq!(next(Class::Unreachable), (0, 100));
        assert_eq!(next(Class::Unreachable), (1, 200));
        assert_eq!(next(Class::Unreachable), (0, 200));
        assert_eq!(next(Class::Unreachable), (1, 400));
        backoff.reset();
        assert!(backoff.is_fresh());
        assert_eq!(backoff.address(), 1, "stays with the one that worked");
        assert_eq!(backoff.next(Class::Ended, 2, 1.0).as_millis(), 100);
    }
}
