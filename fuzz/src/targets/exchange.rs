//! Both ends of the exchange, with a line between them that loses, repeats and reorders.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use doorstep_establish::{
    Body, Decision, Initiator, Mac, Message, Nonce, Outcome, Phase, Responder, Tags,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::establish::{SESSION, offer};
use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "establish_exchange",
    about: "orders of events at both ends: one terminal, no way back, no replay",
    check,
    seeds,
    shape: Shape::Bytes,
    words: &["\u{0}\u{2}\u{4}\u{3}\u{2}"],
    inputs: 10_000,
};

/// Each byte is an event: the low nibble says which, the high one of what.
fn seeds() -> Vec<Vec<u8>> {
    vec![
        // Asked, up, accepted, confirmed, released.
        vec![0, 0x02, 0x04, 0x01, 0x13, 0x22, 0x07, 0x32],
        // Another gateway's nonce, a repeated request, a failure.
        vec![
            0, 0x02, 0x05, 0x06, 0x00, 0x12, 0x04, 0x01, 0x23, 0x02, 0x12,
        ],
        // A newer generation while the older one is established.
        vec![
            0, 0x02, 0x04, 0x01, 0x13, 0x22, 0x08, 0x06, 0x00, 0x32, 0x04,
        ],
    ]
}

const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 2]);
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 1]);
const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 3]);

struct World {
    now: Instant,
    rng: StdRng,
    initiator: Initiator,
    responder: Responder,
    /// Everything that was ever said.
    said: Vec<Body>,
    nonces: u8,
    generation: u64,
    /// Who has accepted at this initiator.
    accepted: Option<Mac>,
    /// Establishments that the terminal was to bring its links up for, and that have been superseded.
    over: HashSet<(u64, Nonce)>,
    current: Option<(u64, Nonce)>,
}

fn check(data: &[u8]) {
    let now = Instant::now();
    let mut world = World {
        now,
        rng: StdRng::seed_from_u64(1),
        initiator: Initiator::new(SESSION, 1, Nonce([0; 16]), offer(), now),
        responder: Responder::new(SESSION, 1),
        said: Vec::new(),
        nonces: 0,
        generation: 1,
        accepted: None,
        over: HashSet::new(),
        current: None,
    };
    // As many establishments as are remembered against replay would hide nothing.
    for event in data.iter().take(200) {
        world.step(event & 15, usize::from(event >> 4));
    }
}

impl World {
    fn step(&mut self, event: u8, which: usize) {
        let before = self.responder.generation();
        match event {
            0 => {
                let body = self.initiator.poll(self.now, &mut self.rng);
                assert_eq!(
                    self.initiator.next_deadline().is_none(),
                    self.accepted.is_some()
                );
                self.said.extend(body);
            }
            1 => {
                let body = self.responder.poll(self.now, &mut self.rng);
                self.said.extend(body);
            }
            2 => self.terminal_hears(which),
            3 => self.gateway_hears(which, TERMINAL),
            4 => {
                if let Some((_, nonce)) = self.current {
                    self.responder.brought_up(nonce, TERMINAL, self.now);
                }
            }
            5 => {
                if let Some((_, nonce)) = self.current {
                    let body = self.responder.failed(nonce, "no such port".to_owned());
                    self.said.extend(body);
                }
            }
            6 => self.begin_again(which),
            7 => self.said.push(self.initiator.release()),
            8 => self.generation += 1,
            9 => self.responder.raise_generation(self.generation),
            10 => self.gateway_hears(which, NEIGHBOUR),
            11 => self.said.push(self.initiator.confirm(0)),
            12 => {
                self.responder.end();
                self.retire();
            }
            _ => self.now += Duration::from_millis(100 << which.min(7)),
        }
        assert!(self.responder.generation() >= before, "a generation fell");
        if self.responder.phase() == Phase::Waiting {
            assert_eq!(self.responder.establishment(), None);
        }
        if let Some(deadline) = self.responder.next_deadline() {
            assert_eq!(self.responder.phase(), Phase::Accepting);
            assert!(
                deadline <= self.now + Duration::from_secs(60),
                "never again"
            );
        }
    }

    fn begin_again(&mut self, which: usize) {
        self.nonces += 1;
        let nonce = Nonce([self.nonces; 16]);
        let (generation, now) = (self.generation, self.now);
        self.accepted = (which > 12).then_some(TERMINAL);
        self.initiator = match self.accepted {
            Some(mac) => Initiator::accepted(SESSION, generation, nonce, offer(), mac, now),
            None => Initiator::new(SESSION, generation, nonce, offer(), now),
        };
    }

    /// Something that was said, be it long ago; most often one of the last.
    fn heard(&self, which: usize) -> Option<Body> {
        let at = self.said.len().checked_sub(1 + which)?;
        self.said.get(at).cloned()
    }

    fn gateway_hears(&mut self, which: usize, from: Mac) {
        let Some(body) = self.heard(which) else {
            return;
        };
        match self.initiator.on_body(&body, from) {
            Outcome::Accepted { mac, first } => {
                assert_eq!(mac, from, "accepted with another's address");
                assert_eq!(first, self.accepted.is_none());
                assert!(self.accepted.is_none_or(|before| before == mac));
                assert_eq!(body.nonce, self.initiator.nonce());
                assert_eq!(body.generation, self.initiator.generation());
                self.accepted = Some(mac);
                self.said.push(self.initiator.confirm(0));
            }
            Outcome::Refused { .. } => assert_eq!(self.accepted, None),
            Outcome::Ignored(_) => {}
        }
        assert_eq!(self.initiator.terminal(), self.accepted);
    }

    fn terminal_hears(&mut self, which: usize) {
        let Some(body) = self.heard(which) else {
            return;
        };
        let phase = self.responder.phase();
        match self.responder.on_body(&body, GATEWAY, Tags::NONE) {
            Decision::BringUp(establishment) => {
                let is = (establishment.generation, establishment.nonce);
                assert_eq!(is, (body.generation, body.nonce));
                assert_eq!(is.0, self.responder.generation(), "of an older generation");
                assert!(!self.over.contains(&is), "a replay brings links up");
                if self.current != Some(is) {
                    self.retire();
                }
                self.current = Some(is);
                assert_eq!(self.responder.phase(), Phase::BringingUp);
            }
            Decision::Answer(answer) => {
                assert!(matches!(answer.message, Message::Accept { .. }));
                assert_eq!(Some((answer.generation, answer.nonce)), self.current);
                self.said.push(answer);
            }
            Decision::Established => {
                assert_eq!(phase, Phase::Accepting, "without having accepted");
                assert_eq!(Some((body.generation, body.nonce)), self.current);
                assert_eq!(self.responder.phase(), Phase::Established);
            }
            Decision::TearDown => {
                assert_eq!(Some((body.generation, body.nonce)), self.current);
                self.retire();
                assert_eq!(self.responder.phase(), Phase::Waiting);
            }
            Decision::Nothing(_) => assert_eq!(self.responder.phase(), phase),
        }
    }

    fn retire(&mut self) {
        self.over.extend(self.current.take());
    }
}
