//! What the operator's own people do.

use uuid::Uuid;

use super::{Engine, EngineError, Result, Wakes, now_ms};
use crate::identity::{IdCard, Phone};
use crate::session::machine::{Event, Outcome};
use crate::store::{SubscriberRow, Who};
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

    async fn operate(&self, session: Uuid, action: &str, release: bool) -> Result<()> {
        let at_ms = now_ms();
        let mut tx = self.store.begin().await?;
        let row = tx.session(session).await?.ok_or(EngineError::NotFound(
            "session_id: there is no such session",
        ))?;
        let event = if release {
            Event::Release {
                generation: tx.take_generations(row.session.subscriber, 1).await?,
            }
        } else {
            Event::Force
        };
        let mut wakes = Wakes::default();
        let outcome = self
            .drive(
                &mut tx,
                &mut wakes,
                &row.session,
                event,
                Who::Operator,
                at_ms,
            )
            .await?;
        if let Outcome::Denied(denied) = outcome {
            return Err(denied.into());
        }
        tx.audit(
            Who::Operator,
            action,
            Some(row.session.subscriber),
            Some(session),
            &format!(
                "was {} at {} with generation {}",
                row.session.state, row.session.connection.gateway, row.session.generation
            ),
            at_ms,
        )
        .await?;
        self.commit(tx, wakes).await
    }

    /// A new secret in place of a lost one.
    pub async fn reset_secret(&self, subscriber: Uuid) -> Result<Secret> {
        let secret = Secret::generate()?;
        let mut tx = self.store.begin().await?;
        if !tx.set_secret_hash(subscriber, &secret.hash()).await? {
            return Err(EngineError::NotFound(
                "subscriber_id: there is no such subscriber",
            ));
        }
        tx.audit(
            Who::Operator,
            "reset-secret",
            Some(subscriber),
            None,
            "",
            now_ms(),
        )
        .await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// A subscriber's numbers for people to see: phone, ID card; empty where there is none.
    pub fn masked_numbers(&self, row: &SubscriberRow) -> Result<(String, String)> {
        let read = |purpose, sealed: &Option<Vec<u8>>| -> Result<Option<String>> {
            sealed
                .as_ref()
                .map(|sealed| {
                    let opened = self.vault.open(purpose, row.id, sealed)?;
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
