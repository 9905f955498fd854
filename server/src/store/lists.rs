//! What people look at: counts, pages of sessions, gateways.

use sqlx::Row as _;

use super::sessions::{read, select_sessions};
use super::{Result, SessionRow, Store, StoreError, Tx, to_u64};
use crate::session::State;

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub more: bool,
}

impl<T> Page<T> {
    /// Of `limit + 1` rows asked for, the last only tells that there are more.
    pub(super) fn cut(mut rows: Vec<T>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        Page { rows, more }
    }
}

#[derive(Clone, Debug, Default)]
pub struct StatusCounts {
    pub subscribers: u64,
    pub sessions: Vec<(State, u64)>,
    pub receipts: u64,
}

#[derive(Clone, Debug)]
pub struct GatewayRow {
    pub software_version: String,
    pub peer: String,
    pub seen_ms: i64,
}

impl Store {
    pub async fn status_counts(&self) -> Result<StatusCounts> {
        let subscribers = sqlx::query("SELECT COUNT(*) AS n FROM subscribers")
            .fetch_one(&self.readers)
            .await?
            .try_get("n")?;
        let receipts = sqlx::query("SELECT COUNT(*) AS n FROM receipts")
            .fetch_one(&self.readers)
            .await?
            .try_get("n")?;
        let sessions = sqlx::query("SELECT state, COUNT(*) AS n FROM sessions GROUP BY state")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let state: String = row.try_get("state")?;
                let count = to_u64(row.try_get("n")?);
                State::from_name(&state)
                    .map(|known| (known, count))
                    .ok_or(StoreError::Unreadable {
                        table: "sessions",
                        id: state,
                        column: "state",
                    })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(StatusCounts {
            subscribers: to_u64(subscribers),
            sessions,
            receipts: to_u64(receipts),
        })
    }

    /// Sessions behind the id `after`; all subscribers' if `subscriber` is empty.
    pub async fn sessions(
        &self,
        after: &str,
        limit: u32,
        subscriber: &str,
        include_released: bool,
    ) -> Result<Page<SessionRow>> {
        let rows = sqlx::query(select_sessions!(
            "WHERE id > ? AND (? = '' OR subscriber = ?) AND (? OR state <> 'released') \
             ORDER BY id LIMIT ?"
        ))
        .bind(after)
        .bind(subscriber)
        .bind(subscriber)
        .bind(include_released)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(read)
        .collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit))
    }

    pub async fn gateway(&self, id: &str) -> Result<Option<GatewayRow>> {
        let row = sqlx::query("SELECT software_version, peer, seen_ms FROM gateways WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| {
            Ok(GatewayRow {
                software_version: row.try_get("software_version")?,
                peer: row.try_get("peer")?,
                seen_ms: row.try_get("seen_ms")?,
            })
        })
        .transpose()
    }

    /// How many sessions are not released, and the number of the latest receipt.
    pub async fn gateway_counts(&self, id: &str) -> Result<(u64, u64)> {
        let sessions = sqlx::query(
            "SELECT COUNT(*) AS n FROM sessions WHERE gateway = ? AND state IN ('connecting', \
             'establishing', 'established', 'disconnecting', 'disconnecting-unconfirmed')",
        )
        .bind(id)
        .fetch_one(&self.readers)
        .await?
        .try_get("n")?;
        let receipt = sqlx::query("SELECT MAX(number) AS n FROM receipts WHERE gateway = ?")
            .bind(id)
            .fetch_one(&self.readers)
            .await?
            .try_get::<Option<i64>, _>("n")?;
        Ok((to_u64(sessions), receipt.map_or(0, to_u64)))
    }
}

impl Tx {
    pub async fn gateway_seen(
        &mut self,
        id: &str,
        software_version: &str,
        peer: &str,
        at_ms: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO gateways (id, software_version, peer, seen_ms) VALUES (?, ?, ?, ?) \
             ON CONFLICT (id) DO UPDATE SET software_version = excluded.software_version, \
             peer = excluded.peer, seen_ms = excluded.seen_ms",
        )
        .bind(id)
        .bind(software_version)
        .bind(peer)
        .bind(at_ms)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
