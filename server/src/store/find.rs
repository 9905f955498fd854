//! Subscribers by their numbers, and sessions by where and whose they are.

use std::collections::HashMap;

use uuid::Uuid;

use super::numbers::SELECT_CLAIMS;
use super::sessions::{read, select_sessions};
use super::sql::{Statement, Value};
use super::{Result, SessionRow, Store};

/// A session is at one location, and, while it moves, is to be at another one. No index has the
/// latter; but whatever moves waits for a receipt (`work::waits`).
pub(super) const AT: &str = concat!(
    select_sessions!("WHERE location = ? UNION "),
    select_sessions!("WHERE target_location = ? AND id IN (SELECT session FROM waiting)")
);

impl Store {
    /// Who has which of these claims, as of now.
    pub async fn owners(
        &self,
        claims: impl IntoIterator<Item = &[u8]>,
    ) -> Result<HashMap<Vec<u8>, Uuid>> {
        let claims = claims.into_iter().map(Value::from).collect();
        let rows = self
            .read_one(Statement::keys(SELECT_CLAIMS, claims))
            .await?;
        rows.iter()
            .map(|row| {
                let row = &mut row.read();
                Ok((row.bytes()?, row.id()?))
            })
            .collect()
    }

    /// All sessions of a subscriber, released ones too.
    pub async fn all_sessions_of(&self, subscriber: Uuid) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!("WHERE subscriber = ?"),
            vec![subscriber.into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// All sessions that are, were or are to be at a location (in its text form).
    pub async fn sessions_at(&self, location: &str) -> Result<Vec<SessionRow>> {
        self.select(AT, vec![location.into(), location.into()])
            .await?
            .iter()
            .map(read)
            .collect()
    }
}
