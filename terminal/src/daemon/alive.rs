//! Whether the gateway of one establishment still has the session, and when to ask elsewhere.

use std::time::Duration;

use doorstep_establish::{Change, Establishment, Nonce, PROBE_LEN, ProbeKey, Prober, SessionKey};
use rand::Rng;
use tokio::time::Instant;
use uuid::Uuid;

/// Between two times that server and gateway are asked again: the first pause and the longest. Of each,
/// anything may pass, the first included: a gateway that is gone leaves thousands of terminals behind.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the questions belong to: generation, nonce and slot.
type Of = (u64, Nonce, u32);

/// The questions of one establishment.
#[derive(Debug)]
pub(super) struct Alive {
    of: Of,
    prober: Prober,
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Silence {
    since_unix_ms: i64,
    ask_at: Instant,
    pause: Duration,
}

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// To be sent to the gateway.
    pub question: Option<[u8; PROBE_LEN]>,
    /// The gateway has just become silent.
    pub silent: bool,
    /// The session's server and gateway are to be asked again.
    pub ask_again: bool,
}

impl Alive {
    /// The gateway has confirmed at `now`, and has the session in that slot.
    pub(super) fn new(
        session: Uuid,
        key: &SessionKey,
        with: &Establishment,
        slot: u32,
        now: Instant,
    ) -> Self {
        let key = ProbeKey::derive(key, session, with.generation, with.nonce);
        Self {
            of: (with.generation, with.nonce, slot),
            prober: Prober::new(key, slot, now.into_std()),
            silence: None,
        }
    }

    /// Whether it is of that establishment, in that slot.
    pub(super) fn is_of(&self, with: &Establishment, slot: u32) -> bool {
        self.of == (with.generation, with.nonce, slot)
    }

    /// Since when the gateway is silent, in Unix milliseconds.
    pub(super) fn silent_since(&self) -> Option<i64> {
        self.silence.as_ref().map(|silence| silence.since_unix_ms)
    }

    pub(super) fn due(&mut self, now: Instant, unix_ms: i64, rng: &mut impl Rng) -> Due {
        let (question, change) = self.prober.poll(now.into_std(), rng);
        let silent = change == Some(Change::Silent);
        if silent {
            let lasts = now.into_std() - self.prober.heard();
            let lasts_ms = i64::try_from(lasts.as_millis()).unwrap_or_default();
            self.silence = Some(Silence {
                since_unix_ms: unix_ms.saturating_sub(lasts_ms),
                ask_at: now + jittered(FIRST_PAUSE, rng),
                pause: FIRST_PAUSE,
            });
        }
        let waiting = self.silence.as_mut();
        let ask_again = waiting.is_some_and(|silence| silence.take(now, rng));
        Due {
            question,
            silent,
            ask_again,
        }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        let question = Instant::from_std(self.prober.next_deadline());
        let silence = self.silence.as_ref();
        silence.map_or(question, |silence| question.min(silence.ask_at))
    }

    /// Whether a datagram is an answer to a question, and if the gateway had been silent, for how long.
    pub(super) fn on_datagram(
        &mut self,
        datagram: &[u8],
        now: Instant,
    ) -> Option<Option<Duration>> {
        let heard = self.prober.heard();
        let change = self.prober.on_datagram(datagram, now.into_std())?;
        self.silence = None;
        Some(change.map(|_| now.into_std() - heard))
    }
}

impl Silence {
    fn take(&mut self, now: Instant, rng: &mut impl Rng) -> bool {
        if now < self.ask_at {
            return false;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.ask_at = now + jittered(self.pause, rng);
        true
    }
}

/// Full jitter: anything up to the pause.
fn jittered(pause: Duration, rng: &mut impl Rng) -> Duration {
    pause.mul_f64(rng.random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use doorstep_establish::{Mac, Offer, Probe, SILENT_AFTER, Tags};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const SLOT: u32 = 4;

    fn establishment() -> Establishment {
        Establishment {
            generation: 3,
            nonce: Nonce([1; 16]),
            offer: Offer {
                gateway_id: "gw1".into(),
                ipv4: None,
                ipv4_gateway: None,
                ipv6: None,
                ipv6_line: None,
                dns: Vec::new(),
                mtu: 1500,
            },
            tags: Tags::NONE,
            gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
        }
    }

    #[test]
    fn asks_ever_more_rarely_until_the_gateway_is_heard() {
        let key = SessionKey::from_slice(&[7; 32]).unwrap();
        let session = Uuid::from_u128(1);
        for seed in 0..50 {
            let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(seed));
            let mut alive = Alive::new(session, &key, &establishment(), SLOT, start);
            assert!(alive.is_of(&establishment(), SLOT) && !alive.is_of(&establishment(), 5));
            let (mut now, mut asked, mut silent_at) = (start, Vec::new(), None);
            let mut question = None;
            while now < start + Duration::from_secs(600) {
                let due = alive.due(now, 1_000_000, &mut rng);
                question = due.question.or(question);
                if due.silent {
                    assert_eq!(silent_at.replace(now), None, "told once");
                    assert_eq!(alive.silent_since(), Some(997_500));
                }
                if due.ask_again {
                    asked.push(now);
                }
                now = alive.next_deadline();
            }
            let silent_at = silent_at.expect("noticed");
            assert_eq!(silent_at, start + SILENT_AFTER);
            assert!(asked[0] - silent_at <= FIRST_PAUSE);
            let pauses = asked.windows(2).map(|pair| pair[1] - pair[0]);
            for (at, pause) in pauses.enumerate() {
                let longest = FIRST_PAUSE * 2u32.pow(u32::try_from(at).unwrap().min(8) + 1);
                assert!(pause <= longest.min(LONGEST_PAUSE), "{pause:?}");
            }
            assert!(asked.len() >= 20, "for ever, not {} times", asked.len());

            // The last question is answered after all.
            let probe = ProbeKey::derive(&key, session, 3, Nonce([1; 16]));
            let answer = Probe::open_ask(&question.unwrap(), &probe).unwrap();
            let heard = alive.on_datagram(&answer.answer(&probe), now);
            assert_eq!(heard, Some(Some(now - start)));
            assert_eq!(alive.silent_since(), None);
            assert!(!alive.due(now, 0, &mut rng).ask_again);
        }
    }
}
