//! When to renew, and when to try again.

use std::time::Duration;

/// The time that a certificate holds for, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from_ms: i64,
    pub until_ms: i64,
}

impl Validity {
    /// When to renew: at two thirds of the life, up to a twentieth earlier or later, so that what
    /// began together does not come back together. `roll` is a random number from 0 to 1.
    #[must_use]
    pub fn renewal_ms(self, roll: f64) -> i64 {
        let life = self.until_ms.saturating_sub(self.from_ms).max(0);
        let share = 2.0 / 3.0 + (roll.clamp(0.0, 1.0) - 0.5) / 10.0;
        self.from_ms.saturating_add((life as f64 * share) as i64)
    }

    /// How long to wait after a renewal that failed: about a twelfth of what is left, so that
    /// there are a dozen attempts before the end, and some after it.
    #[must_use]
    pub fn retry(self, now_ms: i64, roll: f64) -> Duration {
        let left = u64::try_from(self.until_ms.saturating_sub(now_ms)).unwrap_or(0);
        Duration::from_millis(left / 12)
            .clamp(Duration::from_secs(5), Duration::from_secs(3600))
            .mul_f64(0.5 + roll.clamp(0.0, 1.0))
    }

    #[must_use]
    pub fn is_over(self, now_ms: i64) -> bool {
        now_ms > self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn renewal_is_around_two_thirds() {
        let week = Validity {
            from_ms: 10 * DAY,
            until_ms: 17 * DAY,
        };
        let at = |roll| (week.renewal_ms(roll) - week.from_ms) as f64 / (7 * DAY) as f64;
        assert!((at(0.5) - 2.0 / 3.0).abs() < 1e-6);
        assert!((at(0.0) - 0.6167).abs() < 1e-3 && (at(1.0) - 0.7167).abs() < 1e-3);
    }

    /// A gateway that fails again and again: simulated from renewal to the end.
    #[test]
    fn there_are_enough_attempts_before_the_end() {
        for (days, roll) in [(7, 0.0), (7, 1.0), (1, 0.5), (30, 0.9)] {
            let life = Validity {
                from_ms: 0,
                until_ms: days * DAY,
            };
            let mut now = life.renewal_ms(roll);
            let mut attempts = 0;
            while !life.is_over(now) {
                attempts += 1;
                now += life.retry(now, roll).as_millis() as i64;
            }
            assert!((12..2000).contains(&attempts), "{days}: {attempts}");
        }
    }

    proptest! {
        #[test]
        fn any_validity_is_renewed_within_it(
            from in -1_000_000_000_000i64..4_000_000_000_000,
            life in 0i64..2_000_000_000_000,
            roll in -1.0f64..2.0,
        ) {
            let validity = Validity { from_ms: from, until_ms: from + life };
            let at = validity.renewal_ms(roll);
            prop_assert!(from <= at && at <= from + life);
        }
    }
}
