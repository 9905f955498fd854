//! Requests for access: kept until they are answered, so that no end of this daemon leaves the server
//! with a session that nobody here has the key of.

use std::time::Duration;

use doorstep_establish::SessionKey;
use doorstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Core, unix_ms};
use crate::config::is_switch;
use crate::daemon::events::Event;
use crate::daemon::steps::{Listener, name};
use crate::server::{code, has_answered, is_transient};
use crate::state::{OpenRequest, SavedSession, Wish};

/// How long a daemon asks again what a former one got no answer to.
pub(super) const ASK_AGAIN_FOR: Duration = Duration::from_secs(24 * 3600);
/// After so long it asks no more: the server keeps answers for some weeks, and would carry the request
/// out once more after that.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

impl Core {
    pub(super) fn request(&mut self, request: pb::TerminalServiceRequest, mut listener: Listener) {
        if is_switch(self.home.as_ref()) {
            let text = "with mode = \"bridge\" in [home] the terminal has no session of its own; have \
                        the operator open the line for DHCP, or set mode = \"routed\"";
            return listener.fail(Code::FailedPrecondition, text);
        }
        let wish = match request.kind() {
            pb::TerminalRequestKind::Connect => Wish::Connect,
            pb::TerminalRequestKind::Move => Wish::Move,
            pb::TerminalRequestKind::Additional => Wish::Additional,
            pb::TerminalRequestKind::Switch => Wish::Switch,
            pb::TerminalRequestKind::Unspecified => {
                return listener.fail(Code::InvalidArgument, "the kind of request is missing");
            }
        };
        let dry_run = request.dry_run;
        let asked = match self.composed(wish, request) {
            Ok(asked) => asked,
            Err(status) => return listener.fail(status.code(), status.message()),
        };
        if dry_run {
            let detail = format!("of operator {}", asked.operator);
            return listener.finish(name::REQUESTED, &detail, None);
        }
        // What got no answer may have been carried out; under its id that is told now.
        let asked = match self.unanswered.take() {
            Some(former) if former.is_like(&asked) => former,
            _ => asked,
        };
        self.last_sealed = Some(asked.sealed_location_id.clone());
        self.requests.push(asked.clone());
        // Before the server can hear of it.
        self.save();
        listener.tell(name::REQUESTED, "");
        let deadline = listener.deadline();
        self.ask(&asked, listener, deadline);
    }

    fn composed(
        &self,
        wish: Wish,
        request: pb::TerminalServiceRequest,
    ) -> Result<OpenRequest, Status> {
        let mut session_id = request.session_id;
        let mut operator = request.operator;
        match wish {
            Wish::Move if operator.is_empty() => {
                // An unknown session is for the server to refuse: it may know it.
                if let Ok(id) = self.session_named(&session_id)
                    && let Some(session) = self.sessions.get(&id)
                {
                    operator.clone_from(&session.saved.operator);
                }
            }
            Wish::Switch => session_id = self.former(&session_id)?.to_string(),
            _ => {}
        }
        let (name, operator) = self.operator_named(&operator)?;
        operator.account(name)?;
        Ok(OpenRequest {
            // Grows with time: servers keep requests in the order of their ids.
            request_id: Uuid::now_v7(),
            operator: name.to_owned(),
            wish,
            sealed_location_id: request.sealed_location_id,
            session_id,
            plan: request.plan,
            asked_at_unix_ms: unix_ms(),
        })
    }

    /// Asks what a former daemon asked and got no answer to.
    pub(super) fn ask_again(&mut self) {
        let now = unix_ms();
        self.requests.retain(|asked| {
            let age_ms = now.saturating_sub(asked.asked_at_unix_ms).max(0);
            let is_young = Duration::from_millis(age_ms.unsigned_abs()) < FORGOTTEN_AFTER;
            if !is_young {
                warn!(request = %asked.request_id, "too old to be asked again: forgotten");
            }
            is_young
        });
        for asked in self.requests.clone() {
            info!(request = %asked.request_id, "asking again what got no answer");
            // Who waited for it is gone.
            let listener = Listener::new(mpsc::channel(1).0, 0, true);
            self.ask(&asked, listener, Instant::now() + ASK_AGAIN_FOR);
        }
    }

    fn ask(&mut self, asked: &OpenRequest, listener: Listener, deadline: Instant) {
        let named = self.operator_named(&asked.operator);
        let account = named.and_then(|(name, operator)| operator.account(name));
        let (server, credentials) = match account {
            Ok(account) => account,
            Err(status) => {
                // It stays among the open ones: the operator may be configured again.
                warn!(request = %asked.request_id, detail = status.message(), "not asked");
                return listener.fail(status.code(), status.message());
            }
        };
        let kind = match asked.wish {
            Wish::Connect => pb::AccessKind::Connect,
            Wish::Move => pb::AccessKind::Move,
            Wish::Additional | Wish::Switch => pb::AccessKind::Additional,
        };
        // What ends may be another operator's, whom it does not concern.
        let session_id = match asked.wish {
            Wish::Switch => String::new(),
            _ => asked.session_id.clone(),
        };
        let access = pb::RequestAccessRequest {
            credentials: Some(credentials),
            kind: kind.into(),
            sealed_location_id: asked.sealed_location_id.clone(),
            session_id,
            request_id: asked.request_id.to_string(),
            plan: asked.plan.clone(),
        };
        self.want(&asked.operator);
        let (events, request) = (self.events.clone(), asked.request_id);
        tokio::spawn(async move {
            let answer = server.request_access(access, deadline).await;
            let event = Event::Access {
                request,
                answer,
                listener,
            };
            let _ = events.send(event).await;
        });
    }

    /// It is not asked again by a later daemon.
    fn close_request(&mut self, request: Uuid) -> Option<OpenRequest> {
        let mut requests = self.requests.iter();
        let at = requests.position(|open| open.request_id == request)?;
        Some(self.requests.remove(at))
    }

    pub(super) async fn on_access(
        &mut self,
        request: Uuid,
        answer: Result<pb::RequestAccessResponse, Status>,
        mut listener: Listener,
    ) {
        // An answer comes to what is open, and only once.
        let Some(asked) = self.close_request(request) else {
            return;
        };
        if has_answered(&answer) {
            self.garden.server_reached(&asked.operator);
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                if is_transient(&status) {
                    self.unanswered = Some(asked);
                }
                self.save();
                let detail = format!("the server: {}", self.why_unanswered(&status));
                warn!(%request, detail, "the request failed");
                return listener.fail(code(&status), &detail);
            }
        };
        let key = SessionKey::from_slice(&answer.session_key);
        let (Ok(id), Ok(key)) = (answer.session_id.parse::<Uuid>(), key) else {
            self.save();
            let detail = "the server's answer has no valid session id and key";
            return listener.fail(Code::Internal, detail);
        };
        let (generation, asked_at_unix_ms) = (answer.generation, asked.asked_at_unix_ms);
        match self.sessions.get_mut(&id) {
            // No operator may lay hands on another's session.
            Some(session) if session.saved.operator != asked.operator => {
                self.save();
                let detail = "the server's answer names a session of another operator";
                return listener.fail(Code::Internal, detail);
            }
            Some(session) if generation >= session.saved.generation => {
                session.saved.generation = generation;
                session.saved.key = key;
                session.responder.raise_generation(generation);
                session.server_state = "";
            }
            // A newer request has been answered meanwhile.
            Some(_) => {}
            None => {
                let slot = self.free_slot();
                let (since_unix_ms, line) = (None, None);
                self.add_session(SavedSession {
                    session_id: id,
                    operator: asked.operator,
                    replaces: former_of(asked.wish, &asked.session_id),
                    generation,
                    key,
                    slot,
                    since_unix_ms,
                    line,
                });
            }
        }
        info!(session = %id, generation, "the server has accepted the request");
        listener.generation = generation;
        listener.tell(name::ACCEPTED, &format!("session {id}"));
        if let Some(session) = self.sessions.get_mut(&id) {
            session.steps.clear();
            session.step(name::REQUESTED, asked_at_unix_ms);
            session.step(name::ACCEPTED, unix_ms());
            if listener.no_wait {
                listener.finish(name::ACCEPTED, "", Some(session.view(&self.wan, false)));
            } else {
                session.listeners.push(listener);
            }
        }
        // The gateway may be waiting already: its request first, the disk afterwards.
        self.retry_held().await;
        self.save();
    }
}

/// The session that is to end with the one that is asked for.
fn former_of(wish: Wish, session: &str) -> Option<Uuid> {
    match wish {
        Wish::Switch => session.parse().ok(),
        Wish::Connect | Wish::Move | Wish::Additional => None,
    }
}
