//! Answered requests: the same id again gives the same answer.

use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::sql::{Value, to_u64};
use super::{Result, id};
use crate::session::SealedSecret;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of what was asked, so that an id is not used for two different requests.
    pub digest: Vec<u8>,
    pub session: Uuid,
    pub generation: u64,
    pub key: SealedSecret,
    pub at_ms: i64,
}

pub(super) const SELECT: &str = "SELECT request_id, subscriber, digest, session, generation, \
     session_key, at_ms FROM requests WHERE request_id IN";

pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO requests (request_id, subscriber, digest, session, generation, session_key, \
     at_ms) VALUES",
    "ON CONFLICT DO NOTHING RETURNING request_id",
);

impl Answer {
    pub(super) fn values(&self, subscriber: Uuid, request: Uuid) -> Vec<Value> {
        vec![
            request.into(),
            subscriber.into(),
            self.digest.as_slice().into(),
            self.session.into(),
            self.generation.into(),
            self.key.0.as_slice().into(),
            self.at_ms.into(),
        ]
    }
}

/// Subscriber and id of a request, and its answer.
pub(super) fn read(row: &AnyRow) -> Result<((Uuid, Uuid), Answer)> {
    Ok((
        (id(row, "subscriber")?, id(row, "request_id")?),
        Answer {
            digest: row.try_get("digest")?,
            session: id(row, "session")?,
            generation: to_u64(row.try_get("generation")?),
            key: SealedSecret(row.try_get("session_key")?),
            at_ms: row.try_get("at_ms")?,
        },
    ))
}
