//! How long to wait before the next attempt.

use std::time::Duration;

use rand::Rng;

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server ended a stream that worked, or restarts.
    Ended,
    /// It cannot be reached.
    Unreachable,
    /// It does not want us, or a file of ours is wrong: somebody has to do something about it.
    Refused,
}

const LONGEST: Duration = Duration::from_secs(10);

/// Full jitter: anything up to a bound that doubles with each failure.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
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

    /// The pause before the next attempt.
    pub fn next(&mut self, class: Class, rng: &mut impl Rng) -> Duration {
        let bound = self.bound(class);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rng.random_range(0.0..=1.0))
    }

    fn bound(&self, class: Class) -> Duration {
        let first = match class {
            Class::Ended | Class::Unreachable => Duration::from_millis(100),
            Class::Refused => Duration::from_secs(2),
        };
        (first * 2u32.pow(self.failures.min(10))).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_by_class_up_to_the_longest() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.bound(Class::Ended), Duration::from_millis(100));
        assert_eq!(backoff.bound(Class::Refused), Duration::from_secs(2));
        let mut rng = rand::rng();
        for _ in 0..3 {
            assert!(backoff.next(Class::Unreachable, &mut rng) <= Duration::from_millis(400));
        }
        assert_eq!(
            backoff.bound(Class::Unreachable),
            Duration::from_millis(800)
        );
        backoff.failures = u32::MAX;
        assert!(backoff.next(Class::Ended, &mut rng) <= LONGEST);
        assert_eq!(backoff.bound(Class::Ended), LONGEST);
        backoff.reset();
        assert_eq!(backoff.bound(Class::Ended), Duration::from_millis(100));
    }
}
