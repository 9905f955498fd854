//! Receipts: a gateway's word that a session forwards nothing more.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Result, Store, Tx, to_i64, to_u64};

/// Packets and bytes, from the subscriber (upstream) and to it (downstream); and packets dropped
/// because they were above the session's rate, which are not among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub upstream_packets: u64,
    pub upstream_bytes: u64,
    pub downstream_packets: u64,
    pub downstream_bytes: u64,
    pub upstream_policed: u64,
    pub downstream_policed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    pub gateway: String,
    pub number: u64,
    pub session: Uuid,
    pub generation: u64,
    pub counters: Counters,
    /// By the gateway's clock.
    pub at_ms: i64,
    /// By ours.
    pub recorded_ms: i64,
}

impl Store {
    /// The receipts of a session, the oldest first.
    pub async fn receipts(&self, session: Uuid) -> Result<Vec<ReceiptRow>> {
        sqlx::query(
            "SELECT gateway, number, generation, up_packets, up_bytes, down_packets, down_bytes, \
             up_policed, down_policed, at_ms, recorded_ms FROM receipts WHERE session = ? \
             ORDER BY recorded_ms, generation, number",
        )
        .bind(session.to_string())
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(ReceiptRow {
                gateway: row.try_get("gateway")?,
                number: to_u64(row.try_get("number")?),
                session,
                generation: to_u64(row.try_get("generation")?),
                counters: Counters {
                    upstream_packets: to_u64(row.try_get("up_packets")?),
                    upstream_bytes: to_u64(row.try_get("up_bytes")?),
                    downstream_packets: to_u64(row.try_get("down_packets")?),
                    downstream_bytes: to_u64(row.try_get("down_bytes")?),
                    upstream_policed: to_u64(row.try_get("up_policed")?),
                    downstream_policed: to_u64(row.try_get("down_policed")?),
                },
                at_ms: row.try_get("at_ms")?,
                recorded_ms: row.try_get("recorded_ms")?,
            })
        })
        .collect()
    }
}

impl Tx {
    /// Records a receipt; one that is there already stays as it is.
    pub async fn record_receipt(&mut self, receipt: &ReceiptRow) -> Result<()> {
        sqlx::query(
            "INSERT INTO receipts (gateway, number, session, generation, up_packets, up_bytes, \
             down_packets, down_bytes, up_policed, down_policed, at_ms, recorded_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&receipt.gateway)
        .bind(to_i64(receipt.number))
        .bind(receipt.session.to_string())
        .bind(to_i64(receipt.generation))
        .bind(to_i64(receipt.counters.upstream_packets))
        .bind(to_i64(receipt.counters.upstream_bytes))
        .bind(to_i64(receipt.counters.downstream_packets))
        .bind(to_i64(receipt.counters.downstream_bytes))
        .bind(to_i64(receipt.counters.upstream_policed))
        .bind(to_i64(receipt.counters.downstream_policed))
        .bind(receipt.at_ms)
        .bind(receipt.recorded_ms)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
