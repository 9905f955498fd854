//! What subscribers ask for.

use doorstep_location::LocationId;
use doorstep_location::sealed::{Form, OpenError};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{AUDIT_LEGACY_SEAL, Engine, EngineError, Result, Wakes, now_ms};
use crate::config::Gateway;
use crate::identity::{IdCard, Phone};
use crate::pool;
use crate::session::machine::{Event, Outcome};
use crate::session::{Addresses, Connection, SealedSecret, Session, State, Target};
use crate::store::leases::Family;
use crate::store::{Answer, NewSubscriber, SessionRow, Tx, Who};
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
        let id = Uuid::new_v4();
        let secret = Secret::generate()?;
        let sealed = |purpose, value: &str| -> Result<_> {
            Ok((
                self.vault.index(purpose, value),
                self.vault.seal(purpose, id, value.as_bytes())?,
            ))
        };
        let new = NewSubscriber {
            id,
            phone: phone
                .map(|phone| sealed(Purpose::Phone, phone.as_str()))
                .transpose()?,
            id_card: id_card
                .map(|card| sealed(Purpose::IdCard, card.as_str()))
                .transpose()?,
            secret_hash: secret.hash(),
        };
        let mut tx = self.store.begin().await?;
        if !tx.insert_subscriber(&new, now_ms()).await? {
            return Err(EngineError::AlreadyRegistered);
        }
        tx.commit().await?;
        tracing::info!(subscriber = %id, "subscriber registered");
        Ok((id, secret))
    }

    /// Whether the credentials are good.
    pub async fn authenticate(&self, subscriber: Uuid, secret: &Secret) -> Result<()> {
        match self.store.secret_hash(subscriber).await? {
            Some(hash) if secret.matches(&hash) => Ok(()),
            _ => Err(EngineError::Unauthenticated),
        }
    }

    /// First connection, move, or additional one; durable when it returns.
    pub async fn request_access(
        &self,
        subscriber: Uuid,
        request: AccessRequest,
    ) -> Result<Granted> {
        let at_ms = now_ms();
        let (location, form) = self.open_seal(subscriber, &request, at_ms).await?;
        let gateway = self
            .config
            .gateway_for(&location)
            .ok_or(EngineError::NoGateway)?;
        let digest = digest(&request, &location);

        let mut tx = self.store.begin().await?;
        if let Some(answer) = tx.answer(subscriber, request.request).await? {
            if answer.digest != digest {
                return Err(EngineError::Invalid(
                    "request_id: was used for another request already; choose a new one".to_owned(),
                ));
            }
            return self.granted(&answer);
        }
        if form == Form::Legacy {
            tx.audit(
                Who::Subscriber,
                AUDIT_LEGACY_SEAL,
                Some(subscriber),
                None,
                "accepted",
                at_ms,
            )
            .await?;
        }
        let sessions = tx.sessions_of(subscriber).await?;
        let mut wakes = Wakes::default();
        let ask = Ask {
            subscriber,
            location,
            gateway,
            at_ms,
        };
        let (session, generation, key) = match request.kind {
            AccessKind::Move => {
                let row = pick(&sessions, request.session)?;
                self.start_move(&mut tx, &mut wakes, &ask, &row.session)
                    .await?
            }
            AccessKind::Connect => {
                if sessions.iter().any(|row| row.session.state.is_live()) {
                    return Err(EngineError::Precondition(
                        "the subscriber has a session already; ask for a move, or for an additional one"
                            .to_owned(),
                    ));
                }
                for refused in &sessions {
                    // What was refused before is superseded.
                    let generation = tx.take_generations(subscriber, 1).await?;
                    self.drive(
                        &mut tx,
                        &mut wakes,
                        &refused.session,
                        Event::Release { generation },
                        Who::Subscriber,
                        at_ms,
                    )
                    .await?;
                }
                self.connect(&mut tx, &mut wakes, &ask).await?
            }
            AccessKind::Additional => {
                let limit = self.config.limits.sessions_per_subscriber;
                if sessions.len() >= limit {
                    return Err(EngineError::Exhausted(format!(
                        "the subscriber has {limit} sessions, which is the limit; release one \
                         (refused ones count) or ask the operator"
                    )));
                }
                self.connect(&mut tx, &mut wakes, &ask).await?
            }
        };
        let answer = Answer {
            digest,
            session,
            generation,
            key,
        };
        tx.record_answer(subscriber, request.request, &answer, at_ms)
            .await?;
        self.commit(tx, wakes).await?;
        self.granted(&answer)
    }

    /// Ends a session; `None` means the only one.
    pub async fn release(&self, subscriber: Uuid, session: Option<Uuid>) -> Result<Uuid> {
        let at_ms = now_ms();
        let mut tx = self.store.begin().await?;
        let sessions = tx.sessions_of(subscriber).await?;
        let row = pick(&sessions, session)?;
        let mut wakes = Wakes::default();
        let generation = tx.take_generations(subscriber, 1).await?;
        let outcome = self
            .drive(
                &mut tx,
                &mut wakes,
                &row.session,
                Event::Release { generation },
                Who::Subscriber,
                at_ms,
            )
            .await?;
        if let Outcome::Denied(denied) = outcome {
            return Err(denied.into());
        }
        self.commit(tx, wakes).await?;
        Ok(row.session.id)
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
                    let mut tx = self.store.begin().await?;
                    tx.audit(
                        Who::Subscriber,
                        AUDIT_LEGACY_SEAL,
                        Some(subscriber),
                        None,
                        "refused",
                        at_ms,
                    )
                    .await?;
                    tx.commit().await?;
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
            .vault
            .open(Purpose::SessionKey { generation }, session, &sealed.0)?;
        Secret::from_slice(&bytes).ok_or(EngineError::Vault(crate::vault::VaultError::Open))
    }

    async fn connect(
        &self,
        tx: &mut Tx,
        wakes: &mut Wakes,
        ask: &Ask<'_>,
    ) -> Result<(Uuid, u64, SealedSecret)> {
        let id = Uuid::now_v7();
        let generation = tx.take_generations(ask.subscriber, 1).await?;
        let service = self.grant(tx, ask.subscriber).await?;
        let mut session = Session {
            id,
            subscriber: ask.subscriber,
            generation,
            state: State::Connecting,
            connection: Connection {
                location: ask.location.clone(),
                gateway: ask.gateway.id.clone(),
                addresses: Addresses::default(),
                key: self.new_key(id, generation)?,
            },
            target: None,
            service,
            detail: format!("waits for gateway {}", ask.gateway.id),
        };
        // A lease names its session, so the row must be there first; it gets its addresses in the
        // same transaction.
        tx.insert_session(&session, Who::Subscriber, ask.at_ms)
            .await?;
        session.connection.addresses = self.lease(tx, ask.gateway, id).await?;
        tx.set_addresses(id, &session.connection.addresses).await?;
        wakes.gateways.push((ask.gateway.id.clone(), id));
        wakes.watches.push(id);
        tracing::info!(session = %id, generation, gateway = ask.gateway.id, "session requested");
        Ok((id, generation, session.connection.key))
    }

    async fn start_move(
        &self,
        tx: &mut Tx,
        wakes: &mut Wakes,
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
        let generation = tx.take_generations(ask.subscriber, 2).await?;
        let key = self.new_key(session.id, generation)?;
        let target = Target {
            generation,
            connection: Connection {
                location: ask.location.clone(),
                gateway: ask.gateway.id.clone(),
                addresses: self.lease(tx, ask.gateway, session.id).await?,
                key: key.clone(),
            },
        };
        let event = Event::Move {
            disconnect_generation: generation - 1,
            target,
        };
        match self
            .drive(tx, wakes, session, event, Who::Subscriber, ask.at_ms)
            .await?
        {
            Outcome::Denied(denied) => Err(denied.into()),
            _ => Ok((session.id, generation, key)),
        }
    }

    fn new_key(&self, session: Uuid, generation: u64) -> Result<SealedSecret> {
        let key = Secret::generate()?;
        Ok(SealedSecret(self.vault.seal(
            Purpose::SessionKey { generation },
            session,
            key.as_bytes(),
        )?))
    }

    async fn lease(&self, tx: &mut Tx, gateway: &Gateway, session: Uuid) -> Result<Addresses> {
        let mut addresses = Addresses::default();
        if let Some(ipv4) = &gateway.ipv4 {
            let number = tx
                .lease(&gateway.id, Family::Ipv4, &ipv4.pool, session)
                .await?;
            addresses.ipv4 = pool::ipv4_address(number);
        }
        if let Some(ipv6) = &gateway.ipv6 {
            let number = tx
                .lease(&gateway.id, Family::Ipv6, &ipv6.pool, session)
                .await?;
            addresses.ipv6 = pool::ipv6_prefix(number, ipv6.delegated_prefix_len);
        }
        if let Some(lines) = &gateway.ipv6_line {
            let number = tx
                .lease(&gateway.id, Family::Ipv6Line, &lines.pool, session)
                .await?;
            addresses.ipv6_line = pool::ipv6_prefix(number, 64);
        }
        Ok(addresses)
    }
}

const NO_SUCH_SESSION: &str = "session_id: the subscriber has no such session";

/// What a request comes down to once its seal is open.
struct Ask<'a> {
    subscriber: Uuid,
    location: LocationId,
    gateway: &'a Gateway,
    at_ms: i64,
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
    hasher.finalize().to_vec()
}
