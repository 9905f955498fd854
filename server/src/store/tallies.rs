//! How many rows there are, kept by those who write them.
//!
//! Every transaction adds what it changes to the counts of its own server. Only their sum means
//! anything: a session that one server has opened another one may release, and counts below zero.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::sql::{Backend, Statement, Takes, Value};
use super::work::Changes;
use super::{Result, Store, StoreError};
use crate::session::State;

const SUBSCRIBER: &str = "subscriber";
const AUDIT: &str = "audit";

const WRITE: (&str, &str) = (
    "INSERT INTO tallies (server, what, part, count)",
    "ON CONFLICT (server, what, part) DO UPDATE SET count = tallies.count + excluded.count",
);
const SUM: &str = "SELECT what, part, CAST(SUM(count) AS BIGINT) FROM tallies GROUP BY what, part";
const SUM_OF: &str =
    "SELECT CAST(COALESCE(SUM(count), 0) AS BIGINT) FROM tallies WHERE what = ? AND part = ?";

/// By how much the counts are less than the rows that there are, as of one moment.
const MISSING: &str = "SELECT what, part, CAST(SUM(number) AS BIGINT) FROM (\
     SELECT state AS what, gateway AS part, COUNT(*) AS number FROM sessions GROUP BY state, gateway \
     UNION ALL SELECT 'subscriber', '', COUNT(*) FROM subscribers \
     UNION ALL SELECT 'audit', action, COUNT(*) FROM audit GROUP BY action \
     UNION ALL SELECT what, part, -count FROM tallies) AS rows_and_counts \
     GROUP BY what, part HAVING SUM(number) <> 0";

/// Takes over what servers have counted that are gone. One that was only away for long adds to rows that are
/// new: the sum is the same.
const INHERIT: &str = "WITH gone AS (DELETE FROM tallies WHERE server <> ? AND NOT EXISTS \
     (SELECT 1 FROM servers WHERE servers.id = tallies.server) RETURNING what, part, count) \
     INSERT INTO tallies (server, what, part, count) \
     SELECT CAST(? AS BYTEA), what, part, CAST(SUM(count) AS BIGINT) FROM gone GROUP BY what, part \
     ON CONFLICT (server, what, part) DO UPDATE SET count = tallies.count + excluded.count";

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    pub subscribers: u64,
    /// In the order of [`State::ALL`]; of all states.
    pub sessions: [u64; State::ALL.len()],
    /// Of live sessions, by gateway.
    pub live: HashMap<String, u64>,
}

impl Tallies {
    /// All states there are.
    pub fn by_state(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().zip(self.sessions)
    }
}

type Counts<'a> = BTreeMap<(&'static str, &'a str), i64>;

/// What a batch adds, as rows of a server's.
pub(super) fn statement(server: Uuid, changes: &Changes) -> Statement {
    let mut counts = Counts::new();
    for transition in &changes.transitions {
        if let Some((state, gateway)) = &transition.before {
            *counts.entry((state.name(), gateway.as_str())).or_default() -= 1;
        }
        let after = (transition.after.name(), transition.gateway.as_str());
        *counts.entry(after).or_default() += 1;
    }
    // A row that has no version is not there yet.
    let people = changes.subscribers.values();
    let new = people.filter(|cell| cell.changed && cell.row.version == 0);
    counts.insert((SUBSCRIBER, ""), i64::try_from(new.count()).unwrap_or(0));
    for event in &changes.audits {
        *counts.entry((AUDIT, event.action.as_ref())).or_default() += 1;
    }
    counts.retain(|_, count| *count != 0);
    let rows = counts
        .into_iter()
        .map(|((what, part), count)| values(server, what, part, count));
    Statement::new(Takes::Insert, WRITE, rows.collect())
}

fn values(server: Uuid, what: &str, part: &str, count: i64) -> Vec<Value> {
    vec![server.into(), what.into(), part.into(), count.into()]
}

impl Store {
    /// What all servers have counted, up to now.
    pub async fn tallies(&self) -> Result<Tallies> {
        let mut tallies = Tallies::default();
        for row in self.select(SUM, vec![]).await? {
            let row = &mut row.read();
            let (what, part, count) = (row.text()?, row.text()?, row.number()?);
            match what.as_str() {
                SUBSCRIBER => tallies.subscribers += count,
                AUDIT => {}
                state => {
                    let state = State::from_name(state).ok_or_else(|| {
                        StoreError::Failed(format!("there is no state {state} to count"))
                    })?;
                    tallies.sessions[state as usize] += count;
                    if state.is_live() {
                        *tallies.live.entry(part).or_default() += count;
                    }
                }
            }
        }
        Ok(tallies)
    }

    /// How often `action` stands in the audit log.
    pub async fn audit_count(&self, action: &str) -> Result<u64> {
        let rows = self
            .select(SUM_OF, vec![AUDIT.into(), action.into()])
            .await?;
        rows.first().map_or(Ok(0), |row| row.read().number())
    }

    /// Counts all rows by walking over them, beside whatever is written meanwhile, and adds what is missing.
    /// Nothing is, unless something else than a server has changed them; returns how many counts were wrong.
    pub async fn correct_tallies(&self) -> Result<usize> {
        let server = self.others.counts_as(&self.backend);
        if let Backend::Postgres(_) = self.backend {
            let own = vec![server.into(); 2];
            self.backend
                .write(vec![Statement::marks(INHERIT, own)])
                .await?;
        }
        // Rows and counts are read by one statement, and what is added later is added to whatever
        // they are then.
        let mut missing = Vec::new();
        for row in self.select(MISSING, vec![]).await? {
            let row = &mut row.read();
            let (what, part, count) = (row.text()?, row.text()?, row.int()?);
            tracing::warn!(
                what,
                part,
                missing = count,
                "rows were counted wrong; corrected"
            );
            missing.push(values(server, &what, &part, count));
        }
        let wrong = missing.len();
        if wrong > 0 {
            let add = Statement::new(Takes::Insert, WRITE, missing);
            self.backend.write(vec![add]).await?;
        }
        Ok(wrong)
    }
}
