//! What subscribers ask for.

use std::sync::Arc;

use doorstep_location::LocationId;
use doorstep_location::sealed::{Form, OpenError};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::plans::chosen_plan;
use super::{AUDIT_LEGACY_SEAL, Engine, EngineError, Result, now_ms};
use crate::config::{Gateway, Plan};
use crate::identity::{IdCard, Phone};
use crate::session::machine::{Event, Outcome};
use crate::session::{Connection, Establishment, SealedSecret, Session, State, Target};
use crate::store::{Answer, Need, SessionRow, Subscriber, Who, Work};
use crate::vault::{Purpose, Secret};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    Connect,
    Move,
    Additional,
}

/// A checked request for access.
pub struct AccessRequest {
    pub kind: AccessKind,
    pub sealed_location_id: String,
    pub session: Option<Uuid>,
    pub request: Uuid,
    /// What the session is to be on. None: a new one is on the subscriber's plan, another one stays as
    /// it is.
    pub plan: Option<String>,
    /// How a new session comes up.
    pub establishment: Establishment,
}

/// The answer to a request for access.
#[derive(Debug)]
pub struct Granted {
    pub session: Uuid,
    pub generation: u64,
    pub key: Secret,
}

impl Engine {
    /// Makes a subscriber known.
    pub async fn register(
        &self,
        phone: Option<Phone>,
        id_card: Option<IdCard>,
    ) -> Result<(Uuid, Secret)> {
        let (new, secret) = self.new_subscriber(phone.as_ref(), id_card.as_ref())?;
        let id = new.id;
        self.store
            .change_if_not_busy(move |work| {
                if work.insert_subscriber(&new, now_ms())? {
                    Ok(())
                } else {
                    Err(EngineError::AlreadyRegistered)
                }
            })
            .await?;
        tracing::debug!(subscriber = %id, "subscriber registered");
        Ok((id, secret))
    }

    /// Whether the credentials are good.
    pub async fn authenticate(&self, subscriber: Uuid, secret: &Secret) -> Result<()> {
        match self.store.subscriber_secret(subscriber).await? {
            Some(hash) if secret.matches(&hash) => Ok(()),
            _ => Err(EngineError::Unauthenticated),
        }
    }

    /// First connection, move, or additional one; durable when it returns. A refusal is remembered.
    pub async fn request_access(
        self: &Arc<Self>,
        subscriber: Uuid,
        request: AccessRequest,
    ) -> Result<Granted> {
        let asked = self.grant_access(subscriber, request).await;
        match &asked {
            Ok(_) => self.refused_requests.forget(subscriber),
            Err(error) => self.refused_requests.note(subscriber, now_ms(), error),
        }
        asked
    }

    async fn grant_access(
        self: &Arc<Self>,
        subscriber: Uuid,
        request: AccessRequest,
    ) -> Result<Granted> {
        let at_ms = now_ms();
        let (location, form) = self.open_seal(subscriber, &request, at_ms).await?;
        if request.establishment == Establishment::Dhcp {
            self.has_no_other_router(subscriber, &location).await?;
        }
        let engine = Arc::clone(self);
        let answer = self
            .store
            .change_if_not_busy(move |work| {
                work.expect([
                    Need::Subscriber(subscriber),
                    Need::SessionsOf(subscriber),
                    Need::Answer {
                        subscriber,
                        request: request.request,
                    },
                ])?;
                let row = work.subscriber(subscriber)?;
                let row = row.ok_or(EngineError::Unauthenticated)?;
                let gateway = engine.config.gateway_for(&location);
                let ask = Ask {
                    subscriber: &row,
                    location: &location,
                    gateway: gateway.ok_or(EngineError::NoGateway)?,
                    plan: None,
                    who: Who::Subscriber,
                    at_ms,
                };
                engine.decide_access(work, &ask, &request, form)
            })
            .await?;
        self.granted(&answer)
    }

    /// Whoever has a picture of a neighbour's sticker must not wait there for the neighbour's router.
    async fn has_no_other_router(&self, subscriber: Uuid, location: &LocationId) -> Result<()> {
        let there = self.store.sessions_at(location.as_str()).await?;
        let is_others = |row: &SessionRow| {
            let session = &row.session;
            session.subscriber != subscriber
                && session.establishment == Establishment::Dhcp
                && session.state.is_live()
        };
        if there.iter().any(is_others) {
            return Err(EngineError::Precondition(
                "somebody else has a connection at this door; ask the operator".to_owned(),
            ));
        }
        Ok(())
    }

    fn decide_access(
        &self,
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        request: &AccessRequest,
        form: Form,
    ) -> Result<Answer> {
        let (subscriber, at_ms) = (ask.subscriber.id, ask.at_ms);
        let digest = digest(request, ask.location);
        if let Some(answer) = work.answer(subscriber, request.request)? {
            if answer.digest != digest {
                return Err(EngineError::Invalid(
                    "request_id: was used for another request already; choose a new one".to_owned(),
                ));
            }
            return Ok(answer);
        }
        if form == Form::Legacy {
            work.audit(
                Who::Subscriber,
                AUDIT_LEGACY_SEAL,
                Some(subscriber),
                None,
                "accepted",
                at_ms,
            );
        }
        let plans = self.plans();
        let own = ask.subscriber.plan.as_deref();
        let plan = request.plan.as_deref();
        let plan = plan
            .map(|name| chosen_plan(&plans, own, name))
            .transpose()?;
        let ask = &Ask { plan, ..*ask };
        Self::can_come_up(ask, request.establishment)?;
        let sessions = work.sessions_of(subscriber)?;
        let (session, generation, key) = match request.kind {
            AccessKind::Move => {
                let row = pick(&sessions, request.session)?;
                if request.establishment == Establishment::Dhcp
                    && row.session.establishment != Establishment::Dhcp
                {
                    return Err(EngineError::Precondition(
                        "the session's terminal asks for its moves itself".to_owned(),
                    ));
                }
                self.start_move(work, ask, &row.session)?
            }
            AccessKind::Connect => {
                let opened = match request.establishment {
                    Establishment::Terminal => Self::opened_for(work, ask, &sessions)?,
                    Establishment::Dhcp => None,
                };
                if let Some(opened) = opened {
                    opened
                } else if sessions.iter().any(|row| row.session.state.is_live()) {
                    return Err(EngineError::Precondition(
                        "the subscriber has a session already; ask for a move, or for an additional one"
                            .to_owned(),
                    ));
                } else {
                    Self::supersede(work, ask, &sessions)?;
                    self.connect(work, ask, request.establishment)?
                }
            }
            AccessKind::Additional => {
                let limit = self.config.limits.sessions_per_subscriber;
                if sessions.len() >= limit {
                    return Err(EngineError::Exhausted(format!(
                        "the subscriber has {limit} sessions, which is the limit; release one \
                         (refused ones count) or ask the operator"
                    )));
                }
                self.connect(work, ask, request.establishment)?
            }
        };
        if let Some(plan) = plan {
            Self::put_on(work, ask, session, plan)?;
        }
        let answer = Answer {
            digest,
            session,
            generation,
            key,
            at_ms,
        };
        work.record_answer(subscriber, request.request, &answer);
        Ok(answer)
    }

    /// A session that is new has the plan already; one that moves, or that the operator has opened, gets
    /// it now.
    fn put_on(work: &mut Work<'_>, ask: &Ask<'_>, session: Uuid, plan: &Plan) -> Result<()> {
        let Plan { name, service, .. } = plan;
        let row = work.session(session)?;
        let row = row.ok_or(EngineError::NotFound(NO_SUCH_SESSION))?;
        if row.session.service.plan.as_ref() != Some(name) {
            Self::serve(work, &row, (*service, Some(name)), ask.who, ask.at_ms)?;
        }
        work.audit(
            ask.who,
            "choose-plan",
            Some(ask.subscriber.id),
            Some(session),
            &format!("{name}: {service}"),
            ask.at_ms,
        );
        Ok(())
    }

    /// Ends a session; `None` means the only one.
    pub async fn release(&self, subscriber: Uuid, session: Option<Uuid>) -> Result<Uuid> {
        let at_ms = now_ms();
        self.store
            .change_if_not_busy(move |work| {
                work.expect([Need::Subscriber(subscriber), Need::SessionsOf(subscriber)])?;
                let sessions = work.sessions_of(subscriber)?;
                let row = pick(&sessions, session)?;
                let generation = work.take_generations(subscriber, 1)?;
                let event = Event::Release { generation };
                match Self::drive(work, &row.session, event, Who::Subscriber, at_ms)? {
                    Outcome::Denied(denied) => Err(denied.into()),
                    _ => Ok(row.session.id),
                }
            })
            .await
    }

    /// Whether a session is this subscriber's.
    pub async fn owns(&self, subscriber: Uuid, session: Uuid) -> Result<()> {
        match self.store.session(session).await? {
            Some(row) if row.session.subscriber == subscriber => Ok(()),
            _ => Err(EngineError::NotFound(NO_SUCH_SESSION)),
        }
    }

    async fn open_seal(
        &self,
        subscriber: Uuid,
        request: &AccessRequest,
        at_ms: i64,
    ) -> Result<(LocationId, Form)> {
        match self.keyring.open(&request.sealed_location_id) {
            Ok(opened) => Ok((opened.location, opened.form)),
            Err(error) => {
                if matches!(error, OpenError::Legacy(_)) {
                    self.store
                        .change_if_not_busy(move |work| {
                            work.audit(
                                Who::Subscriber,
                                AUDIT_LEGACY_SEAL,
                                Some(subscriber),
                                None,
                                "refused",
                                at_ms,
                            );
                            Ok::<(), EngineError>(())
                        })
                        .await?;
                }
                Err(EngineError::Invalid(format!("sealed_location_id: {error}")))
            }
        }
    }

    fn granted(&self, answer: &Answer) -> Result<Granted> {
        Ok(Granted {
            session: answer.session,
            generation: answer.generation,
            key: self.open_session_key(answer.session, answer.generation, &answer.key)?,
        })
    }

    /// The key of a connection, for the two ends that share it.
    pub fn open_session_key(
        &self,
        session: Uuid,
        generation: u64,
        sealed: &SealedSecret,
    ) -> Result<Secret> {
        let bytes = self
            .vault()
            .open(Purpose::SessionKey { generation }, session, &sealed.0)?;
        Secret::from_slice(&bytes).ok_or(EngineError::Vault(crate::vault::VaultError::Open))
    }

    /// Releases what was refused before.
    pub(super) fn supersede(
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        refused: &[SessionRow],
    ) -> Result<()> {
        for refused in refused {
            let generation = work.take_generations(ask.subscriber.id, 1)?;
            let event = Event::Release { generation };
            Self::drive(work, &refused.session, event, ask.who, ask.at_ms)?;
        }
        Ok(())
    }

    /// Routers that ask by DHCP are told of an IPv4 address.
    pub(super) fn can_come_up(ask: &Ask<'_>, establishment: Establishment) -> Result<()> {
        if establishment == Establishment::Dhcp && ask.gateway.ipv4.is_none() {
            return Err(EngineError::Precondition(format!(
                "establishment: gateway {} has no ipv4_pool, of which DHCP gives addresses",
                ask.gateway.id
            )));
        }
        Ok(())
    }

    pub(super) fn connect(
        &self,
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        establishment: Establishment,
    ) -> Result<(Uuid, u64, SealedSecret)> {
        let id = Uuid::now_v7();
        let subscriber = ask.subscriber.id;
        let addresses = Self::lease(work, ask.gateway, subscriber, id)?;
        let generation = work.take_generations(subscriber, 1)?;
        let key = self.new_key(id, generation)?;
        let session = Session {
            id,
            subscriber,
            generation,
            state: State::Connecting,
            establishment,
            connection: Connection {
                location: ask.location.clone(),
                gateway: ask.gateway.id.clone(),
                addresses,
                key: key.clone(),
            },
            target: None,
            service: self.grant(ask),
            detail: format!("waits for gateway {}", ask.gateway.id),
        };
        work.insert_session(session, ask.who, ask.at_ms)?;
        Ok((id, generation, key))
    }

    pub(super) fn start_move(
        &self,
        work: &mut Work<'_>,
        ask: &Ask<'_>,
        session: &Session,
    ) -> Result<(Uuid, u64, SealedSecret)> {
        // Asked first: a move that is denied anyway must not take addresses.
        if session.state.is_disconnecting() {
            let denied = if session.target.is_some() {
                crate::session::machine::Denied::Moving
            } else {
                crate::session::machine::Denied::Releasing
            };
            return Err(denied.into());
        }
        let subscriber = ask.subscriber.id;
        // Who moves within one gateway keeps the addresses; who was refused has none.
        let connection = &session.connection;
        let addresses =
            if connection.gateway == ask.gateway.id && connection.addresses.place.is_some() {
                connection.addresses
            } else {
                Self::lease(work, ask.gateway, subscriber, session.id)?
            };
        let generation = work.take_generations(subscriber, 2)?;
        let key = self.new_key(session.id, generation)?;
        let target = Target {
            generation,
            connection: Connection {
                location: ask.location.clone(),
                gateway: ask.gateway.id.clone(),
                addresses,
                key: key.clone(),
            },
        };
        let event = Event::Move {
            disconnect_generation: generation - 1,
            target,
        };
        match Self::drive(work, session, event, ask.who, ask.at_ms)? {
            Outcome::Denied(denied) => Err(denied.into()),
            _ => Ok((session.id, generation, key)),
        }
    }

    fn new_key(&self, session: Uuid, generation: u64) -> Result<SealedSecret> {
        let key = Secret::generate()?;
        Ok(SealedSecret(self.vault().seal(
            Purpose::SessionKey { generation },
            session,
            key.as_bytes(),
        )?))
    }
}

const NO_SUCH_SESSION: &str = "session_id: the subscriber has no such session";

/// What a request comes down to once its seal is open.
pub(super) struct Ask<'a> {
    pub subscriber: &'a Subscriber,
    pub location: &'a LocationId,
    pub gateway: &'a Gateway,
    /// That a new session is put on; none: the subscriber's.
    pub plan: Option<&'a Plan>,
    pub who: Who,
    pub at_ms: i64,
}

/// The session meant: the one named, or the only one.
fn pick(sessions: &[SessionRow], named: Option<Uuid>) -> Result<&SessionRow> {
    if let Some(id) = named {
        return sessions
            .iter()
            .find(|row| row.session.id == id)
            .ok_or(EngineError::NotFound(
                "session_id: the subscriber has no such session, or it has been released",
            ));
    }
    let live: Vec<_> = sessions
        .iter()
        .filter(|row| row.session.state.is_live())
        .collect();
    let candidates = if live.is_empty() {
        sessions.iter().collect()
    } else {
        live
    };
    match candidates.as_slice() {
        [] => Err(EngineError::Precondition(
            "the subscriber has no session".to_owned(),
        )),
        [only] => Ok(only),
        several => Err(EngineError::Precondition(format!(
            "session_id: the subscriber has {} sessions; say which",
            several.len()
        ))),
    }
}

fn digest(request: &AccessRequest, location: &LocationId) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(match request.kind {
        AccessKind::Connect => b"c",
        AccessKind::Move => b"m",
        AccessKind::Additional => b"a",
    });
    hasher.update(request.session.unwrap_or_default().as_bytes());
    hasher.update(location.to_string());
    // Without a plan it is what earlier versions have made.
    if let Some(plan) = &request.plan {
        hasher.update(b"\0");
        hasher.update(plan);
    }
    if request.establishment == Establishment::Dhcp {
        hasher.update(b"\0dhcp");
    }
    hasher.finalize().to_vec()
}
