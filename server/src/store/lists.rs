//! What people look at: counts, pages of sessions, gateways.

use std::collections::HashMap;

use uuid::Uuid;

use super::sessions::{read, select_sessions};
use super::work::GatewaySeen;
use super::{Result, SessionRow, Store, sql::Value};
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
    /// As of when its last stream ended; 0: none yet.
    pub last_receipt: u64,
}

pub(super) const WRITE_GATEWAYS: (&str, &str) = (
    "INSERT INTO gateways (id, software_version, peer, seen_ms, last_receipt)",
    "ON CONFLICT (id) DO UPDATE SET software_version = excluded.software_version, \
     peer = excluded.peer, seen_ms = CASE WHEN excluded.seen_ms > gateways.seen_ms \
     THEN excluded.seen_ms ELSE gateways.seen_ms END, last_receipt = CASE \
     WHEN excluded.last_receipt > 0 THEN excluded.last_receipt ELSE gateways.last_receipt END",
);

impl GatewaySeen {
    pub(super) fn values(&self, id: &str) -> Vec<Value> {
        vec![
            id.into(),
            self.software_version.as_str().into(),
            self.peer.as_str().into(),
            self.seen_ms.into(),
            self.last_receipt.into(),
        ]
    }
}

impl Store {
    pub(super) async fn count(&self, text: &'static str, values: Vec<Value>) -> Result<u64> {
        let rows = self.select(text, values).await?;
        rows.first().map_or(Ok(0), |row| row.read().number())
    }

    pub async fn status_counts(&self) -> Result<StatusCounts> {
        let sessions = self.sessions_by_state().await?;
        Ok(StatusCounts {
            subscribers: self
                .count("SELECT COUNT(*) FROM subscribers", vec![])
                .await?,
            sessions,
            receipts: self.count("SELECT COUNT(*) FROM receipts", vec![]).await?,
        })
    }

    /// Sessions behind the id `after`; of one subscriber, or of all.
    pub async fn sessions(
        &self,
        after: Option<Uuid>,
        limit: u32,
        subscriber: Option<Uuid>,
        include_released: bool,
    ) -> Result<Page<SessionRow>> {
        let mut values: Vec<Value> = vec![
            after.unwrap_or_default().into(),
            i64::from(include_released).into(),
        ];
        let limit_rows = i64::from(limit) + 1;
        let rows = match subscriber {
            None => {
                values.push(limit_rows.into());
                self.select(
                    select_sessions!(
                        "WHERE id > ? AND (? <> 0 OR state <> 'released') ORDER BY id LIMIT ?"
                    ),
                    values,
                )
                .await?
            }
            Some(subscriber) => {
                values.extend([subscriber.into(), limit_rows.into()]);
                self.select(
                    select_sessions!(
                        "WHERE id > ? AND (? <> 0 OR state <> 'released') AND subscriber = ? \
                         ORDER BY id LIMIT ?"
                    ),
                    values,
                )
                .await?
            }
        };
        let rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit))
    }

    /// Every gateway that was ever connected, by its id.
    pub async fn gateways(&self) -> Result<HashMap<String, GatewayRow>> {
        self.select(
            "SELECT id, software_version, peer, seen_ms, last_receipt FROM gateways",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            let id = row.text()?;
            let seen = GatewayRow {
                software_version: row.text()?,
                peer: row.text()?,
                seen_ms: row.int()?,
                last_receipt: row.number()?,
            };
            Ok((id, seen))
        })
        .collect()
    }

    /// How many sessions are live at each gateway.
    pub async fn live_by_gateway(&self) -> Result<HashMap<String, u64>> {
        self.select(
            "SELECT gateway, COUNT(*) FROM sessions WHERE state IN ('connecting', \
             'establishing', 'established', 'disconnecting', 'disconnecting-unconfirmed') \
             GROUP BY gateway",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            Ok((row.text()?, row.number()?))
        })
        .collect()
    }
}
