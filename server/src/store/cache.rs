//! Rows that this server wrote last: a session's next transition mostly comes within milliseconds,
//! and needs no reading then.
//!
//! What is kept here is always a row as it was committed. SQLite has no other writer, so that it is
//! also the newest. On PostgreSQL another server may have changed it since: whoever decides on such
//! a row either writes it, which fails unless it is the newest, or has it read once more (`group`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashlink::LruCache;
use uuid::Uuid;

use super::work::{Changes, Need, Rows};
use super::{SessionRow, StepRow, Subscriber};
use crate::session::State;

/// Sessions and subscribers kept; a session with all its texts takes about one kilobyte.
const ROWS: usize = 32_768;

/// Shared by who writes and all who read.
pub(super) struct Cache {
    rows: Mutex<Kept>,
}

struct Kept {
    sessions: LruCache<Uuid, Session>,
    subscribers: LruCache<Uuid, Person>,
}

#[derive(Clone)]
struct Session {
    row: Arc<SessionRow>,
    /// The newest of its history, if it was made here.
    step: Option<Arc<StepRow>>,
}

struct Person {
    row: Arc<Subscriber>,
    /// Sessions that are not released. Each new one also writes the subscriber, so that both grow
    /// old together.
    sessions: Option<BTreeSet<Uuid>>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            rows: Mutex::new(Kept {
                sessions: LruCache::new(ROWS),
                subscribers: LruCache::new(ROWS),
            }),
        }
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn session(&self, id: Uuid) -> Option<Arc<SessionRow>> {
        let mut kept = self.lock();
        kept.sessions.get(&id).map(|kept| Arc::clone(&kept.row))
    }

    pub fn last_step(&self, session: Uuid) -> Option<Arc<StepRow>> {
        self.lock().sessions.get(&session)?.step.clone()
    }

    pub fn subscriber(&self, id: Uuid) -> Option<Arc<Subscriber>> {
        let mut kept = self.lock();
        kept.subscribers.get(&id).map(|kept| Arc::clone(&kept.row))
    }

    /// Gives jobs what they need, as far as it is here. What remains in `needs` must be read.
    pub fn serve(&self, rows: &mut Rows, needs: &mut BTreeSet<Need>) {
        let mut kept = self.lock();
        needs.retain(|need| {
            let found = kept.serve(rows, need);
            if found {
                rows.set_assumed(need.clone());
            }
            !found
        });
    }

    /// Keeps what a batch has written. Versions are those of the rows as they are now.
    pub fn keep(&self, rows: &Written) {
        let mut kept = self.lock();
        for row in &rows.sessions {
            let id = row.session.id;
            let newest = rows.steps.iter().rev();
            let step = newest
                .into_iter()
                .find(|step| Some(step.id) == row.last_step);
            let step = match step {
                Some(step) => Some(Arc::clone(step)),
                None => kept.sessions.get(&id).and_then(|kept| {
                    let step = kept.step.clone()?;
                    (Some(step.id) == row.last_step).then_some(step)
                }),
            };
            let row = Arc::clone(row);
            kept.sessions.insert(id, Session { row, step });
        }
        for (row, sessions) in &rows.subscribers {
            let (row, sessions) = (Arc::clone(row), sessions.clone());
            kept.subscribers.insert(row.id, Person { row, sessions });
        }
    }

    /// Whatever a batch has been decided on: something of it was not the newest, or nobody knows
    /// whether it was written.
    pub fn forget_all(&self, changes: &Changes) {
        let mut kept = self.lock();
        for id in changes.sessions.keys() {
            kept.sessions.remove(id);
        }
        for id in changes.subscribers.keys() {
            kept.subscribers.remove(id);
        }
    }

    /// Another server has changed it.
    pub fn forget_session(&self, id: Uuid) {
        let mut kept = self.lock();
        if let Some(session) = kept.sessions.remove(&id) {
            kept.subscribers.remove(&session.row.session.subscriber);
        }
    }
}

impl Kept {
    fn serve(&mut self, rows: &mut Rows, need: &Need) -> bool {
        match need {
            Need::Session(id) => self.serve_session(rows, *id),
            Need::Subscriber(id) => {
                let Some(person) = self.subscribers.get(id) else {
                    return false;
                };
                rows.put_subscriber(Subscriber::clone(&person.row));
                true
            }
            Need::SessionsOf(id) => {
                let Some(person) = self.subscribers.get(id) else {
                    return false;
                };
                // A row of the subscriber that was read since may be newer.
                let version = rows.subscriber_version(*id);
                if version.is_some_and(|version| version != person.row.version) {
                    return false;
                }
                let Some(sessions) = person.sessions.clone() else {
                    return false;
                };
                if !sessions.iter().all(|id| self.sessions.contains_key(id)) {
                    return false;
                }
                for session in sessions {
                    rows.put_unreleased(*id, session);
                    self.serve_session(rows, session);
                    rows.set_assumed(Need::Session(session));
                }
                true
            }
            Need::Answer { .. }
            | Need::Place { .. }
            | Need::Places { .. }
            | Need::Claim(_)
            | Need::Walk(_)
            | Need::Token(_)
            | Need::Account(_) => false,
        }
    }

    fn serve_session(&mut self, rows: &mut Rows, id: Uuid) -> bool {
        let Some(session) = self.sessions.get(&id) else {
            return false;
        };
        rows.put_session(SessionRow::clone(&session.row));
        true
    }
}

/// What a batch has written, as it is in the database now.
pub(super) struct Written {
    pub sessions: Vec<Arc<SessionRow>>,
    /// With the sessions that are not released, where they are known.
    pub subscribers: Vec<(Arc<Subscriber>, Option<BTreeSet<Uuid>>)>,
    /// In the order in which they were made.
    pub steps: Vec<Arc<StepRow>>,
}

impl Written {
    pub fn new(changes: Changes) -> Self {
        let sessions: Vec<_> = changes
            .sessions
            .into_values()
            .filter(|cell| cell.changed)
            .map(|cell| {
                let mut row = cell.row;
                row.version += 1;
                Arc::new(row)
            })
            .collect();
        let released: BTreeSet<Uuid> = sessions
            .iter()
            .map(|row| &row.session)
            .filter(|session| session.state == State::Released)
            .map(|session| session.id)
            .collect();
        let mut unreleased = changes.unreleased;
        let subscribers = changes
            .subscribers
            .into_values()
            .filter(|cell| cell.changed)
            .map(|cell| {
                let mut row = cell.row;
                row.version += 1;
                let mut sessions = unreleased.remove(&row.id);
                if let Some(sessions) = &mut sessions {
                    sessions.retain(|id| !released.contains(id));
                }
                (Arc::new(row), sessions)
            })
            .collect();
        Written {
            sessions,
            subscribers,
            steps: changes.steps.into_iter().map(Arc::new).collect(),
        }
    }
}
