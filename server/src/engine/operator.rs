//! What the operator's own people do.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_location::LocationId;
use uuid::Uuid;

use super::access::Ask;
use super::accounts::allowed;
use super::{Engine, EngineError, Result, now_ms};
use crate::account::{Actor, Right};
use crate::identity::{IdCard, Phone};
use crate::session::Establishment;
use crate::session::machine::{self, Event};
use crate::store::{Outcome, Subscriber, Who};
use crate::vault::{Purpose, Secret};

/// Audit action: a session's end on the operator's behalf.
const DISCONNECT: &str = "disconnect-session";

impl Engine {
    /// Goes on without a receipt.
    pub async fn force(&self, actor: Actor, session: Uuid, run: Run) -> Result<Outcome> {
        let who = allowed(actor, Right::Force)?;
        self.operate(who, session, "force-session", run).await
    }

    /// Ends a session on the operator's behalf.
    pub async fn disconnect(&self, actor: Actor, session: Uuid, run: Run) -> Result<Outcome> {
        let who = allowed(actor, Right::Serve)?;
        self.operate(who, session, DISCONNECT, run).await
    }

    /// Moves a session that comes up by DHCP, on the operator's behalf.
    pub async fn relocate(
        self: &Arc<Self>,
        actor: Actor,
        session: Uuid,
        location: LocationId,
        run: Run,
    ) -> Result<Outcome> {
        let who = allowed(actor, Right::Serve)?;
        let engine = Arc::clone(self);
        let at_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                let session = work.session(session)?.map(|row| row.session);
                let session = session.ok_or(EngineError::NotFound(
                    "session_id: there is no such session",
                ))?;
                if session.establishment != Establishment::Dhcp {
                    return Err(EngineError::Precondition(
                        "the session's terminal asks for its moves itself; only a session that \
                         comes up by dhcp is moved by the operator"
                            .to_owned(),
                    ));
                }
                let subscriber = work.subscriber(session.subscriber)?;
                let gateway = engine.config.gateway_for(&location);
                let ask = Ask {
                    subscriber: &subscriber
                        .ok_or(EngineError::NotFound("there is no such subscriber"))?,
                    location: &location,
                    gateway: gateway.ok_or(EngineError::NoGateway)?,
                    plan: None,
                    who,
                    at_ms,
                };
                let (id, generation, _) = engine.start_move(work, &ask, &session)?;
                work.audit(
                    who,
                    "move-session",
                    Some(session.subscriber),
                    Some(id),
                    &format!("to {} with generation {generation}", ask.gateway.id),
                    at_ms,
                );
                Ok(work.outcome(id)?)
            })
            .await
    }

    async fn operate(
        &self,
        who: Who,
        session: Uuid,
        action: &'static str,
        run: Run,
    ) -> Result<Outcome> {
        let at_ms = now_ms();
        self.store
            .change_or_try(run, move |work| {
                let row = work.session(session)?.ok_or(EngineError::NotFound(
                    "session_id: there is no such session",
                ))?;
                let event = if action == DISCONNECT {
                    Event::Release {
                        generation: work.take_generations(row.session.subscriber, 1)?,
                    }
                } else {
                    Event::Force
                };
                let driven = Self::drive(work, &row.session, event, who, at_ms)?;
                if let machine::Outcome::Denied(denied) = driven {
                    return Err(denied.into());
                }
                work.audit(
                    who,
                    action,
                    Some(row.session.subscriber),
                    Some(session),
                    &format!(
                        "was {} at {} with generation {}",
                        row.session.state, row.session.connection.gateway, row.session.generation
                    ),
                    at_ms,
                );
                Ok(work.outcome(session)?)
            })
            .await
    }

    /// Whose a phone number is; that somebody has found out is written down.
    pub async fn find_subscriber(&self, actor: Actor, phone: &Phone) -> Result<Option<Uuid>> {
        let who = allowed(actor, Right::Serve)?;
        let Some(id) = self.subscriber_by_phone(phone).await? else {
            return Ok(None);
        };
        self.store
            .change(move |work| {
                work.audit(who, "find-subscriber", Some(id), None, "", now_ms());
                Ok::<_, EngineError>(Some(id))
            })
            .await
    }

    /// A new secret in place of a lost one. Whoever has found a phone must not go on with it either.
    pub async fn reset_secret(&self, subscriber: Uuid, run: Run) -> Result<Secret> {
        let secret = Secret::generate()?;
        let hash = secret.hash();
        self.store
            .change_or_try(run, move |work| {
                let is_known = work.set_phones_ms(subscriber, now_ms())?;
                if !is_known || !work.set_secret_hash(subscriber, &hash)? {
                    return Err(EngineError::NotFound(
                        "subscriber_id: there is no such subscriber",
                    ));
                }
                work.audit(
                    Who::Operator,
                    "reset-secret",
                    Some(subscriber),
                    None,
                    "",
                    now_ms(),
                );
                Ok(())
            })
            .await?;
        Ok(secret)
    }

    /// A subscriber's numbers for people to see: phone, ID card; empty where there is none.
    pub fn masked_numbers(&self, row: &Subscriber) -> Result<(String, String)> {
        let vault = self.vault();
        let read = |purpose, sealed: &Option<Vec<u8>>| -> Result<Option<String>> {
            sealed
                .as_ref()
                .map(|sealed| {
                    let opened = vault.open(purpose, row.id, sealed)?;
                    Ok(String::from_utf8_lossy(&opened).into_owned())
                })
                .transpose()
        };
        Ok((
            read(Purpose::Phone, &row.phone_sealed)?
                .map(|text| Phone::from_stored(text).masked())
                .unwrap_or_default(),
            read(Purpose::IdCard, &row.id_card_sealed)?
                .map(|text| IdCard::from_stored(text).masked())
                .unwrap_or_default(),
        ))
    }
}
