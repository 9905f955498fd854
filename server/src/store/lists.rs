//! What people look at: receipts, gateways and moves.

use std::collections::HashMap;

use super::sessions::{read, select_sessions};
use super::sql::Value;
use super::work::GatewaySeen;
use super::{Result, SessionRow, Store};

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
    /// Counted by walking over all.
    pub async fn receipt_count(&self) -> Result<u64> {
        let rows = self.select("SELECT COUNT(*) FROM receipts", vec![]).await?;
        rows.first().map_or(Ok(0), |row| row.read().number())
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
    /// Up to `limit` sessions that are on their way to another home, the longest first.
    pub async fn moves(&self, limit: u32) -> Result<Vec<SessionRow>> {
        self.select(
            select_sessions!(
                "WHERE target_location IS NOT NULL AND id IN (SELECT session FROM waiting) \
                 ORDER BY since_ms, id LIMIT ?"
            ),
            vec![i64::from(limit).into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }
}
