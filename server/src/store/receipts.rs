//! Receipts: a gateway's word that a session forwards nothing more. And counters of sessions that
//! go on.

use uuid::Uuid;

use super::sql::{Reader, Value};
use super::{Result, Store};
use crate::session::Session;

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

/// What a gateway last counted for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountersRow {
    pub session: Uuid,
    pub gateway: String,
    /// Of the Connect.
    pub generation: u64,
    pub counters: Counters,
    /// When they were last seen to grow under this generation, in Unix milliseconds; 0: never.
    pub moved_ms: i64,
    /// Since when packets leave and none comes back; 0: the last ones were answered.
    pub unanswered_ms: i64,
}

/// One that is there already stays as it is.
pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO receipts (session, generation, gateway, number, up_packets, up_bytes, \
     down_packets, down_bytes, up_policed, down_policed, at_ms, recorded_ms)",
    "ON CONFLICT DO NOTHING",
);

/// Older ones never replace newer ones. Counters that have not grown leave the time when they last
/// did; those of another generation begin from zero. What has come back answers all that had left.
pub(super) const WRITE_COUNTERS: (&str, &str) = (
    "INSERT INTO counters (session, gateway, generation, up_packets, up_bytes, down_packets, \
     down_bytes, up_policed, down_policed, moved_ms, unanswered_ms)",
    "ON CONFLICT (session) DO UPDATE SET gateway = excluded.gateway, \
     generation = excluded.generation, up_packets = excluded.up_packets, \
     up_bytes = excluded.up_bytes, down_packets = excluded.down_packets, \
     down_bytes = excluded.down_bytes, up_policed = excluded.up_policed, \
     down_policed = excluded.down_policed, moved_ms = CASE \
     WHEN counters.generation = excluded.generation \
     AND counters.up_packets = excluded.up_packets \
     AND counters.down_packets = excluded.down_packets \
     THEN counters.moved_ms ELSE excluded.moved_ms END, unanswered_ms = CASE \
     WHEN counters.generation <> excluded.generation THEN excluded.unanswered_ms \
     WHEN counters.down_packets <> excluded.down_packets THEN 0 \
     WHEN counters.up_packets = excluded.up_packets OR counters.unanswered_ms <> 0 \
     THEN counters.unanswered_ms ELSE excluded.moved_ms END WHERE counters.generation <= excluded.generation",
);

impl CountersRow {
    /// What a gateway says at this time of the connection of a generation.
    pub fn told(
        (session, generation): (Uuid, u64),
        gateway: &str,
        counters: Counters,
        at_ms: i64,
    ) -> Self {
        let at_ms_if = |so: bool| if so { at_ms } else { 0 };
        let is_unanswered = counters.upstream_packets > 0 && counters.downstream_packets == 0;
        CountersRow {
            session,
            gateway: gateway.to_owned(),
            generation,
            moved_ms: at_ms_if(counters.have_moved()),
            unanswered_ms: at_ms_if(is_unanswered),
            counters,
        }
    }
}

impl Counters {
    /// Whether a packet has passed.
    pub fn have_moved(&self) -> bool {
        self.upstream_packets > 0 || self.downstream_packets > 0
    }

    fn values(&self) -> [Value; 6] {
        [
            self.upstream_packets.into(),
            self.upstream_bytes.into(),
            self.downstream_packets.into(),
            self.downstream_bytes.into(),
            self.upstream_policed.into(),
            self.downstream_policed.into(),
        ]
    }

    fn read(row: &mut Reader<'_>) -> Result<Counters> {
        Ok(Counters {
            upstream_packets: row.number()?,
            upstream_bytes: row.number()?,
            downstream_packets: row.number()?,
            downstream_bytes: row.number()?,
            upstream_policed: row.number()?,
            downstream_policed: row.number()?,
        })
    }
}

impl ReceiptRow {
    pub(super) fn values(&self) -> Vec<Value> {
        let mut values: Vec<Value> = vec![
            self.session.into(),
            self.generation.into(),
            self.gateway.as_str().into(),
            self.number.into(),
        ];
        values.extend(self.counters.values());
        values.extend([self.at_ms.into(), self.recorded_ms.into()]);
        values
    }
}

impl CountersRow {
    /// Whether they were counted for the session's present connection, or the one it ended with.
    pub fn belong_to(&self, session: &Session) -> bool {
        self.session == session.id
            && self.gateway == session.connection.gateway
            && if session.state.is_connected_side() {
                self.generation == session.generation
            } else {
                self.generation <= session.generation
            }
    }

    pub(super) fn values(&self) -> Vec<Value> {
        let mut values: Vec<Value> = vec![
            self.session.into(),
            self.gateway.as_str().into(),
            self.generation.into(),
        ];
        values.extend(self.counters.values());
        values.extend([self.moved_ms.into(), self.unanswered_ms.into()]);
        values
    }
}

impl Store {
    /// The receipts of a session, the oldest first.
    pub async fn receipts(&self, session: Uuid) -> Result<Vec<ReceiptRow>> {
        self.receipts_of(&[session]).await
    }

    /// The receipts of some sessions; of each, the oldest first.
    pub async fn receipts_of(&self, sessions: &[Uuid]) -> Result<Vec<ReceiptRow>> {
        self.select_of(
            "SELECT session, generation, gateway, number, up_packets, up_bytes, down_packets, \
             down_bytes, up_policed, down_policed, at_ms, recorded_ms FROM receipts WHERE session",
            "ORDER BY session, recorded_ms, generation, number",
            sessions,
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            Ok(ReceiptRow {
                session: row.id()?,
                generation: row.number()?,
                gateway: row.text()?,
                number: row.number()?,
                counters: Counters::read(row)?,
                at_ms: row.int()?,
                recorded_ms: row.int()?,
            })
        })
        .collect()
    }

    /// What gateways last counted for some sessions.
    pub async fn counters_of(&self, sessions: &[Uuid]) -> Result<Vec<CountersRow>> {
        self.select_of(
            "SELECT session, gateway, generation, up_packets, up_bytes, down_packets, down_bytes, \
             up_policed, down_policed, moved_ms, unanswered_ms FROM counters WHERE session",
            "",
            sessions,
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            Ok(CountersRow {
                session: row.id()?,
                gateway: row.text()?,
                generation: row.number()?,
                counters: Counters::read(row)?,
                moved_ms: row.int()?,
                unanswered_ms: row.int()?,
            })
        })
        .collect()
    }
}
