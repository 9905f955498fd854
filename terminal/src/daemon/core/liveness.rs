//! A gateway that is silent: noticed, told, and asked about. The links stay as they are, because
//! nothing better is there, and because its fast path may be back in a moment.

use std::sync::atomic::Ordering;

use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{Body, Message, Phase};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{Core, unix_ms};
use crate::daemon::alive::Alive;

impl Core {
    /// What a gateway has confirmed of the establishment in force: where it has the session, unless it
    /// is an older one.
    pub(super) fn note_slot(&mut self, id: Uuid, body: &Body) {
        let Message::Confirm { slot } = &body.message else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(line) = &mut session.saved.line else {
            return;
        };
        let with = &line.establishment;
        let is_current = (with.generation, with.nonce) == (body.generation, body.nonce);
        if is_current && line.probe_slot != *slot {
            line.probe_slot = *slot;
            self.save();
        }
    }

    /// When a gateway is to be asked again, or is silent.
    pub(super) fn liveness_timer(&self) -> Option<Instant> {
        let sessions = self.sessions.values();
        let asked = sessions.filter_map(|session| session.alive.as_ref());
        asked.map(Alive::next_deadline).min()
    }

    /// Asks the gateways of established sessions whether those are alive.
    pub(super) async fn ask_gateways(&mut self, now: Instant) {
        let ids: Vec<Uuid> = self.sessions.keys().copied().collect();
        for id in ids {
            self.ask_gateway(id, now).await;
        }
    }

    async fn ask_gateway(&mut self, id: Uuid, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let saved = &session.saved;
        let is_established = session.responder.phase() == Phase::Established;
        let line = saved.line.as_ref().filter(|_| is_established);
        let Some((line, slot)) = line.and_then(|line| Some((line, line.probe_slot?))) else {
            session.alive = None;
            return;
        };
        let with = &line.establishment;
        if !session
            .alive
            .as_ref()
            .is_some_and(|alive| alive.is_of(with, slot))
        {
            session.alive = Some(Alive::new(id, &saved.key, with, slot, now));
        }
        let Some(alive) = &mut session.alive else {
            return;
        };
        let due = alive.due(now, unix_ms(), &mut rand::rng());
        if due.silent {
            session.asked_about = false;
            let (gateway, port) = (&with.offer.gateway_id, &line.port);
            warn!(session = %id, gateway, port, "the gateway is silent; the links stay");
        }
        if let (Some(question), Some(open)) = (due.question, self.ports.get(&line.port)) {
            let tags = self.wan.tags.resolve(with.tags);
            let envelope = Envelope::to_gateway(open.mac, with.gateway_mac, tags);
            self.counts.probes_sent.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = open.port.send(&frame::build(&envelope, &question)).await {
                debug!(port = line.port, %error, "cannot ask the gateway");
            }
        }
        if due.ask_again {
            self.ask_about(id).await;
        }
    }

    /// Asks the session's server what has become of it, and, on the line, the gateway's daemon, which
    /// may have something to say where its fast path has not.
    async fn ask_about(&mut self, id: Uuid) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let accept = session.responder.accept_again();
        let name = session.saved.operator.clone();
        // Once it has answered it tells by itself what becomes of the session.
        let has_answered = session.asked_about && session.followed.is_ok();
        let operator = self.operators.get(&name);
        let client = operator.and_then(|operator| operator.client.as_ref());
        if let Some(client) = client.filter(|_| !has_answered) {
            info!(session = %id, operator = name, "asking the server again");
            session.asked_about = true;
            session.followed = Err("asking again: the gateway is silent".into());
            // What was connected over the silent line would notice only after its keepalive.
            client.server.renew();
            self.garden.server_lost(&name, Instant::now());
        }
        if let Some(body) = accept {
            self.send(id, &body).await;
        }
    }

    /// A gateway's fast path has answered.
    pub(super) fn on_answer(&mut self, port: &str, datagram: &[u8]) {
        let now = Instant::now();
        for (id, session) in &mut self.sessions {
            let line = session.saved.line.as_ref();
            let Some(alive) = session
                .alive
                .as_mut()
                .filter(|_| line.is_some_and(|l| l.port == port))
            else {
                continue;
            };
            match alive.on_datagram(datagram, now) {
                Some(None) => {
                    self.counts.probes_answered.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Some(Some(silence)) => {
                    self.counts.probes_answered.fetch_add(1, Ordering::Relaxed);
                    let silent_ms = silence.as_millis();
                    return info!(session = %id, port, silent_ms, "the gateway is heard again");
                }
                None => {}
            }
        }
        debug!(port, "an answer to no question of ours");
    }
}
