use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::*;
use crate::{Nonce, SessionKey};

const SLOT: u32 = 9;

fn key(nonce: u8) -> ProbeKey {
    let session = SessionKey::from_slice(&[7; 32]).unwrap();
    ProbeKey::derive(&session, Uuid::from_u128(1), 3, Nonce([nonce; 16]))
}

/// A gateway's fast path.
#[derive(Default)]
struct Gateway {
    sequence: u64,
    heard: u32,
}

impl Gateway {
    fn answer(&mut self, ask: &[u8]) -> [u8; PROBE_LEN] {
        let asked = Probe::open_ask(ask, &key(1)).expect("a question");
        assert_eq!(asked.slot, SLOT);
        if asked.sequence > self.sequence {
            self.sequence = asked.sequence;
            self.heard += 1;
        }
        let sequence = self.sequence;
        Probe { sequence, ..asked }.answer(&key(1))
    }
}

/// Runs until `until`; answers as long as `alive` says so. When the gateway became silent.
fn run(
    prober: &mut Prober,
    gateway: &mut Gateway,
    rng: &mut StdRng,
    from: Instant,
    until: Instant,
    alive: impl Fn(Instant) -> bool,
) -> Option<Instant> {
    let mut silent = None;
    let mut now = from;
    while now <= until {
        let (ask, change) = prober.poll(now, rng);
        if change == Some(Change::Silent) {
            silent.get_or_insert(now);
        }
        if let Some(ask) = ask
            && alive(now)
        {
            let answer = gateway.answer(&ask);
            let heard = prober.on_datagram(&answer, now).expect("taken");
            if heard == Some(Change::Heard) {
                silent = None;
            }
        }
        now = prober.next_deadline();
    }
    silent
}

proptest! {
    /// Whenever the gateway falls silent: noticed within three seconds, and not before two.
    #[test]
    fn silence_is_noticed_within_three_seconds(seed: u64, cut_ms in 0u64..20_000) {
        let (mut rng, start) = (StdRng::seed_from_u64(seed), Instant::now());
        let mut prober = Prober::new(key(1), SLOT, start);
        let cut = start + Duration::from_millis(cut_ms);
        let end = cut + Duration::from_secs(3);
        let mut gateway = Gateway::default();
        let silent = run(&mut prober, &mut gateway, &mut rng, start, end, |now| now < cut);
        let after = silent.expect("noticed") - cut;
        prop_assert!(after <= Duration::from_secs(3), "{after:?}");
        prop_assert!(after >= Duration::from_millis(1400), "{after:?}");
        prop_assert!(prober.is_silent());
        // It comes back, and that is noticed with the next question.
        let back = end + Duration::from_millis(1001);
        run(&mut prober, &mut gateway, &mut rng, end, back, |_| true);
        prop_assert!(!prober.is_silent());
    }

    /// One question that is lost, wherever, is not silence.
    #[test]
    fn one_lost_question_is_nothing(seed: u64, lost in 0u32..10) {
        let (mut rng, start) = (StdRng::seed_from_u64(seed), Instant::now());
        let mut prober = Prober::new(key(1), SLOT, start);
        let mut now = start;
        let mut gateway = Gateway::default();
        for question in 0..20 {
            let ask = loop {
                let (ask, change) = prober.poll(now, &mut rng);
                prop_assert_eq!(change, None);
                match ask {
                    Some(ask) => break ask,
                    None => now = prober.next_deadline(),
                }
            };
            if question != lost {
                prop_assert_eq!(prober.on_datagram(&gateway.answer(&ask), now), Some(None));
            }
            now = prober.next_deadline();
        }
    }

    /// Nothing that was not made with the key is a sign of life, nor an answer to what was not asked.
    #[test]
    fn nobody_else_is_heard(seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let (mut rng, start) = (StdRng::seed_from_u64(seed), Instant::now());
        let mut prober = Prober::new(key(1), SLOT, start);
        let (ask, _) = prober.poll(start, &mut rng);
        let ask = ask.expect("a question");
        let asked = Probe::open_ask(&ask, &key(1)).unwrap();
        let forged = [
            bytes,
            ask.to_vec(),
            asked.answer(&key(2)).to_vec(),
            Probe { nonce: asked.nonce ^ 1, ..asked }.answer(&key(1)).to_vec(),
            Probe { slot: SLOT + 1, ..asked }.answer(&key(1)).to_vec(),
        ];
        for datagram in forged {
            prop_assert_eq!(prober.on_datagram(&datagram, start), None);
        }
        prop_assert_eq!(prober.on_datagram(&asked.answer(&key(1)), start), Some(None));
        prop_assert_eq!(prober.on_datagram(&asked.answer(&key(1)), start), None, "a replay");
    }
}

#[test]
fn a_terminal_that_slept_asks_before_it_complains() {
    let (mut rng, start) = (StdRng::seed_from_u64(1), Instant::now());
    let mut prober = Prober::new(key(1), SLOT, start);
    let mut gateway = Gateway::default();
    let (ask, _) = prober.poll(start, &mut rng);
    prober.on_datagram(&gateway.answer(&ask.unwrap()), start);
    let woken = start + Duration::from_secs(3600);
    let (ask, change) = prober.poll(woken, &mut rng);
    assert_eq!(change, None);
    let answer = gateway.answer(&ask.expect("it asks at once"));
    assert_eq!(prober.on_datagram(&answer, woken), Some(None));
}

#[test]
fn a_terminal_that_starts_anew_goes_on_counting_where_it_was() {
    let (mut rng, start) = (StdRng::seed_from_u64(1), Instant::now());
    let mut gateway = Gateway {
        sequence: 1000,
        heard: 0,
    };
    let mut prober = Prober::new(key(1), SLOT, start);
    run(
        &mut prober,
        &mut gateway,
        &mut rng,
        start,
        start + Duration::from_secs(3),
        |_| true,
    );
    assert!(!prober.is_silent());
    // The first one was taken for a replay, and told where to go on.
    assert!(gateway.heard >= 2, "{}", gateway.heard);
}
