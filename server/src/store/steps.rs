//! The history of sessions.

use std::borrow::Cow;

use uuid::Uuid;

use super::sql::{Row, Value};
use super::{Result, Store, StoreError};
use crate::account::Name;
use crate::session::State;

/// On whose account something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Subscriber,
    Gateway,
    /// Whoever may use the administration socket.
    Operator,
    /// One of the operator's people.
    Account(Name),
    Server,
}

impl Who {
    pub fn name(self) -> Cow<'static, str> {
        match self {
            Who::Subscriber => "subscriber".into(),
            Who::Gateway => "gateway".into(),
            Who::Operator => "operator".into(),
            Who::Account(name) => format!("account {name}").into(),
            Who::Server => "server".into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    pub id: Uuid,
    /// The session's step before; none: this is its first.
    pub previous: Option<Uuid>,
    pub session: Uuid,
    pub generation: u64,
    pub state: State,
    pub gateway: String,
    pub detail: String,
    pub who: String,
    pub at_ms: i64,
}

pub(super) const WRITE: (&str, &str) = (
    "INSERT INTO steps (id, previous, session, generation, state, gateway, detail, who, at_ms)",
    "",
);

impl StepRow {
    pub(super) fn values(&self) -> Vec<Value> {
        vec![
            self.id.into(),
            self.previous.into(),
            self.session.into(),
            self.generation.into(),
            self.state.name().into(),
            self.gateway.as_str().into(),
            self.detail.as_str().into(),
            self.who.as_str().into(),
            self.at_ms.into(),
        ]
    }
}

fn read(row: &Row) -> Result<StepRow> {
    let row = &mut row.read();
    let (id, previous, session) = (row.id()?, row.optional_id()?, row.id()?);
    let (generation, state) = (row.number()?, row.text()?);
    Ok(StepRow {
        id,
        previous,
        session,
        generation,
        state: State::from_name(&state)
            .ok_or_else(|| StoreError::Failed(format!("step {id} has no state {state}")))?,
        gateway: row.text()?,
        detail: row.text()?,
        who: row.text()?,
        at_ms: row.int()?,
    })
}

impl Store {
    /// The newest step of a session.
    pub async fn last_step(&self, session: Uuid) -> Result<Option<StepRow>> {
        if let Some(step) = self.newest(|kept| kept.last_step(session)) {
            return Ok(Some(StepRow::clone(&step)));
        }
        let rows = self
            .select(
                "SELECT id, previous, session, generation, state, gateway, detail, who, at_ms \
                 FROM steps WHERE id = (SELECT last_step FROM sessions WHERE id = ?)",
                vec![session.into()],
            )
            .await?;
        rows.first().map(read).transpose()
    }

    /// The steps of a session behind `after`, in order: all of them, if that is none of its steps.
    pub async fn steps(&self, session: Uuid, after: Option<Uuid>) -> Result<Vec<StepRow>> {
        let rows = self
            .select(
                "WITH RECURSIVE chain (id, previous, session, generation, state, gateway, detail, \
                 who, at_ms, depth) AS (\
                 SELECT s.id, s.previous, s.session, s.generation, s.state, s.gateway, s.detail, \
                 s.who, s.at_ms, 0 FROM steps s \
                 WHERE s.id = (SELECT last_step FROM sessions WHERE id = ?) AND s.id <> ? \
                 UNION ALL \
                 SELECT s.id, s.previous, s.session, s.generation, s.state, s.gateway, s.detail, \
                 s.who, s.at_ms, chain.depth + 1 FROM steps s \
                 JOIN chain ON s.id = chain.previous WHERE s.id <> ?) \
                 SELECT * FROM chain ORDER BY depth DESC",
                vec![
                    session.into(),
                    after.unwrap_or_default().into(),
                    after.unwrap_or_default().into(),
                ],
            )
            .await?;
        rows.iter().map(read).collect()
    }
}
