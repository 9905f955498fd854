//! What the operator's own people do.

use uuid::Uuid;

use super::{Engine, EngineError, Result, now_ms};
use crate::identity::{IdCard, Phone};
use crate::session::machine::{Event, Outcome};
use crate::store::{Subscriber, Who};
use crate::vault::{Purpose, Secret};

impl Engine {
    /// Goes on without a receipt.
    pub async fn force(&self, session: Uuid) -> Result<()> {
        self.operate(session, "force-session", false).await
    }

    /// Ends a session on the operator's behalf.
    pub async fn disconnect(&self, session: Uuid) -> Result<()> {
        self.operate(session, "disconnect-session", true).await
    }

    async fn operate(&self, session: Uuid, action: &'static str, release: bool) -> Result<()> {
        let at_ms = now_ms();
        self.store
            .change(session, move |work| {
                let row = work.session(session)?.ok_or(EngineError::NotFound(
                    "session_id: there is no such session",
                ))?;
                let event = if release {
                    Event::Release {
                        generation: work.take_generations(row.session.subscriber, 1)?,
                    }
                } else {
                    Event::Force
                };
                let outcome = Self::drive(work, &row.session, event, Who::Operator, at_ms)?;
                if let Outcome::Denied(denied) = outcome {
                    return Err(denied.into());
                }
                work.audit(
                    Who::Operator,
                    action,
                    Some(row.session.subscriber),
                    Some(session),
                    &format!(
                        "was {} at {} with generation {}",
                        row.session.state, row.session.connection.gateway, row.session.generation
                    ),
                    at_ms,
                );
                Ok(())
            })
            .await
    }

    /// A new secret in place of a lost one.
    pub async fn reset_secret(&self, subscriber: Uuid) -> Result<Secret> {
        let secret = Secret::generate()?;
        let hash = secret.hash();
        self.store
            .change(subscriber, move |work| {
                if !work.set_secret_hash(subscriber, &hash)? {
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
