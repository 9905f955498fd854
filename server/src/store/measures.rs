//! What is counted of the store's work as it goes on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use doorstep_daemon::metrics::Histogram;
use uuid::Uuid;

use super::Store;
use super::work::Transition;
use crate::metrics::{COMMIT_DURATION_SECONDS, COMMIT_JOBS, MOVE_DURATION_SECONDS};
use crate::session::State;

/// Moves that are timed at once; of more, some are not.
const TIMED: usize = 65_536;

#[derive(Debug)]
pub struct Measures {
    /// When moves began, in Unix milliseconds, by session.
    moves: Mutex<HashMap<Uuid, i64>>,
    pub commit_seconds: Histogram,
    pub commit_jobs: Histogram,
    pub move_seconds: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        Measures {
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
            after,
            moves: is_move,
            at_ms,
            ..
        } in transitions
        {
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

    /// Units of work that wait, and how many may.
    pub fn queued(&self) -> (usize, usize) {
        self.queue.waiting()
    }
}
