//! The establishment exchange: from frames to links and back.

use std::time::Duration;

use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{
    Body, Decision, Direction, Establishment, Garden as Message, OpenError, SessionKey, is_answer,
    open,
};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{Core, unix_ms};
use crate::daemon::steps::name;
use crate::state::SavedLine;

/// A request may overtake the server's answer by so much.
const HOLD: Duration = Duration::from_secs(2);
const MAX_HELD: usize = 64;

/// A datagram that no key fits yet.
#[derive(Debug)]
pub(super) struct Held {
    until: Instant,
    port: String,
    envelope: Envelope,
    datagram: Vec<u8>,
}

impl Core {
    pub(super) async fn on_frame(&mut self, port: &str, bytes: &[u8]) {
        match frame::parse(bytes) {
            Ok(parsed) => {
                self.on_datagram(port, parsed.envelope, parsed.payload)
                    .await;
            }
            Err(error) => debug!(port, %error, "frame ignored"),
        }
    }

    async fn on_datagram(&mut self, port: &str, envelope: Envelope, datagram: &[u8]) {
        if is_answer(datagram) {
            return self.on_answer(port, datagram);
        }
        let key_of = |id| -> Option<SessionKey> {
            self.sessions
                .get(&id)
                .map(|session| session.saved.key.clone())
        };
        match open(datagram, Direction::FromGateway, key_of) {
            Ok((session, body)) => self.on_body(session, port, envelope, body).await,
            Err(error @ (OpenError::UnknownSession(_) | OpenError::Tag(_))) => {
                debug!(port, %error, "held");
                if self.held.len() == MAX_HELD {
                    self.held.pop_front();
                }
                let (until, port) = (Instant::now() + HOLD, port.to_owned());
                self.held.push_back(Held {
                    until,
                    port,
                    envelope,
                    datagram: datagram.to_vec(),
                });
            }
            Err(OpenError::Envelope) => match Message::decode(datagram) {
                Some(Message::Offer(offer)) => self.on_garden_offer(port, envelope, offer).await,
                _ => debug!(port, "datagram ignored: it is no gateway's"),
            },
            Err(error) => debug!(port, %error, "datagram ignored"),
        }
    }

    /// Looks again at what no key fitted: there is a new one.
    pub(super) async fn retry_held(&mut self) {
        let now = Instant::now();
        for held in std::mem::take(&mut self.held) {
            if held.until > now {
                self.on_datagram(&held.port, held.envelope, &held.datagram)
                    .await;
            }
        }
    }

    async fn on_body(&mut self, id: Uuid, port: &str, envelope: Envelope, body: Body) {
        self.name_former(id);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let decision = session
            .responder
            .on_body(&body, envelope.src_mac, envelope.tags);
        self.note_slot(id, &body);
        match decision {
            Decision::BringUp(establishment) => self.bring_up(id, port, establishment).await,
            Decision::Answer(body) => self.send(id, &body).await,
            Decision::Established => self.on_established(id).await,
            Decision::TearDown => self.on_torn_down(id).await,
            Decision::Nothing(reason) => debug!(session = %id, %reason, "message changes nothing"),
        }
    }

    async fn bring_up(&mut self, id: Uuid, port: &str, establishment: Establishment) {
        let Some(mac) = self.ports.get(port).map(|open| open.mac) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let nonce = establishment.nonce;
        session.step(name::BRINGING_UP, unix_ms());
        session.tell(
            name::BRINGING_UP,
            &format!(
                "{} on {port}, {}",
                establishment.offer.gateway_id, establishment.tags
            ),
        );
        session.saved.generation = session.responder.generation();
        let line = SavedLine {
            port: port.to_owned(),
            establishment,
            confirmed_at_unix_ms: None,
            probe_slot: None,
        };
        let before = session.saved.line.replace(line);

        let result = self.apply().await;
        self.name_former(id);
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let answer = match result {
            Ok(()) => {
                session.problem.clear();
                session.tell(name::ACCEPTING, "");
                session.step(name::ACCEPTING, unix_ms());
                let now = std::time::Instant::now();
                session.responder.brought_up(nonce, mac, now);
                session.responder.poll(now, &mut rand::rng())
            }
            Err(error) => {
                warn!(session = %id, %error, "links could not be brought up");
                session.problem = error.to_string();
                session.tell(name::FAILED, &error.to_string());
                session.responder.failed(nonce, error.to_string())
            }
        };
        if let Some(body) = answer {
            self.send(id, &body).await;
        }
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.problem.is_empty()
        {
            // The refusal went out on the new line; the links are those of the old one.
            session.saved.line = before;
        }
        self.save();
    }

    async fn on_established(&mut self, id: Uuid) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let now = unix_ms();
        if let Some(line) = &mut session.saved.line {
            line.confirmed_at_unix_ms = Some(now);
        }
        session.saved.since_unix_ms.get_or_insert(now);
        session.step(name::ESTABLISHED, now);
        session.passage(&self.traces, "establish");
        info!(session = %id, "session established");
        // From now on it is for the session to reach it.
        self.garden.server_reached(&session.saved.operator);
        self.succeed_former(id);
        if self.sessions.len() > 1 {
            // The order of age decides about the home's default route.
            self.relink().await;
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            session.finish(&self.wan, name::ESTABLISHED, "");
        }
        self.save();
    }

    async fn on_torn_down(&mut self, id: Uuid) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let moving = session
            .saved
            .line
            .as_ref()
            .is_some_and(|line| line.establishment.generation < session.saved.generation);
        info!(session = %id, moving, "released by the gateway");
        if moving {
            // The next gateway's request replaces the links in one change.
            return;
        }
        session.saved.line = None;
        self.relink().await;
        self.save();
    }
}
