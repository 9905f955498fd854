//! When to repeat a message.

use std::time::{Duration, Instant};

use rand::Rng;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(5);

/// 20 ms, doubled up to 5 s, for ever; each pause is shortened by up to half at random, so that
/// the lines of a gateway that has just started do not speak in step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    pause: Duration,
    due: Instant,
}

impl Backoff {
    /// Due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            pause: FIRST,
            due: now,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is time, in which case the next time is set.
    pub(crate) fn take(&mut self, now: Instant, rng: &mut impl Rng) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.pause.mul_f64(rng.random_range(0.5..=1.0));
        self.pause = (self.pause * 2).min(LONGEST);
        true
    }
}
