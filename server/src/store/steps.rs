//! The history of sessions, and the audit trail.

use sqlx::Row as _;
use uuid::Uuid;

use super::{Result, Store, StoreError, Tx, to_i64, to_u64};
use crate::session::{Session, State};

/// On whose account something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Subscriber,
    Gateway,
    Operator,
    Server,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Who::Subscriber => "subscriber",
            Who::Gateway => "gateway",
            Who::Operator => "operator",
            Who::Server => "server",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// Grows with every step of any session.
    pub seq: i64,
    pub generation: u64,
    pub state: State,
    pub gateway: String,
    pub detail: String,
    pub who: String,
    pub at_ms: i64,
}

impl Store {
    /// The steps of a session behind `after`, in order.
    pub async fn steps(&self, session: Uuid, after: i64) -> Result<Vec<StepRow>> {
        sqlx::query(
            "SELECT seq, generation, state, gateway, detail, who, at_ms FROM steps \
             WHERE session = ? AND seq > ? ORDER BY seq",
        )
        .bind(session.to_string())
        .bind(after)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            let state: String = row.try_get("state")?;
            Ok(StepRow {
                seq: row.try_get("seq")?,
                generation: to_u64(row.try_get("generation")?),
                state: State::from_name(&state).ok_or_else(|| StoreError::Unreadable {
                    table: "steps",
                    id: session.to_string(),
                    column: "state",
                })?,
                gateway: row.try_get("gateway")?,
                detail: row.try_get("detail")?,
                who: row.try_get("who")?,
                at_ms: row.try_get("at_ms")?,
            })
        })
        .collect()
    }

    /// How often `action` stands in the audit trail.
    pub async fn audit_count(&self, action: &str) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM audit WHERE action = ?")
            .bind(action)
            .fetch_one(&self.readers)
            .await?;
        Ok(to_u64(row.try_get("n")?))
    }
}

impl Tx {
    pub(super) async fn add_step(&mut self, session: &Session, who: Who, at_ms: i64) -> Result<()> {
        sqlx::query(
            "INSERT INTO steps (session, generation, state, gateway, detail, who, at_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(session.id.to_string())
        .bind(to_i64(session.generation))
        .bind(session.state.name())
        .bind(&session.connection.gateway)
        .bind(&session.detail)
        .bind(who.name())
        .bind(at_ms)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    pub async fn audit(
        &mut self,
        who: Who,
        action: &str,
        subscriber: Option<Uuid>,
        session: Option<Uuid>,
        detail: &str,
        at_ms: i64,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit (at_ms, who, action, subscriber, session, detail) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(at_ms)
        .bind(who.name())
        .bind(action)
        .bind(subscriber.map(|id| id.to_string()))
        .bind(session.map(|id| id.to_string()))
        .bind(detail)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }
}
