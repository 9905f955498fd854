//! Removal of old rows, a few at a time.
//!
//! What may go is decided on columns that never change again once they say so: when a session was
//! released, when an answer was given, when a receipt was recorded. So a row is looked at first and
//! removed by its key afterwards, and it does not matter who else does the same meanwhile. Nothing
//! is found by time: tables are walked in the order of their keys, which needs no index that every
//! transition would have to write.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::sql::{Row, Statement, Takes, Value};
use super::{Result, Store};
use crate::session::State;

/// Rows that nothing depends on any more after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aged {
    /// Of sessions that were released; the last of each stays.
    Steps,
    /// Answers to requests.
    Requests,
    Receipts,
}

/// A piece of a walk over a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub removed: u64,
    /// Behind which key the walk goes on; none: this was its end.
    pub next: Option<Uuid>,
}

/// Rows of one piece. The texts below name it too: a number in them lets PostgreSQL know how few
/// rows it is asked for.
const ROWS: usize = 500;

const STEPS: &str = "SELECT id, session FROM steps WHERE id > ? AND id < ? ORDER BY id LIMIT 500";
const ENDS: &str = "SELECT id, state, since_ms, last_step FROM sessions WHERE id";
const REQUESTS: &str = "SELECT request_id, subscriber, at_ms FROM requests WHERE request_id > ? \
                        ORDER BY request_id LIMIT 500";
const RECEIPTS: &str = "SELECT session, generation, gateway, number, recorded_ms FROM receipts \
                        WHERE session > ? ORDER BY session, generation, gateway, number LIMIT 500";

const REMOVE_STEPS: (&str, &str) = ("DELETE FROM steps WHERE id", "RETURNING id");
const REMOVE_REQUESTS: (&str, &str) = (
    "DELETE FROM requests WHERE (request_id, subscriber)",
    "RETURNING request_id",
);
const REMOVE_RECEIPTS: (&str, &str) = (
    "DELETE FROM receipts WHERE (session, generation, gateway, number)",
    "RETURNING session",
);

impl Store {
    /// Looks at some rows behind a key and removes those of them that are older than `before_ms`
    /// (Unix milliseconds), in a short transaction of its own.
    pub async fn prune(&self, what: Aged, before_ms: i64, after: Uuid) -> Result<Piece> {
        match what {
            Aged::Steps => self.prune_steps(before_ms, after).await,
            Aged::Requests => self.prune_requests(before_ms, after).await,
            Aged::Receipts => self.prune_receipts(before_ms, after).await,
        }
    }

    async fn prune_steps(&self, before_ms: i64, after: Uuid) -> Result<Piece> {
        // Younger ones need not be looked at: a session's last step is never older than its others.
        let until = first_id(before_ms);
        let rows = self.select(STEPS, vec![after.into(), until.into()]).await?;
        let rows: Vec<(Uuid, Uuid)> = read_all(&rows, |row| {
            let row = &mut row.read();
            Ok((row.id()?, row.id()?))
        })?;
        let sessions: HashSet<Uuid> = rows.iter().map(|(_, session)| *session).collect();
        let keys = sessions.into_iter().map(Value::from).collect();
        let mut ends = HashMap::new();
        for row in self.read_one(Statement::keys(ENDS, keys)).await? {
            let row = &mut row.read();
            let (session, state) = (row.id()?, row.text()?);
            let (since_ms, last_step) = (row.int()?, row.optional_id()?);
            if state == State::Released.name() && since_ms < before_ms {
                ends.insert(session, last_step);
            }
        }
        let due = rows
            .iter()
            .filter(|(step, session)| ends.get(session).is_some_and(|last| *last != Some(*step)))
            .map(|(step, _)| vec![(*step).into()])
            .collect();
        let next = rows.last().filter(|_| rows.len() == ROWS);
        self.remove(REMOVE_STEPS, due, next.map(|(step, _)| *step))
            .await
    }

    async fn prune_requests(&self, before_ms: i64, after: Uuid) -> Result<Piece> {
        let rows = self.select(REQUESTS, vec![after.into()]).await?;
        let rows: Vec<(Uuid, Uuid, i64)> = read_all(&rows, |row| {
            let row = &mut row.read();
            Ok((row.id()?, row.id()?, row.int()?))
        })?;
        let due = rows
            .iter()
            .filter(|(.., at_ms)| *at_ms < before_ms)
            .map(|(request, subscriber, _)| vec![(*request).into(), (*subscriber).into()])
            .collect();
        let next = rows.last().filter(|_| rows.len() == ROWS);
        self.remove(REMOVE_REQUESTS, due, next.map(|(request, ..)| *request))
            .await
    }

    async fn prune_receipts(&self, before_ms: i64, after: Uuid) -> Result<Piece> {
        let rows = self.select(RECEIPTS, vec![after.into()]).await?;
        let mut rows: Vec<(Uuid, u64, String, u64, i64)> = read_all(&rows, |row| {
            let row = &mut row.read();
            Ok((
                row.id()?,
                row.number()?,
                row.text()?,
                row.number()?,
                row.int()?,
            ))
        })?;
        let mut next = None;
        if rows.len() == ROWS {
            // The last session may have more than these, which belong to the next piece.
            let last = rows.last().map(|row| row.0);
            let whole = rows.iter().rposition(|row| Some(row.0) != last);
            if let Some(whole) = whole {
                rows.truncate(whole + 1);
            }
            next = rows.last().map(|row| row.0);
        }
        let due = rows
            .into_iter()
            .filter(|row| row.4 < before_ms)
            .map(|(session, generation, gateway, number, _)| {
                vec![
                    session.into(),
                    generation.into(),
                    gateway.into(),
                    number.into(),
                ]
            })
            .collect();
        self.remove(REMOVE_RECEIPTS, due, next).await
    }

    /// Removes rows by their keys, given in the order of these.
    async fn remove(
        &self,
        text: (&'static str, &'static str),
        keys: Vec<Vec<Value>>,
        next: Option<Uuid>,
    ) -> Result<Piece> {
        let mut removed = 0;
        if !keys.is_empty() {
            let statement = Statement::new(Takes::Match, text, keys);
            let returned = self.backend.write(vec![statement]).await?;
            removed = returned.first().map_or(0, |rows| rows.len() as u64);
        }
        Ok(Piece { removed, next })
    }
}

/// The least id of a UUID of version 7 that was made at a time (RFC 9562, section 5.7).
fn first_id(at_ms: i64) -> Uuid {
    Uuid::from_u128(u128::from(at_ms.max(0).unsigned_abs()) << 80)
}

fn read_all<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T>) -> Result<Vec<T>> {
    rows.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_by_their_time() {
        let at_ms: i64 = 1_700_000_000_123;
        let seconds = (at_ms / 1000).unsigned_abs();
        let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, 123_000_000);
        let id = Uuid::new_v7(time);
        assert!(first_id(at_ms) < id && id < first_id(at_ms + 1));
        assert_eq!(first_id(-5), Uuid::nil());
    }

    #[test]
    fn the_texts_name_the_size_of_a_piece() {
        for text in [STEPS, REQUESTS, RECEIPTS] {
            assert!(text.ends_with(&format!("LIMIT {ROWS}")), "{text}");
        }
    }
}
