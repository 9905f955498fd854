//! Sessions counted by where they are.

use super::{Result, Store, StoreError};
use crate::session::State;

/// What is left of a location without its room and unit, which are digits: its building. Both databases
/// have this function, and neither has a better one that the other has, too.
const BY_BUILDING: &str = "SELECT rtrim(rtrim(rtrim(rtrim(location, '0123456789'), '-'), '0123456789'), '-') AS building, \
     state, COUNT(*) FROM sessions WHERE state <> 'released' GROUP BY 1, 2";

/// How many sessions of a building are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildingCount {
    /// Such as `110103-xinjingjiayuan-001`.
    pub building: String,
    pub state: State,
    pub sessions: u64,
}

impl Store {
    /// All sessions that are not released, counted. Walks over them all.
    pub async fn count_by_building(&self) -> Result<Vec<BuildingCount>> {
        self.select(BY_BUILDING, vec![])
            .await?
            .iter()
            .map(|row| {
                let row = &mut row.read();
                let (building, state) = (row.text()?, row.text()?);
                Ok(BuildingCount {
                    building,
                    state: State::from_name(&state)
                        .ok_or_else(|| StoreError::Failed(format!("there is no state {state}")))?,
                    sessions: row.number()?,
                })
            })
            .collect()
    }
}
