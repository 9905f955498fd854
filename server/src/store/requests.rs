//! Answered requests: the same id again gives the same answer.

use uuid::Uuid;

use super::Result;
use super::sql::{Row, Value};
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

macro_rules! select_requests {
    ($rest:literal) => {
        concat!(
            "SELECT request_id, subscriber, digest, session, generation, session_key, at_ms \
             FROM requests ",
            $rest
        )
    };
}
pub(super) use select_requests;

/// An answer stays as it was given; only its key may be sealed anew. A second answer to the same
/// request has another session or generation, and is not returned.
pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO requests (request_id, subscriber, digest, session, generation, session_key, \
     at_ms)",
    "ON CONFLICT (request_id, subscriber) DO UPDATE SET session_key = excluded.session_key \
     WHERE requests.session = excluded.session AND requests.generation = excluded.generation \
     RETURNING request_id",
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
pub(super) fn read(row: &Row) -> Result<((Uuid, Uuid), Answer)> {
    let row = &mut row.read();
    let (request, subscriber) = (row.id()?, row.id()?);
    Ok((
        (subscriber, request),
        Answer {
            digest: row.bytes()?,
            session: row.id()?,
            generation: row.number()?,
            key: SealedSecret(row.bytes()?),
            at_ms: row.int()?,
        },
    ))
}
