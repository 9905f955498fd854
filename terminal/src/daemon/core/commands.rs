//! What clients ask, and what the server answers.

use doorstep_proto::v1 as pb;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Core;
use crate::daemon::events::{Command, Event, ReleaseReply};
use crate::daemon::steps::{Listener, name, server_state, wait};
use crate::server::{Server, Update, code, describe, has_answered};
use crate::state::{Credentials, Secret};

type Reply<T> = oneshot::Sender<Result<T, Status>>;

impl Core {
    pub(super) async fn on_command(&mut self, command: Command) {
        match command {
            Command::Register { request, reply } => self.register(request, reply),
            Command::Request { request, steps } => {
                let listener = Listener::new(steps, request.timeout_ms, request.no_wait);
                self.request(request, listener);
            }
            Command::Plans { request, reply } => self.plans(&request, reply),
            Command::Release { request, reply } => self.release(&request, reply),
            Command::Alive { reply } => {
                let _ = reply.send(());
            }
            Command::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Command::Apply { request, reply } => {
                let _ = reply.send(self.on_apply(&request).await);
            }
            Command::Confirm { refuse, run, reply } => {
                let _ = reply.send(self.on_confirm(refuse, run).await);
            }
        }
    }

    fn register(&mut self, request: pb::TerminalRegisterRequest, reply: Reply<String>) {
        let (operator, server) = match self.unregistered_at(&request.operator) {
            Ok(found) => found,
            Err(status) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        if request.dry_run {
            let _ = reply.send(Ok(String::new()));
            return;
        }
        self.want(&operator);
        let events = self.events.clone();
        tokio::spawn(async move {
            let request = pb::RegisterRequest {
                phone: request.phone,
                id_card: request.id_card,
                verification_code: request.verification_code,
            };
            let answer = server.register(request).await;
            let event = Event::Registered {
                operator,
                answer,
                reply,
            };
            let _ = events.send(event).await;
        });
    }

    fn unregistered_at(&self, named: &str) -> Result<(String, Server), Status> {
        let (name, operator) = self.operator_named(named)?;
        if let Some(credentials) = &operator.credentials {
            let subscriber = &credentials.subscriber_id;
            let text = format!("registered already, as subscriber {subscriber}");
            return Err(Status::already_exists(text));
        }
        Ok((name.to_owned(), operator.server(name)?.clone()))
    }

    pub(super) fn on_registered(
        &mut self,
        operator: &str,
        answer: Result<pb::RegisterResponse, Status>,
    ) -> Result<String, Status> {
        if has_answered(&answer) {
            self.garden.server_reached(operator);
        }
        let answer = answer.map_err(|status| {
            // Whether a code is needed stands in the details.
            let details = status.details().to_vec().into();
            Status::with_details(code(&status), self.why_unanswered(&status), details)
        })?;
        let malformed = || Status::internal("the server's answer has no credentials");
        let credentials = answer.credentials.ok_or_else(malformed)?;
        let subscriber_id = credentials.subscriber_id;
        let secret = Secret(Zeroizing::new(credentials.secret));
        self.operators
            .entry(operator.into())
            .or_default()
            .credentials = Some(Credentials {
            subscriber_id: subscriber_id.clone(),
            secret,
        });
        self.save();
        info!(operator, subscriber = subscriber_id, "registered");
        Ok(subscriber_id)
    }

    pub(super) async fn on_followed(&mut self, id: Uuid, update: Update) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let operator = &session.saved.operator;
        let status = match update {
            Update::Connected => {
                session.followed = Ok(());
                return self.garden.server_reached(operator);
            }
            Update::Lost(detail) => {
                session.followed = Err(detail);
                return self.garden.server_lost(operator, Instant::now());
            }
            Update::Status(status) => status,
        };
        let state = status.state();
        if state == pb::SessionState::Released {
            return self.forget(id, &status.detail).await;
        }
        if status.generation < session.saved.generation
            && !matches!(
                state,
                pb::SessionState::Disconnecting | pb::SessionState::DisconnectingUnconfirmed
            )
        {
            return;
        }
        session.server_state = server_state(state);
        session.server_detail.clone_from(&status.detail);
        session.gateway_id.clone_from(&status.gateway_id);
        match state {
            pb::SessionState::Refused => {
                warn!(session = %id, detail = status.detail, "refused by the gateway");
                session.finish(&self.wan, name::REFUSED, &status.detail);
                session.responder.end();
                if session.saved.line.take().is_some() {
                    self.relink().await;
                    self.save();
                }
            }
            // The gateway says so itself, on the line.
            pb::SessionState::Established => {}
            _ => session.tell(server_state(state), &status.detail),
        }
    }

    fn release(&mut self, request: &pb::TerminalReleaseRequest, reply: ReleaseReply) {
        let id = match self.session_named(&request.session_id) {
            Ok(id) => id,
            Err(status) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        if request.dry_run {
            let answer = self.account_of(id).map(|_| pb::TerminalReleaseResponse {
                session_id: id.to_string(),
                released: false,
            });
            let _ = reply.send(answer);
            return;
        }
        let deadline = Instant::now() + wait(request.timeout_ms);
        self.ask_release(id, deadline, reply, request.no_wait);
    }

    pub(super) fn ask_release(
        &self,
        id: Uuid,
        deadline: Instant,
        reply: ReleaseReply,
        no_wait: bool,
    ) {
        let (server, credentials) = match self.account_of(id) {
            Ok(account) => account,
            Err(status) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        let release = pb::ReleaseRequest {
            credentials: Some(credentials),
            session_id: id.to_string(),
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            let answer = server.release(release, deadline).await;
            let event = Event::Release {
                session: id,
                answer,
                reply,
                no_wait,
            };
            let _ = events.send(event).await;
        });
    }

    pub(super) async fn on_release(
        &mut self,
        id: Uuid,
        answer: Result<pb::ReleaseResponse, Status>,
        reply: ReleaseReply,
        no_wait: bool,
    ) {
        let done = pb::TerminalReleaseResponse {
            session_id: id.to_string(),
            released: true,
        };
        match answer {
            // It has ended before, and the stream has not told us.
            Err(status) if status.code() == Code::NotFound => {
                self.forget(id, "the server does not know the session")
                    .await;
                let _ = reply.send(Ok(done));
            }
            Err(status) => {
                let text = format!("the server: {}", describe(&status));
                let _ = reply.send(Err(Status::new(code(&status), text)));
            }
            Ok(_) => match self.sessions.get_mut(&id) {
                None => {
                    let _ = reply.send(Ok(done));
                }
                Some(session) => {
                    session.releasing = true;
                    if no_wait {
                        let _ = reply.send(Ok(pb::TerminalReleaseResponse {
                            released: false,
                            ..done
                        }));
                    } else {
                        let deadline = Instant::now() + wait(0);
                        session.release_replies.push((deadline, reply));
                    }
                }
            },
        }
    }

    /// The server of a session, and what that one knows the home by.
    fn account_of(&self, id: Uuid) -> Result<(Server, pb::Credentials), Status> {
        let session = self.sessions.get(&id);
        let name = session.map_or("", |session| &session.saved.operator);
        let (name, operator) = self.operator_named(name)?;
        operator.account(name)
    }

    pub(super) fn session_named(&self, text: &str) -> Result<Uuid, Status> {
        if text.is_empty() {
            let mut ids = self.sessions.keys();
            return match (ids.next(), ids.next()) {
                (Some(id), None) => Ok(*id),
                (None, _) => Err(Status::not_found("there is no session")),
                _ => Err(Status::invalid_argument(
                    "there are several sessions; name one with --session (`status` lists them)",
                )),
            };
        }
        let id = text
            .parse()
            .ok()
            .filter(|id| self.sessions.contains_key(id));
        id.ok_or_else(|| Status::not_found(format!("there is no session {text}; see `status`")))
    }

    /// Ends the waits that have taken too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for (id, session) in &mut self.sessions {
            let view = session.view(&self.wan, false);
            session.listeners.retain(|listener| {
                let over = listener.deadline() <= now;
                if over {
                    listener.time_out(Some(view.clone()));
                }
                !over && !listener.is_gone()
            });
            let replies = std::mem::take(&mut session.release_replies);
            let (over, waiting): (Vec<_>, Vec<_>) = replies
                .into_iter()
                .partition(|(deadline, _)| *deadline <= now);
            session.release_replies = waiting;
            for (_, reply) in over {
                let text = format!(
                    "the gateway has not confirmed the release of session {id} yet; it goes on, \
                     see `status`"
                );
                let _ = reply.send(Err(Status::deadline_exceeded(text)));
            }
        }
    }

    fn status(&self) -> pb::TerminalStatus {
        let mut sessions: Vec<_> = self.sessions.values().collect();
        sessions.sort_by_key(|session| session.age());
        let oldest = sessions.iter().position(|session| session.is_online());
        let views = sessions
            .iter()
            .enumerate()
            .map(|(at, session)| session.view(&self.wan, Some(at) == oldest));
        pb::TerminalStatus {
            sessions: views.collect(),
            operators: self.operator_views(),
            repairs: self.repairs.count,
            last_repair_unix_ms: self.repairs.last_unix_ms,
            confirm_by_unix_ms: self
                .declared
                .applied
                .pending
                .as_ref()
                .map_or(0, |wait| wait.until_unix_ms),
            rooms: self.rooms_status(),
            garden: self.garden_status(),
            last_sealed_location_id: self.last_sealed.clone().unwrap_or_default(),
            ports: self
                .wan
                .ports
                .iter()
                .map(|name| self.port_status(name))
                .collect(),
        }
    }

    fn port_status(&self, name: &str) -> pb::TerminalPort {
        let open = self.ports.get(name);
        pb::TerminalPort {
            name: name.to_owned(),
            listening: open.is_some(),
            mac: open.map(|open| open.mac.to_string()).unwrap_or_default(),
            detail: self.closed_ports.get(name).cloned().unwrap_or_default(),
        }
    }
}
