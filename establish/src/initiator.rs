//! The gateway's side of one establishment.

use std::time::Instant;

use rand::Rng;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::{Body, Mac, Message, Nonce, Offer};

/// Asks the terminal on a line to take up a session, until it does.
///
/// Send what [`poll`](Self::poll) returns, again at [`next_deadline`](Self::next_deadline). On
/// [`Outcome::Accepted`] open the fast path, then send [`confirm`](Self::confirm): once for each
/// Accept that comes, because the last one may have been lost.
#[derive(Clone, Debug)]
pub struct Initiator {
    session: Uuid,
    generation: u64,
    nonce: Nonce,
    offer: Offer,
    backoff: Backoff,
    accepted: Option<Mac>,
}

/// What a message from the terminal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The terminal's links are up.
    Accepted {
        /// The source of its frames from now on.
        mac: Mac,
        /// False for a repetition: only the Confirm is to be sent again.
        first: bool,
    },
    /// The terminal cannot; it is asked again.
    Refused {
        /// Why, in the terminal's words.
        detail: String,
    },
    /// Nothing to be done.
    Ignored(Ignored),
}

/// Why a message changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Belongs to another generation of the session.
    #[error("of another generation")]
    Generation,
    /// Belongs to another establishment: an answer that is late, or replayed.
    #[error("of another establishment")]
    Nonce,
    /// The address accepted with is not that of the frame, or not a station's.
    #[error("the accepted MAC address is not the one that sent it")]
    Mac,
    /// Another terminal on the line was faster.
    #[error("another terminal on this line has accepted already")]
    Taken,
    /// Something only a gateway says, or a refusal after an acceptance.
    #[error("out of place")]
    OutOfPlace,
}

impl Initiator {
    /// Begins at `now`. `nonce` must be fresh.
    #[must_use]
    pub fn new(session: Uuid, generation: u64, nonce: Nonce, offer: Offer, now: Instant) -> Self {
        Self {
            session,
            generation,
            nonce,
            offer,
            backoff: Backoff::new(now),
            accepted: None,
        }
    }

    /// Goes on after a restart of the gateway: `mac` has accepted before.
    #[must_use]
    pub fn accepted(
        session: Uuid,
        generation: u64,
        nonce: Nonce,
        offer: Offer,
        mac: Mac,
        now: Instant,
    ) -> Self {
        Self {
            accepted: Some(mac),
            ..Self::new(session, generation, nonce, offer, now)
        }
    }

    /// The session to be established.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.session
    }

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// This establishment's nonce.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// What is offered.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Who has accepted.
    #[must_use]
    pub fn terminal(&self) -> Option<Mac> {
        self.accepted
    }

    /// What to send at `now`, if anything.
    pub fn poll(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Body> {
        let due = self.accepted.is_none() && self.backoff.take(now, rng);
        due.then(|| self.body(Message::Request(self.offer.clone())))
    }

    /// When to call [`poll`](Self::poll) next; never, once the terminal has accepted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.accepted.is_none().then(|| self.backoff.due())
    }

    /// Takes an authenticated message that came in a frame from `src_mac`.
    pub fn on_body(&mut self, body: &Body, src_mac: Mac) -> Outcome {
        if body.generation != self.generation {
            return Outcome::Ignored(Ignored::Generation);
        }
        if body.nonce != self.nonce {
            return Outcome::Ignored(Ignored::Nonce);
        }
        match (&body.message, self.accepted) {
            (
                Message::Accept {
                    terminal_mac: mac, ..
                },
                _,
            ) if *mac != src_mac || !mac.is_station() => Outcome::Ignored(Ignored::Mac),
            (
                &Message::Accept {
                    terminal_mac: mac, ..
                },
                None,
            ) => {
                self.accepted = Some(mac);
                Outcome::Accepted { mac, first: true }
            }
            (
                &Message::Accept {
                    terminal_mac: mac, ..
                },
                Some(before),
            ) if mac == before => Outcome::Accepted { mac, first: false },
            (Message::Accept { .. }, Some(_)) => Outcome::Ignored(Ignored::Taken),
            (Message::Refuse { detail }, None) => Outcome::Refused {
                detail: detail.clone(),
            },
            _ => Outcome::Ignored(Ignored::OutOfPlace),
        }
    }

    /// Says that the fast path is open, with the session in that slot.
    #[must_use]
    pub fn confirm(&self, slot: u32) -> Body {
        self.body(Message::Confirm { slot: Some(slot) })
    }

    /// Says that the session has ended here.
    #[must_use]
    pub fn release(&self) -> Body {
        self.body(Message::Release)
    }

    fn body(&self, message: Message) -> Body {
        Body {
            generation: self.generation,
            nonce: self.nonce,
            message,
        }
    }
}
