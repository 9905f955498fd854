//! What gateways are to hold, without all that a session's row says besides: a gateway that comes
//! back is compared with hundreds or thousands of rows.

use uuid::Uuid;

use super::sql::Row;
use super::{Result, Store, StoreError};
use crate::session::State;
use crate::session::instruct;

/// Where a session stands with its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    id: Uuid,
    generation: u64,
    state: State,
    gateway: String,
    revision: u64,
    acknowledged: u64,
}

impl instruct::Standing for Standing {
    fn id(&self) -> Uuid {
        self.id
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn state(&self) -> State {
        self.state
    }

    fn gateway(&self) -> &str {
        &self.gateway
    }

    fn revisions(&self) -> (u64, u64) {
        (self.revision, self.acknowledged)
    }
}

macro_rules! select_standings {
    ($rest:literal) => {
        concat!(
            "SELECT id, generation, state, gateway, service_revision, service_acknowledged \
             FROM sessions ",
            $rest
        )
    };
}

fn read(row: &Row) -> Result<Standing> {
    let row = &mut row.read();
    let (id, generation, state) = (row.id()?, row.number()?, row.text()?);
    Ok(Standing {
        id,
        generation,
        state: State::from_name(&state)
            .ok_or_else(|| StoreError::Failed(format!("session {id} has no state {state}")))?,
        gateway: row.text()?,
        revision: row.number()?,
        acknowledged: row.number()?,
    })
}

impl Store {
    /// Every session that asks something of a gateway.
    pub async fn standings_at(&self, gateway: &str) -> Result<Vec<Standing>> {
        self.select(
            select_standings!(
                "WHERE gateway = ? AND state IN ('connecting', 'establishing', 'established', \
                 'disconnecting', 'disconnecting-unconfirmed')"
            ),
            vec![gateway.into()],
        )
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Of these sessions, those that there are.
    pub async fn standings_of(&self, ids: &[Uuid]) -> Result<Vec<Standing>> {
        self.select_of(select_standings!("WHERE id"), "", ids)
            .await?
            .iter()
            .map(read)
            .collect()
    }
}
