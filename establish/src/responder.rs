//! The terminal's side of one session.

use std::collections::VecDeque;
use std::time::Instant;

use rand::Rng;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::{Body, Former, Mac, Message, Nonce, Offer, Tags};

/// Answers the gateways that ask the terminal to take up a session.
///
/// On [`Decision::BringUp`] change the links, then tell [`brought_up`](Self::brought_up) or
/// [`failed`](Self::failed). Send what [`poll`](Self::poll) returns, again at
/// [`next_deadline`](Self::next_deadline).
///
/// An Accept is repeated until it is confirmed, for ever but ever more rarely (every 5 s): a
/// gateway that heard it asks no more, so giving up could leave the two ends of one mind without
/// knowing it.
#[derive(Debug)]
pub struct Responder {
    session: Uuid,
    generation: u64,
    current: Option<(Establishment, State)>,
    /// Nonces of earlier establishments of this generation: their requests are replays.
    retired: VecDeque<Nonce>,
    former: Option<Former>,
}

/// So many establishments of one generation are remembered against replay.
const MAX_RETIRED: usize = 256;

/// One establishment, as the terminal holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Establishment {
    /// The session's generation.
    pub generation: u64,
    /// The gateway's nonce.
    pub nonce: Nonce,
    /// What the gateway offers.
    pub offer: Offer,
    /// The tags under which the request arrived.
    pub tags: Tags,
    /// The source of the request.
    pub gateway_mac: Mac,
}

#[derive(Debug)]
enum State {
    BringingUp,
    Failed,
    Accepting { mac: Mac, backoff: Backoff },
    Established { mac: Mac },
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No request has come.
    Waiting,
    /// Links are being changed.
    BringingUp,
    /// Links could not be changed; the next request tries again.
    Failed,
    /// Links are up; the gateway has not confirmed.
    Accepting,
    /// Traffic flows.
    Established,
}

/// What to do about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Change the links to this, then report.
    BringUp(Establishment),
    /// Send this.
    Answer(Body),
    /// The gateway has confirmed: the session is online.
    Established,
    /// The session has ended here: take its links down.
    TearDown,
    /// Nothing to be done.
    Nothing(Unmoved),
}

/// Why a message changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    /// An older generation than the one known.
    #[error("of an older generation")]
    Stale,
    /// A request that was answered before and has been superseded or released.
    #[error("a replay of an earlier establishment")]
    Replayed,
    /// The links are being changed for this very request.
    #[error("already being carried out")]
    Busy,
    /// Confirms or releases something else than the current establishment.
    #[error("not of the current establishment")]
    NotCurrent,
    /// A confirmation that is known, or something only a terminal says.
    #[error("says nothing new")]
    NothingNew,
}

impl Responder {
    /// Waits for a request of at least this generation.
    #[must_use]
    pub fn new(session: Uuid, generation: u64) -> Self {
        Self {
            session,
            generation,
            current: None,
            retired: VecDeque::new(),
            former: None,
        }
    }

    /// Goes on after a restart of the terminal, whose links are up again with address `mac`.
    #[must_use]
    pub fn restored(
        session: Uuid,
        generation: u64,
        establishment: Establishment,
        mac: Mac,
        confirmed: bool,
        now: Instant,
    ) -> Self {
        let state = if confirmed {
            State::Established { mac }
        } else {
            State::Accepting {
                mac,
                backoff: Backoff::new(now),
            }
        };
        let generation = generation.max(establishment.generation);
        Self {
            current: Some((establishment, state)),
            ..Self::new(session, generation)
        }
    }

    /// The session answered for.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.session
    }

    /// The newest generation known.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How far the session is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.current {
            None => Phase::Waiting,
            Some((_, State::BringingUp)) => Phase::BringingUp,
            Some((_, State::Failed)) => Phase::Failed,
            Some((_, State::Accepting { .. })) => Phase::Accepting,
            Some((_, State::Established { .. })) => Phase::Established,
        }
    }

    /// The establishment that is being carried out or has been.
    #[must_use]
    pub fn establishment(&self) -> Option<&Establishment> {
        self.current
            .as_ref()
            .map(|(establishment, _)| establishment)
    }

    /// The server has announced this generation: requests of older ones are refused from now on.
    pub fn raise_generation(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            self.retired.clear();
        }
    }

    /// Another session on the same line is to end when this one begins, or none is any more. Each
    /// Accept says so from now on; while the gateway has not confirmed one, the other session goes
    /// on.
    pub fn replace(&mut self, former: Option<Former>) {
        self.former = former;
    }

    /// Takes an authenticated message that came from `gateway_mac` under `tags`.
    pub fn on_body(&mut self, body: &Body, gateway_mac: Mac, tags: Tags) -> Decision {
        match &body.message {
            Message::Request(offer) => {
                let establishment = Establishment {
                    generation: body.generation,
                    nonce: body.nonce,
                    offer: offer.clone(),
                    tags,
                    gateway_mac,
                };
                self.on_request(establishment)
            }
            Message::Confirm { .. } if !self.is_current(body) => {
                Decision::Nothing(Unmoved::NotCurrent)
            }
            Message::Confirm { .. } => match &mut self.current {
                Some((_, state @ State::Accepting { .. })) => {
                    if let State::Accepting { mac, .. } = *state {
                        *state = State::Established { mac };
                    }
                    Decision::Established
                }
                _ => Decision::Nothing(Unmoved::NothingNew),
            },
            Message::Release if !self.is_current(body) => Decision::Nothing(Unmoved::NotCurrent),
            Message::Release => {
                self.retire();
                Decision::TearDown
            }
            Message::Accept { .. } | Message::Refuse { .. } => {
                Decision::Nothing(Unmoved::NothingNew)
            }
        }
    }

    fn on_request(&mut self, request: Establishment) -> Decision {
        if request.generation < self.generation {
            return Decision::Nothing(Unmoved::Stale);
        }
        if let Some((current, state)) = &mut self.current
            && (current.generation, current.nonce) == (request.generation, request.nonce)
        {
            return match state {
                State::BringingUp => Decision::Nothing(Unmoved::Busy),
                State::Failed => {
                    *state = State::BringingUp;
                    *current = request.clone();
                    Decision::BringUp(request)
                }
                &mut (State::Accepting { mac, .. } | State::Established { mac }) => {
                    let former = self.former.as_ref();
                    Decision::Answer(accept(self.session, current, mac, former))
                }
            };
        }
        if self.retired.contains(&request.nonce) {
            return Decision::Nothing(Unmoved::Replayed);
        }
        self.retire();
        self.raise_generation(request.generation);
        self.current = Some((request.clone(), State::BringingUp));
        Decision::BringUp(request)
    }

    fn is_current(&self, body: &Body) -> bool {
        self.establishment()
            .is_some_and(|e| (e.generation, e.nonce) == (body.generation, body.nonce))
    }

    fn retire(&mut self) {
        if let Some((old, _)) = self.current.take() {
            if self.retired.len() == MAX_RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(old.nonce);
        }
    }

    /// The links of the establishment with `nonce` are up, with address `mac`; false if another
    /// establishment has begun meanwhile.
    pub fn brought_up(&mut self, nonce: Nonce, mac: Mac, now: Instant) -> bool {
        match &mut self.current {
            Some((current, state @ State::BringingUp)) if current.nonce == nonce => {
                *state = State::Accepting {
                    mac,
                    backoff: Backoff::new(now),
                };
                true
            }
            _ => false,
        }
    }

    /// The links of the establishment with `nonce` could not be changed: what to send, unless
    /// another establishment has begun meanwhile.
    pub fn failed(&mut self, nonce: Nonce, detail: String) -> Option<Body> {
        match &mut self.current {
            Some((current, state @ State::BringingUp)) if current.nonce == nonce => {
                *state = State::Failed;
                let generation = current.generation;
                Some(Body {
                    generation,
                    nonce,
                    message: Message::Refuse { detail },
                })
            }
            _ => None,
        }
    }

    /// The Accept of an establishment that is confirmed, for a gateway that has become silent: one that
    /// has the session confirms it again.
    #[must_use]
    pub fn accept_again(&self) -> Option<Body> {
        match &self.current {
            Some((current, State::Established { mac })) => {
                Some(accept(self.session, current, *mac, self.former.as_ref()))
            }
            _ => None,
        }
    }

    /// The session has ended by other means: the server said so.
    pub fn end(&mut self) {
        self.retire();
    }

    /// What to send at `now`, if anything.
    pub fn poll(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Body> {
        match &mut self.current {
            Some((current, State::Accepting { mac, backoff })) => {
                let former = self.former.as_ref();
                let due = backoff.take(now, rng);
                due.then(|| accept(self.session, current, *mac, former))
            }
            _ => None,
        }
    }

    /// When to call [`poll`](Self::poll) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.current {
            Some((_, State::Accepting { backoff, .. })) => Some(backoff.due()),
            _ => None,
        }
    }
}

fn accept(session: Uuid, establishment: &Establishment, mac: Mac, former: Option<&Former>) -> Body {
    let (generation, nonce) = (establishment.generation, establishment.nonce);
    Body {
        generation,
        nonce,
        message: Message::Accept {
            terminal_mac: mac,
            replaces: former.map(|former| former.replaced_by(session, generation, nonce)),
        },
    }
}
