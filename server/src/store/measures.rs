//! What is counted of the store's work, and of the sessions in it, as it goes on: whoever asks walks
//! over nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use doorstep_daemon::metrics::Histogram;
use uuid::Uuid;

use super::work::Transition;
use super::{Result, Store, StoreError};
use crate::metrics::{COMMIT_DURATION_SECONDS, COMMIT_JOBS, MOVE_DURATION_SECONDS};
use crate::session::State;

/// Moves that are timed at once; of more, some are not.
const TIMED: usize = 65_536;

#[derive(Debug)]
pub struct Measures {
    /// By state, in the order of [`State::ALL`]. What this server has changed since they were last
    /// counted is among them; what others have is not.
    sessions: [AtomicI64; State::ALL.len()],
    /// When moves began, in Unix milliseconds, by session.
    moves: Mutex<HashMap<Uuid, i64>>,
    pub commit_seconds: Histogram,
    pub commit_jobs: Histogram,
    pub move_seconds: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Measures {
            sessions: Default::default(),
            moves: Mutex::default(),
            commit_seconds: COMMIT_DURATION_SECONDS.observer(),
            commit_jobs: COMMIT_JOBS.observer(),
            move_seconds: MOVE_DURATION_SECONDS.observer(),
        }
    }
}

impl Measures {
    /// Notes transitions that are durable. Moves are timed from Disconnecting to Established, or to
    /// another end.
    pub(super) fn follow(&self, transitions: &[Transition]) {
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        for Transition {
            session,
            before,
            after,
            moves: is_move,
            at_ms,
        } in transitions
        {
            if let Some(before) = before {
                self.sessions[*before as usize].fetch_sub(1, Ordering::Relaxed);
            }
            self.sessions[*after as usize].fetch_add(1, Ordering::Relaxed);
            match after {
                State::Disconnecting if *is_move && moves.len() < TIMED => {
                    moves.entry(*session).or_insert(*at_ms);
                }
                State::Established => {
                    if let Some(since_ms) = moves.remove(session) {
                        self.move_seconds.observe(seconds(at_ms - since_ms));
                    }
                }
                State::Released | State::Refused => {
                    moves.remove(session);
                }
                _ => {}
            }
        }
    }

    /// By state; a count that others' changes would bring below zero is zero.
    pub fn sessions(&self) -> impl Iterator<Item = (State, u64)> {
        State::ALL.into_iter().map(|state| {
            let count = self.sessions[state as usize].load(Ordering::Relaxed);
            (state, u64::try_from(count).unwrap_or(0))
        })
    }

    fn set_sessions(&self, counts: &[(State, u64)]) {
        for state in State::ALL {
            let counted = counts.iter().find(|(counted, _)| *counted == state);
            let count = counted.map_or(0, |(_, count)| *count);
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.sessions[state as usize].store(count, Ordering::Relaxed);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations have far fewer than 52 bits"
)]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

impl Store {
    pub fn measures(&self) -> &Measures {
        &self.measures
    }

    /// Counts the sessions by walking over them all. Exact while nothing else is written.
    pub async fn count_sessions(&self) -> Result<()> {
        let counts = self.sessions_by_state().await?;
        self.measures.set_sessions(&counts);
        Ok(())
    }

    pub(super) async fn sessions_by_state(&self) -> Result<Vec<(State, u64)>> {
        self.select(
            "SELECT state, COUNT(*) FROM sessions GROUP BY state",
            vec![],
        )
        .await?
        .iter()
        .map(|row| {
            let row = &mut row.read();
            let (state, count) = (row.text()?, row.number()?);
            State::from_name(&state)
                .map(|known| (known, count))
                .ok_or_else(|| StoreError::Failed(format!("there is no state {state}")))
        })
        .collect()
    }

    /// Units of work that wait, and how many may.
    pub fn queued(&self) -> (usize, usize) {
        self.queue.waiting()
    }
}
