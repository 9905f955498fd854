//! Answered requests: the same id again gives the same answer.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Result, StoreError, Tx, to_i64, to_u64};
use crate::session::SealedSecret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of what was asked, so that an id is not used for two different requests.
    pub digest: Vec<u8>,
    pub session: Uuid,
    pub generation: u64,
    pub key: SealedSecret,
}

impl Tx {
    pub async fn answer(&mut self, subscriber: Uuid, request: Uuid) -> Result<Option<Answer>> {
        let row = sqlx::query(
            "SELECT digest, session, generation, session_key FROM requests \
             WHERE subscriber = ? AND request_id = ?",
        )
        .bind(subscriber.to_string())
        .bind(request.to_string())
        .fetch_optional(&mut *self.inner)
        .await?;
        row.map(|row| {
            let session: String = row.try_get("session")?;
            Ok(Answer {
                digest: row.try_get("digest")?,
                session: session.parse().map_err(|_| StoreError::Unreadable {
                    table: "requests",
                    id: request.to_string(),
                    column: "session",
                })?,
                generation: to_u64(row.try_get("generation")?),
                key: SealedSecret(row.try_get("session_key")?),
            })
        })
        .transpose()
    }

    pub async fn record_answer(
        &mut self,
        subscriber: Uuid,
        request: Uuid,
        answer: &Answer,
        at_ms: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO requests (subscriber, request_id, digest, session, generation, \
             session_key, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(subscriber.to_string())
        .bind(request.to_string())
        .bind(&answer.digest)
        .bind(answer.session.to_string())
        .bind(to_i64(answer.generation))
        .bind(&answer.key.0)
        .bind(at_ms)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
