//! When nobody has asked, and when all are told.

use std::time::Duration;

use super::Kind;
use super::advertisement::PER_LIFETIME;
use crate::line6::Session;

/// MaxRtrAdvInterval by default, and the shortest allowed (RFC 4861, 6.2.1).
const INTERVAL_MAX: Duration = Duration::from_secs(600);
const INTERVAL_LEAST: Duration = Duration::from_secs(4);
/// The shortest MinRtrAdvInterval; it is a third of the other by default (RFC 4861, 6.2.1).
const MIN_INTERVAL_LEAST: Duration = Duration::from_secs(3);
/// MAX_INITIAL_RTR_ADVERTISEMENTS and MAX_INITIAL_RTR_ADVERT_INTERVAL (RFC 4861, 10): a client that
/// misses the first advertisement need not wait for long.
const INITIAL: u32 = 3;
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// MAX_FINAL_RTR_ADVERTISEMENTS (RFC 4861, 10).
const FINAL: u32 = 3;
/// MIN_DELAY_BETWEEN_RAS: between two advertisements to all (RFC 4861, 6.2.6, 10).
const MIN_DELAY: Duration = Duration::from_secs(3);

/// MaxRtrAdvInterval of a session: a third of the time that its addresses hold, within what RFC
/// 4861, 6.2.1, allows, so that they are renewed in time though two advertisements are lost.
pub(super) fn max_interval(lifetime: Duration) -> Duration {
    (lifetime / PER_LIFETIME).clamp(INTERVAL_LEAST, INTERVAL_MAX)
}

/// When the next advertisement to all nodes of a line is due. Times are of the caller's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    kind: Kind,
    next: Duration,
    /// The last one to all, of this session or not.
    last: Option<Duration>,
    sent: u32,
}

impl Schedule {
    /// A session has begun: all are told at once, and soon again (RFC 4861, 6.2.4).
    #[must_use]
    pub fn begin(now: Duration) -> Self {
        Self {
            kind: Kind::Current,
            next: now,
            last: None,
            sent: 0,
        }
    }

    /// What is advertised has changed: all are told as if the session had just begun (RFC 4861,
    /// 6.2.4), but not before MIN_DELAY_BETWEEN_RAS allows.
    #[must_use]
    pub fn changed(self, now: Duration) -> Self {
        Self {
            next: self.allowed(now),
            sent: 0,
            ..self
        }
    }

    /// The session has ended: all are told at once. The last advertisement may be less than
    /// MIN_DELAY_BETWEEN_RAS ago; that limit keeps answers to solicitations rare, and a client must
    /// not begin anything meanwhile.
    #[must_use]
    pub fn end(self, now: Duration) -> Self {
        Self {
            kind: Kind::Final,
            next: now,
            last: self.last,
            sent: 0,
        }
    }

    /// When it is due, and what it says.
    #[must_use]
    pub fn due(&self) -> (Duration, Kind) {
        (self.next, self.kind)
    }

    /// A node without an address has asked: all are told, as soon as MIN_DELAY_BETWEEN_RAS allows
    /// (RFC 4861, 6.2.6).
    #[must_use]
    pub fn solicited(self, now: Duration) -> Self {
        Self {
            next: self.next.min(self.allowed(now)),
            ..self
        }
    }

    fn allowed(&self, now: Duration) -> Duration {
        self.last.map_or(now, |last| now.max(last + MIN_DELAY))
    }

    /// What was due has been sent; none after the last one of all. `random` spreads the lines: it is
    /// drawn anew for each advertisement from all of `u32` (RFC 4861, 6.2.4).
    #[must_use]
    pub fn sent(self, now: Duration, session: &Session, random: u32) -> Option<Self> {
        let sent = self.sent.saturating_add(1);
        let wait = match self.kind {
            Kind::Final if sent >= FINAL => return None,
            Kind::Final => MIN_DELAY,
            Kind::Current => {
                let max = max_interval(session.lifetime);
                let min = (max / 3).max(MIN_INTERVAL_LEAST);
                let spread = (max - min).mul_f64(f64::from(random) / f64::from(u32::MAX));
                let wait = min + spread;
                if sent < INITIAL {
                    wait.min(INITIAL_INTERVAL)
                } else {
                    wait
                }
            }
        };
        Some(Self {
            next: now + wait,
            last: Some(now),
            sent,
            ..self
        })
    }
}
