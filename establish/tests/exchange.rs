//! Both ends over a channel that loses, repeats and delays; and what each end refuses.

use std::time::{Duration, Instant};

use doorstep_establish::{
    Body, Decision, Direction, Ignored, Initiator, Mac, Message, Nonce, Offer, Outcome, Phase,
    Responder, SessionKey, Tags, Unmoved, open, seal,
};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 2]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 3]);
const SESSION: Uuid = Uuid::from_u128(1);

fn offer() -> Offer {
    Offer {
        gateway_id: "gw-1".into(),
        ipv4: Some([100, 64, 1, 10].into()),
        ipv4_gateway: Some([100, 64, 0, 1].into()),
        ipv6: None,
        ipv6_line: None,
        dns: vec![],
        mtu: 1500,
    }
}

fn initiator(nonce: u8, now: Instant) -> Initiator {
    Initiator::new(SESSION, 1, Nonce([nonce; 16]), offer(), now)
}

/// What the channel does to one datagram.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Arrives { after_ms: u64 },
    Twice { after_ms: u64, again_ms: u64 },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Lost),
        2 => (0u64..400).prop_map(|after_ms| Fate::Arrives { after_ms }),
        1 => (0u64..400, 0u64..4000).prop_map(|(after_ms, again_ms)| Fate::Twice { after_ms, again_ms }),
    ]
}

struct Simulation {
    now: Instant,
    end: Instant,
    rng: StdRng,
    key: SessionKey,
    fates: Vec<Fate>,
    /// (arrives at, from the gateway, datagram)
    flying: Vec<(Instant, bool, Vec<u8>)>,
}

impl Simulation {
    fn send(&mut self, from_gateway: bool, body: &Body) {
        let datagram = seal(&self.key, SESSION, body);
        let fate = if self.fates.is_empty() {
            Fate::Arrives { after_ms: 1 }
        } else {
            self.fates.remove(0)
        };
        let delays = match fate {
            Fate::Lost => vec![],
            Fate::Arrives { after_ms } => vec![after_ms],
            Fate::Twice { after_ms, again_ms } => vec![after_ms, again_ms],
        };
        for ms in delays {
            self.flying.push((
                self.now + Duration::from_millis(ms),
                from_gateway,
                datagram.clone(),
            ));
        }
    }

    /// Runs until nothing more happens, and tells how often links were changed.
    fn run(&mut self, gateway: &mut Initiator, terminal: &mut Responder) -> usize {
        let mut brought_up = 0;
        while self.now < self.end {
            while let Some(body) = gateway.poll(self.now, &mut self.rng) {
                self.send(true, &body);
            }
            while let Some(body) = terminal.poll(self.now, &mut self.rng) {
                self.send(false, &body);
            }
            self.flying.sort_by_key(|(at, ..)| *at);
            let arrival = self.flying.first().map(|(at, ..)| *at);
            let deadlines = [arrival, gateway.next_deadline(), terminal.next_deadline()];
            let Some(next) = deadlines.into_iter().flatten().min() else {
                break;
            };
            self.now = self.now.max(next);
            while self.flying.first().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, from_gateway, datagram) = self.flying.remove(0);
                let direction = if from_gateway {
                    Direction::FromGateway
                } else {
                    Direction::FromTerminal
                };
                let (_, body) = open(&datagram, direction, |_| Some(self.key.clone())).unwrap();
                if from_gateway {
                    match terminal.on_body(&body, GATEWAY, Tags::NONE) {
                        Decision::BringUp(establishment) => {
                            brought_up += 1;
                            assert!(terminal.brought_up(establishment.nonce, TERMINAL, self.now));
                        }
                        Decision::Answer(body) => self.send(false, &body),
                        Decision::TearDown => panic!("nobody released"),
                        Decision::Established | Decision::Nothing(_) => {}
                    }
                } else if let Outcome::Accepted { mac, .. } = gateway.on_body(&body, TERMINAL) {
                    assert_eq!(mac, TERMINAL);
                    let confirm = gateway.confirm(7);
                    self.send(true, &confirm);
                }
            }
        }
        brought_up
    }
}

fn simulate(fates: Vec<Fate>, seed: u64) {
    let now = Instant::now();
    let mut simulation = Simulation {
        now,
        end: now + Duration::from_secs(600),
        rng: StdRng::seed_from_u64(seed),
        key: SessionKey::generate(),
        fates,
        flying: vec![],
    };
    let (mut gateway, mut terminal) = (initiator(1, now), Responder::new(SESSION, 1));
    let brought_up = simulation.run(&mut gateway, &mut terminal);
    assert_eq!(gateway.terminal(), Some(TERMINAL));
    assert_eq!(terminal.phase(), Phase::Established);
    assert_eq!(brought_up, 1, "links are changed once");
    assert!(simulation.now < simulation.end, "both ends come to rest");
}

#[test]
fn any_of_the_first_datagrams_may_be_lost() {
    for lost in 0u32..1 << 8 {
        let fates = (0..8).map(|i| match lost >> i & 1 {
            0 => Fate::Arrives { after_ms: 1 },
            _ => Fate::Lost,
        });
        simulate(fates.collect(), lost.into());
    }
}

proptest! {
    #[test]
    fn the_channel_may_do_anything_for_a_while(fates in prop::collection::vec(fate(), 0..40), seed: u64) {
        simulate(fates, seed);
    }
}

#[test]
fn requests_are_spread_and_slow_down() {
    let now = Instant::now();
    let mut rng = StdRng::seed_from_u64(1);
    let mut gateway = initiator(1, now);
    let mut pauses = vec![];
    let mut at = now;
    for _ in 0..12 {
        assert!(gateway.poll(at, &mut rng).is_some());
        assert!(gateway.poll(at, &mut rng).is_none(), "only once");
        let next = gateway.next_deadline().unwrap();
        pauses.push((next - at).as_millis());
        at = next;
    }
    assert!((10..=20).contains(&pauses[0]), "{pauses:?}");
    assert!(
        pauses[9..]
            .iter()
            .all(|pause| (2500..=5000).contains(pause)),
        "{pauses:?}"
    );
}

#[test]
fn the_gateway_takes_only_answers_to_its_own_request() {
    let mut gateway = initiator(1, Instant::now());
    let accept = |generation, nonce, terminal_mac| Body {
        generation,
        nonce: Nonce([nonce; 16]),
        message: Message::Accept {
            terminal_mac,
            replaces: None,
        },
    };
    let confirm = Body {
        message: Message::Confirm { slot: None },
        ..accept(1, 1, TERMINAL)
    };
    let refuse = Body {
        message: Message::Refuse {
            detail: "no".into(),
        },
        ..accept(1, 1, TERMINAL)
    };
    let group = Mac([3, 0, 0, 0, 0, 2]);
    let cases = [
        (
            "older",
            accept(0, 1, TERMINAL),
            TERMINAL,
            Outcome::Ignored(Ignored::Generation),
        ),
        (
            "newer",
            accept(2, 1, TERMINAL),
            TERMINAL,
            Outcome::Ignored(Ignored::Generation),
        ),
        (
            "replayed",
            accept(1, 2, TERMINAL),
            TERMINAL,
            Outcome::Ignored(Ignored::Nonce),
        ),
        (
            "other source",
            accept(1, 1, TERMINAL),
            OTHER,
            Outcome::Ignored(Ignored::Mac),
        ),
        (
            "group",
            accept(1, 1, group),
            group,
            Outcome::Ignored(Ignored::Mac),
        ),
        (
            "zero",
            accept(1, 1, Mac::default()),
            Mac::default(),
            Outcome::Ignored(Ignored::Mac),
        ),
        (
            "own words",
            confirm,
            TERMINAL,
            Outcome::Ignored(Ignored::OutOfPlace),
        ),
        (
            "refusal",
            refuse.clone(),
            TERMINAL,
            Outcome::Refused {
                detail: "no".into(),
            },
        ),
        (
            "good",
            accept(1, 1, TERMINAL),
            TERMINAL,
            Outcome::Accepted {
                mac: TERMINAL,
                first: true,
            },
        ),
        (
            "again",
            accept(1, 1, TERMINAL),
            TERMINAL,
            Outcome::Accepted {
                mac: TERMINAL,
                first: false,
            },
        ),
        (
            "second terminal",
            accept(1, 1, OTHER),
            OTHER,
            Outcome::Ignored(Ignored::Taken),
        ),
        (
            "late refusal",
            refuse,
            TERMINAL,
            Outcome::Ignored(Ignored::OutOfPlace),
        ),
    ];
    for (name, body, src_mac, expected) in cases {
        assert_eq!(gateway.on_body(&body, src_mac), expected, "{name}");
    }
    assert_eq!(gateway.next_deadline(), None);
}

fn request(generation: u64, nonce: u8) -> Body {
    Body {
        generation,
        nonce: Nonce([nonce; 16]),
        message: Message::Request(offer()),
    }
}

fn said(generation: u64, nonce: u8, message: Message) -> Body {
    Body {
        message,
        ..request(generation, nonce)
    }
}

#[test]
fn the_terminal_refuses_what_is_old() {
    let now = Instant::now();
    let mut terminal = Responder::new(SESSION, 5);
    let hear = |terminal: &mut Responder, body: Body| {
        let decision = terminal.on_body(&body, GATEWAY, Tags::NONE);
        if let Decision::BringUp(establishment) = &decision {
            assert!(terminal.brought_up(establishment.nonce, TERMINAL, now));
        }
        decision
    };
    let nothing = Decision::Nothing;
    assert_eq!(hear(&mut terminal, request(4, 1)), nothing(Unmoved::Stale));
    assert!(matches!(
        hear(&mut terminal, request(5, 1)),
        Decision::BringUp(_)
    ));
    assert!(matches!(
        hear(&mut terminal, request(5, 1)),
        Decision::Answer(_)
    ));
    assert_eq!(
        hear(&mut terminal, said(5, 9, Message::Confirm { slot: None })),
        nothing(Unmoved::NotCurrent)
    );
    assert_eq!(
        hear(&mut terminal, said(5, 1, Message::Confirm { slot: None })),
        Decision::Established
    );
    assert_eq!(
        hear(&mut terminal, said(5, 1, Message::Confirm { slot: None })),
        nothing(Unmoved::NothingNew)
    );

    // The gateway has restarted, and asks anew.
    assert!(matches!(
        hear(&mut terminal, request(5, 2)),
        Decision::BringUp(_)
    ));
    assert_eq!(
        hear(&mut terminal, request(5, 1)),
        nothing(Unmoved::Replayed)
    );
    assert_eq!(
        hear(&mut terminal, said(5, 1, Message::Release)),
        nothing(Unmoved::NotCurrent)
    );
    assert_eq!(terminal.phase(), Phase::Accepting);

    assert_eq!(
        hear(&mut terminal, said(5, 2, Message::Release)),
        Decision::TearDown
    );
    assert_eq!(
        hear(&mut terminal, request(5, 2)),
        nothing(Unmoved::Replayed)
    );
    assert_eq!(terminal.phase(), Phase::Waiting);

    // A move: the other gateway's request, then nothing from the first one counts.
    assert!(matches!(
        hear(&mut terminal, request(6, 3)),
        Decision::BringUp(_)
    ));
    assert_eq!(hear(&mut terminal, request(5, 4)), nothing(Unmoved::Stale));
    terminal.raise_generation(8);
    assert_eq!(hear(&mut terminal, request(7, 5)), nothing(Unmoved::Stale));
    assert_eq!(
        hear(&mut terminal, said(6, 3, Message::Confirm { slot: None })),
        Decision::Established
    );
}

#[test]
fn a_failed_change_is_told_and_tried_again() {
    let now = Instant::now();
    let mut terminal = Responder::new(SESSION, 1);
    let hear = |terminal: &mut Responder| terminal.on_body(&request(1, 1), GATEWAY, Tags::NONE);
    let Decision::BringUp(establishment) = hear(&mut terminal) else {
        panic!("not taken up")
    };
    assert_eq!(hear(&mut terminal), Decision::Nothing(Unmoved::Busy));
    let nonce = establishment.nonce;
    let body = terminal.failed(nonce, "room0 is not there".into()).unwrap();
    assert_eq!(
        body,
        said(
            1,
            1,
            Message::Refuse {
                detail: "room0 is not there".into()
            }
        )
    );
    assert_eq!(terminal.next_deadline(), None);
    assert_eq!(hear(&mut terminal), Decision::BringUp(establishment));

    // A late report about something else than what is being brought up counts for nothing.
    assert!(!terminal.brought_up(Nonce([7; 16]), TERMINAL, now));
    assert!(terminal.failed(Nonce([7; 16]), String::new()).is_none());
    assert!(terminal.brought_up(nonce, TERMINAL, now));
    assert_eq!(terminal.phase(), Phase::Accepting);
}

#[test]
fn a_restarted_terminal_goes_on() {
    let now = Instant::now();
    let mut first = Responder::new(SESSION, 1);
    let Decision::BringUp(kept) = first.on_body(&request(3, 1), GATEWAY, Tags::NONE) else {
        panic!("not taken up")
    };
    let mut terminal = Responder::restored(SESSION, 1, kept.clone(), TERMINAL, false, now);
    assert_eq!(
        (terminal.generation(), terminal.phase()),
        (3, Phase::Accepting)
    );
    let accept = terminal.poll(now, &mut StdRng::seed_from_u64(1)).unwrap();

    // The gateway had heard the Accept before, and has restarted too.
    let mut gateway = Initiator::accepted(SESSION, 3, Nonce([1; 16]), offer(), TERMINAL, now);
    assert_eq!(
        gateway.on_body(&accept, TERMINAL),
        Outcome::Accepted {
            mac: TERMINAL,
            first: false
        }
    );
    let decision = terminal.on_body(&gateway.confirm(7), GATEWAY, Tags::NONE);
    assert_eq!(decision, Decision::Established);
    let terminal = Responder::restored(SESSION, 1, kept, TERMINAL, true, now);
    assert_eq!(
        (terminal.phase(), terminal.next_deadline()),
        (Phase::Established, None)
    );
}
