//! Sessions by where they are: counts for every building, and the sessions below a prefix.

use doorstep_location::LocationPrefix;
use uuid::Uuid;

use super::sessions::{read, select_sessions};
use super::sql::Value;
use super::{Page, Result, SessionRow, Store, StoreError};
use crate::session::State;

/// What is left of a location without its room and unit, which are digits: its building. Both databases
/// have this function, and neither has a better one that the other has, too.
const BY_BUILDING: &str = "SELECT rtrim(rtrim(rtrim(rtrim(location, '0123456789'), '-'), '0123456789'), '-') AS building, \
     state, COUNT(*) FROM sessions WHERE state <> 'released' GROUP BY 1, 2";

/// SQLite compares texts byte by byte, so that what begins alike lies together in the index.
const BELOW_IN_SQLITE: &str = select_sessions!(
    "WHERE location >= ? AND location < ? AND (? <> 0 OR state <> 'released') \
     AND (? = '' OR state = ?) AND (location, id) > (?, ?) ORDER BY location, id LIMIT ?"
);

/// PostgreSQL compares them as the database's language does.
const BELOW_IN_POSTGRES: &str = select_sessions!(
    "WHERE substr(location || ?, 1, length(?)) = ? AND (? <> 0 OR state <> 'released') \
     AND (? = '' OR state = ?) AND (location, id) > (?, ?) ORDER BY location, id LIMIT ?"
);

/// Which sessions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Below {
    /// Nowhere in particular.
    pub prefix: Option<LocationPrefix>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Released ones, too.
    pub with_released: bool,
    /// Behind this one, in the order of locations.
    pub after: Option<(String, Uuid)>,
}

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

    /// Sessions in the order of their locations.
    pub async fn sessions_below(&self, wanted: &Below, limit: u32) -> Result<Page<SessionRow>> {
        let prefix = wanted.prefix.as_ref().map_or("", LocationPrefix::as_str);
        let is_city = wanted
            .prefix
            .as_ref()
            .is_some_and(|prefix| prefix.specificity() == 0);
        let state = wanted.state.map_or("", State::name);
        let (location, id) = wanted.after.clone().unwrap_or_default();
        let common = [
            Value::from(i64::from(wanted.with_released)),
            state.into(),
            state.into(),
            location.into(),
            id.into(),
            (i64::from(limit) + 1).into(),
        ];
        let (text, mut values) = if self.backend.is_own() {
            // Behind a component comes the end or `-`, and `.` is the character behind that one. A city
            // is followed by digits, and so before `:`.
            let end = match (prefix.is_empty(), is_city) {
                (true, _) => "~".to_owned(),
                (false, true) => format!("{prefix}:"),
                (false, false) => format!("{prefix}."),
            };
            (BELOW_IN_SQLITE, vec![Value::from(prefix), Value::from(end)])
        } else {
            let whole = match (prefix.is_empty(), is_city) {
                (false, false) => format!("{prefix}-"),
                _ => prefix.to_owned(),
            };
            (
                BELOW_IN_POSTGRES,
                vec![
                    Value::from("-"),
                    Value::from(whole.as_str()),
                    Value::from(whole.as_str()),
                ],
            )
        };
        values.extend(common);
        let rows = self.select(text, values).await?;
        let rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit))
    }

    /// Sessions that are on their way to another home, the longest first.
    pub async fn moves(&self, limit: u32) -> Result<Page<SessionRow>> {
        let rows = self
            .select(
                select_sessions!(
                    "WHERE target_location IS NOT NULL AND id IN (SELECT session FROM waiting) \
                     ORDER BY since_ms, id LIMIT ?"
                ),
                vec![(i64::from(limit) + 1).into()],
            )
            .await?;
        let rows = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Page::cut(rows, limit))
    }
}
