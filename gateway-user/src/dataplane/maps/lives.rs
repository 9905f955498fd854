//! Which terminals may ask whether their sessions are alive, and when they last have.

use std::collections::HashSet;
use std::time::Duration;

use doorstep_establish::ProbeKey;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::{LineKey, Slot};
use nix::time::{ClockId, clock_gettime};

use super::mapped::Mapped;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;

/// A terminal asks at least once a second. One that has not for so long is silent; two questions that
/// are lost are not silence.
const SILENT_AFTER: Duration = Duration::from_millis(3500);

/// `LIVENESS`.
pub(in crate::dataplane) struct Lives(Mapped<Liveness>);

impl Lives {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Mapped::open(pins, map::LIVENESS).map(Self)
    }

    pub(in crate::dataplane) fn expect(&self, slot: Slot, line: &LineKey, key: &ProbeKey) {
        if let Some(record) = self.0.get(slot as usize) {
            record.expect(line, key.words());
        }
    }

    pub(in crate::dataplane) fn forget(&self, slot: Slot) {
        if let Some(record) = self.0.get(slot as usize) {
            record.forget();
        }
    }

    /// Forgets all slots but these.
    pub(in crate::dataplane) fn retain(&self, slots: &HashSet<Slot>) {
        for at in 0..self.0.len() {
            if let Some(record) = self.0.get(at)
                && record.line.get() != 0
                && !Slot::try_from(at).is_ok_and(|slot| slots.contains(&slot))
            {
                record.forget();
            }
        }
    }

    /// How long the terminal of a slot has been silent; none if it is not, or has never asked, as
    /// older ones never do.
    pub(in crate::dataplane) fn silence(&self, slot: Slot) -> Option<Duration> {
        silence(self.0.get(slot as usize)?, monotonic_ns())
    }

    /// How many terminals are silent.
    pub(in crate::dataplane) fn silent(&self) -> u64 {
        let now_ns = monotonic_ns();
        let records = (0..self.0.len()).filter_map(|at| self.0.get(at));
        records
            .filter(|record| silence(record, now_ns).is_some())
            .count() as u64
    }
}

fn silence(record: &Liveness, now_ns: u64) -> Option<Duration> {
    let since = Duration::from_nanos(record.silent_ns(now_ns)?);
    (since >= SILENT_AFTER).then_some(since)
}

/// The clock of `bpf_ktime_get_ns`.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| {
        u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use doorstep_establish::{Nonce, SessionKey};

    use super::*;

    const LINE: LineKey = LineKey {
        ifindex: 7,
        s_vid: 101,
        c_vid: 1001,
    };
    const SECOND: u64 = 1_000_000_000;

    fn key(nonce: u8) -> ProbeKey {
        let session = SessionKey::from_slice(&[7; 32]).expect("32 bytes");
        ProbeKey::derive(&session, uuid::Uuid::from_u128(1), 3, Nonce([nonce; 16]))
    }

    #[test]
    fn who_has_asked_once_is_silent_some_time_after_the_last_question() {
        let record = Liveness::default();
        record.expect(&LINE, key(1).words());
        assert_eq!(silence(&record, 99 * SECOND), None, "never asked");
        record.hear(4, 10 * SECOND);
        assert_eq!(silence(&record, 12 * SECOND), None);
        let silent = silence(&record, 20 * SECOND).expect("silent");
        let range = Duration::from_millis(9700)..=Duration::from_secs(10);
        assert!(range.contains(&silent), "{silent:?}");
        assert_eq!(silence(&record, 9 * SECOND), None, "a clock read before");
    }

    /// A daemon that starts again says what it said before: that must not lose what was heard, or
    /// let a replay pass for a sign of life.
    #[test]
    fn what_is_said_again_changes_nothing_and_another_establishment_begins_anew() {
        let lives = Lives(Mapped::anonymous(8));
        lives.expect(3, &LINE, &key(1));
        let record = lives.0.get(3).expect("a slot");
        record.hear(4, SECOND);
        lives.expect(3, &LINE, &key(1));
        assert!(record.sequence() == 4 && record.silent_ns(SECOND) == Some(0));
        lives.expect(3, &LINE, &key(2));
        assert!(record.sequence() == 0 && record.silent_ns(SECOND).is_none());
        assert_eq!(record.key[0].get(), key(2).words()[0]);
        lives.expect(8, &LINE, &key(1));
    }

    #[test]
    fn slots_that_nobody_has_are_forgotten() {
        let lives = Lives(Mapped::anonymous(8));
        lives.expect(3, &LINE, &key(1));
        lives.expect(4, &LINE, &key(2));
        lives.retain(&HashSet::from([4]));
        let line = |slot| lives.0.get(slot).expect("a slot").line.get();
        assert_eq!(line(3), 0);
        assert_ne!(line(4), 0);
        lives.forget(4);
        assert_eq!(line(4), 0);
    }
}
