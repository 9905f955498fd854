//! The rows that jobs work on, as they were loaded and as jobs have changed them since.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use doorstep_daemon::dry_run::Run;
use uuid::Uuid;

use super::Work;
use crate::account::Name;
use crate::audit::Event;
use crate::enroll::TokenRow;
use crate::session::State;
use crate::store::{Account, Answer, CountersRow, ReceiptRow, SessionRow, StepRow, Subscriber};
use crate::vault::KeyId;

/// What a job needs to see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    Session(Uuid),
    Subscriber(Uuid),
    /// Every session of the subscriber that is not released.
    SessionsOf(Uuid),
    /// Whether a request was answered already.
    Answer {
        subscriber: Uuid,
        request: Uuid,
    },
    /// Whether a place of a gateway is taken.
    Place {
        gateway: String,
        place: i64,
    },
    /// Which places of a gateway are taken, `WINDOW` of them from `WINDOW` times this number on.
    Places {
        gateway: String,
        window: i64,
    },
    /// Who has a number, by its index under one of the identity keys.
    Claim(Vec<u8>),
    /// Whether it was told already that no row needs this identity key any more.
    Walk(KeyId),
    /// An enrollment token, by its hash.
    Token(String),
    /// An account of the operator's people.
    Account(Name),
}

/// Places looked at together.
pub const WINDOW: i64 = 64;

/// Rows as a batch has them: as they were loaded, and as jobs have changed them since.
#[derive(Debug, Default)]
pub(in crate::store) struct Rows {
    loaded: HashSet<Need>,
    /// Those of `loaded` that were not read for this batch.
    assumed: HashSet<Need>,
    pub(super) now: Changes,
}

/// A session has gone from one state or gateway to another.
#[derive(Clone, Debug)]
pub(in crate::store) struct Transition {
    pub session: Uuid,
    /// With its gateway; none: it is new.
    pub before: Option<(State, String)>,
    pub after: State,
    pub gateway: String,
    /// There is somewhere for it to go on.
    pub moves: bool,
    pub at_ms: i64,
}

/// What is to be written. Of what is in memory, what was changed.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Changes {
    pub sessions: HashMap<Uuid, Cell<SessionRow>>,
    pub subscribers: HashMap<Uuid, Cell<Subscriber>>,
    /// Sessions and subscribers that are new, or that an index has elsewhere now.
    pub reindexed: HashSet<Uuid>,
    pub answers: HashMap<(Uuid, Uuid), Cell<Answer>>,
    /// By gateway and place.
    pub leases: BTreeMap<(String, i64), Lease>,
    /// Whatever these sessions have at these gateways, where the place is not known.
    pub free_all: BTreeSet<(String, Uuid)>,
    /// Numbers by their indexes, and whose they are.
    pub claims: BTreeMap<Vec<u8>, Cell<Uuid>>,
    /// When all rows of an identity key had been renewed.
    pub walks: BTreeMap<KeyId, Cell<i64>>,
    /// Enrollment tokens, by their hashes.
    pub tokens: BTreeMap<String, Cell<TokenRow>>,
    pub accounts: BTreeMap<Name, Cell<Account>>,
    /// By gateway: until when its certificates are void, in Unix milliseconds.
    pub revocations: BTreeMap<String, i64>,
    /// By subscriber.
    pub unreleased: HashMap<Uuid, BTreeSet<Uuid>>,
    pub steps: Vec<StepRow>,
    pub transitions: Vec<Transition>,
    pub receipts: Vec<ReceiptRow>,
    pub counters: HashMap<Uuid, CountersRow>,
    pub gateways: HashMap<String, GatewaySeen>,
    pub audits: Vec<Event>,
    /// Sessions whose gateways must look again.
    pub instruct: BTreeSet<Uuid>,
}

/// A row and whether it must be written.
#[derive(Clone, Debug)]
pub(in crate::store) struct Cell<T> {
    pub row: T,
    pub changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Lease {
    /// By somebody, when the rows were loaded.
    Taken,
    Take(Uuid),
    Free(Uuid),
}

#[derive(Clone, Debug)]
pub struct GatewaySeen {
    pub software_version: String,
    pub peer: String,
    pub seen_ms: i64,
    /// 0: as before.
    pub last_receipt: u64,
}

impl Rows {
    pub fn is_loaded(&self, need: &Need) -> bool {
        self.loaded.contains(need)
    }

    pub fn set_loaded(&mut self, need: Need) {
        self.loaded.insert(need);
    }

    /// It was not read: it is as the last write of this server left it, or as it mostly is.
    pub fn set_assumed(&mut self, need: Need) {
        self.assumed.insert(need.clone());
        self.loaded.insert(need);
    }

    /// What was assumed and is not part of what will be written. Writing fails where a row is not as
    /// it was assumed; what else was decided on one nobody would ever notice.
    pub fn doubtful(&self, is_newest: bool) -> BTreeSet<Need> {
        let changed = |subscriber: &Uuid| {
            let cell = self.now.subscribers.get(subscriber);
            cell.is_some_and(|cell| cell.changed)
        };
        let is_sure = |need: &Need| match need {
            Need::Session(id) => {
                is_newest || self.now.sessions.get(id).is_some_and(|cell| cell.changed)
            }
            Need::Subscriber(id) | Need::SessionsOf(id) => is_newest || changed(id),
            Need::Answer {
                subscriber,
                request,
            } => {
                let cell = self.now.answers.get(&(*subscriber, *request));
                cell.is_some_and(|cell| cell.changed)
            }
            Need::Place { .. }
            | Need::Places { .. }
            | Need::Claim(_)
            | Need::Walk(_)
            | Need::Token(_)
            | Need::Account(_) => true,
        };
        let doubtful = self.assumed.iter().filter(|need| !is_sure(need));
        doubtful.cloned().collect()
    }

    /// Whether these are as others, read since, have them.
    pub fn are_as(&self, read: &Rows, needs: &BTreeSet<Need>) -> bool {
        let session = |rows: &Rows, id| Some(rows.now.sessions.get(id)?.row.version);
        let person = |rows: &Rows, id| Some(rows.now.subscribers.get(id)?.row.version);
        let open = |rows: &Rows, subscriber: &Uuid| -> Vec<(Uuid, i64)> {
            let ids = rows.now.unreleased.get(subscriber);
            let rows = ids.into_iter().flatten().filter_map(|id| {
                let row = &rows.now.sessions.get(id)?.row;
                (row.session.state != State::Released).then_some((*id, row.version))
            });
            rows.collect()
        };
        needs.iter().all(|need| match need {
            Need::Session(id) => session(self, id) == session(read, id),
            Need::Subscriber(id) => person(self, id) == person(read, id),
            Need::SessionsOf(id) => open(self, id) == open(read, id),
            Need::Answer {
                subscriber,
                request,
            } => !read.now.answers.contains_key(&(*subscriber, *request)),
            Need::Place { .. }
            | Need::Places { .. }
            | Need::Claim(_)
            | Need::Walk(_)
            | Need::Token(_)
            | Need::Account(_) => true,
        })
    }

    /// The version of a subscriber's row, if it is here.
    pub fn subscriber_version(&self, id: Uuid) -> Option<i64> {
        Some(self.now.subscribers.get(&id)?.row.version)
    }

    /// A row as the database has it. One that a job has changed meanwhile stays.
    pub fn put_session(&mut self, row: SessionRow) {
        let id = row.session.id;
        self.now.sessions.entry(id).or_insert(Cell {
            row,
            changed: false,
        });
        self.loaded.insert(Need::Session(id));
    }

    pub fn put_subscriber(&mut self, row: Subscriber) {
        self.now.subscribers.entry(row.id).or_insert(Cell {
            row,
            changed: false,
        });
    }

    pub fn put_answer(&mut self, key: (Uuid, Uuid), row: Answer) {
        self.now.answers.entry(key).or_insert(Cell {
            row,
            changed: false,
        });
    }

    pub fn put_taken(&mut self, gateway: String, place: i64) {
        self.now
            .leases
            .entry((gateway, place))
            .or_insert(Lease::Taken);
    }

    pub fn put_claim(&mut self, claim: Vec<u8>, subscriber: Uuid) {
        self.now.claims.entry(claim).or_insert(Cell {
            row: subscriber,
            changed: false,
        });
    }

    pub fn put_walk(&mut self, (key, finished_ms): (KeyId, i64)) {
        self.now.walks.entry(key).or_insert(Cell {
            row: finished_ms,
            changed: false,
        });
    }

    pub fn put_token(&mut self, (hash, row): (String, TokenRow)) {
        self.now.tokens.entry(hash).or_insert(Cell {
            row,
            changed: false,
        });
    }

    pub fn put_account(&mut self, row: Account) {
        self.now.accounts.entry(row.name).or_insert(Cell {
            row,
            changed: false,
        });
    }

    pub fn put_unreleased(&mut self, subscriber: Uuid, session: Uuid) {
        self.now
            .unreleased
            .entry(subscriber)
            .or_default()
            .insert(session);
    }

    /// Runs one job. Its changes count only if it is a real one, succeeds, and has seen all that it asked
    /// for; otherwise what it still needs is returned.
    pub fn run<T, E>(
        &mut self,
        run: Run,
        job: impl FnOnce(&mut Work<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<std::result::Result<T, E>, BTreeSet<Need>> {
        let mut work = Work {
            rows: self,
            changes: Changes::default(),
            missing: BTreeSet::new(),
        };
        let result = job(&mut work);
        let Work {
            changes, missing, ..
        } = work;
        if !missing.is_empty() {
            return Err(missing);
        }
        if result.is_ok() && run == Run::Real {
            self.now.absorb(changes);
        }
        Ok(result)
    }

    pub fn into_changes(mut self) -> Changes {
        // Of whom one session was looked at, others may not be known.
        let all_known = self.loaded.iter().filter_map(|need| match need {
            Need::SessionsOf(subscriber) => Some(*subscriber),
            _ => None,
        });
        let mut unreleased = std::mem::take(&mut self.now.unreleased);
        self.now.unreleased = all_known
            .map(|id| (id, unreleased.remove(&id).unwrap_or_default()))
            .collect();
        self.now
    }
}

impl Changes {
    fn absorb(&mut self, newer: Changes) {
        self.sessions.extend(newer.sessions);
        self.subscribers.extend(newer.subscribers);
        self.reindexed.extend(newer.reindexed);
        self.answers.extend(newer.answers);
        self.leases.extend(newer.leases);
        self.free_all.extend(newer.free_all);
        self.claims.extend(newer.claims);
        self.walks.extend(newer.walks);
        self.tokens.extend(newer.tokens);
        self.accounts.extend(newer.accounts);
        self.revocations.extend(newer.revocations);
        self.unreleased.extend(newer.unreleased);
        self.steps.extend(newer.steps);
        self.transitions.extend(newer.transitions);
        self.receipts.extend(newer.receipts);
        self.counters.extend(newer.counters);
        self.gateways.extend(newer.gateways);
        self.audits.extend(newer.audits);
        self.instruct.extend(newer.instruct);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.sessions.values().any(|cell| cell.changed)
            && !self.subscribers.values().any(|cell| cell.changed)
            && !self.answers.values().any(|cell| cell.changed)
            && !self.claims.values().any(|cell| cell.changed)
            && !self.walks.values().any(|cell| cell.changed)
            && !self.tokens.values().any(|cell| cell.changed)
            && !self.accounts.values().any(|cell| cell.changed)
            && self.revocations.is_empty()
            && self.leases.values().all(|lease| *lease == Lease::Taken)
            && self.receipts.is_empty()
            && self.counters.is_empty()
            && self.gateways.is_empty()
            && self.audits.is_empty()
    }
}
