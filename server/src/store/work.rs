//! A unit of work: decisions on rows in memory, written together or not at all.
//!
//! A job is a function of a [`Work`]. It reads rows, decides, and leaves its changes there, without
//! waiting for anything. What it reads and what is not in memory is noted, loaded, and the job is
//! run again; so a job never has to know beforehand what it will need. Nothing that a job has
//! changed counts if it fails.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    Account, Answer, CountersRow, NewSubscriber, ReceiptRow, Result, SessionRow, StepRow,
    StoreError, Subscriber, Who,
};
use crate::account::Name;
use crate::audit::Event;
use crate::enroll::TokenRow;
use crate::session::machine::Change;
use crate::session::{Addresses, Session, State};
use crate::vault::KeyId;

mod rows;

pub(super) use rows::{Cell, Changes, Lease, Rows, Transition};
pub use rows::{GatewaySeen, Need, WINDOW};

/// What a job sees and changes.
#[derive(Debug)]
pub struct Work<'a> {
    rows: &'a Rows,
    changes: Changes,
    missing: BTreeSet<Need>,
}

/// Reading.
impl Work<'_> {
    /// What will be needed, all at once: a job that asks for one thing after the other is run again
    /// for each.
    pub fn expect(&mut self, needs: impl IntoIterator<Item = Need>) -> Result<()> {
        let rows = self.rows;
        self.missing
            .extend(needs.into_iter().filter(|need| !rows.is_loaded(need)));
        if self.missing.is_empty() {
            Ok(())
        } else {
            Err(StoreError::NotLoaded)
        }
    }

    /// Notes a need that is not loaded yet. The job is run again then, whatever it returns.
    fn need(&mut self, need: Need) -> Result<()> {
        if self.rows.is_loaded(&need) {
            return Ok(());
        }
        self.missing.insert(need);
        Err(StoreError::NotLoaded)
    }

    pub fn session(&mut self, id: Uuid) -> Result<Option<SessionRow>> {
        if let Some(cell) = self.changes.sessions.get(&id) {
            return Ok(Some(cell.row.clone()));
        }
        self.need(Need::Session(id))?;
        Ok(self.rows.now.sessions.get(&id).map(|cell| cell.row.clone()))
    }

    pub fn subscriber(&mut self, id: Uuid) -> Result<Option<Subscriber>> {
        if let Some(cell) = self.changes.subscribers.get(&id) {
            return Ok(Some(cell.row.clone()));
        }
        self.need(Need::Subscriber(id))?;
        let cell = self.rows.now.subscribers.get(&id);
        Ok(cell.map(|cell| cell.row.clone()))
    }

    fn known_subscriber(&mut self, id: Uuid) -> Result<Subscriber> {
        self.subscriber(id)?.ok_or(StoreError::NoSubscriber(id))
    }

    fn unreleased(&mut self, subscriber: Uuid) -> Result<BTreeSet<Uuid>> {
        if let Some(ids) = self.changes.unreleased.get(&subscriber) {
            return Ok(ids.clone());
        }
        self.need(Need::SessionsOf(subscriber))?;
        let ids = self.rows.now.unreleased.get(&subscriber);
        Ok(ids.cloned().unwrap_or_default())
    }

    /// A subscriber's sessions that are not released, the oldest first.
    pub fn sessions_of(&mut self, subscriber: Uuid) -> Result<Vec<SessionRow>> {
        let mut rows = Vec::new();
        for id in self.unreleased(subscriber)? {
            rows.extend(self.session(id)?);
        }
        rows.retain(|row| row.session.state != State::Released);
        rows.sort_by_key(|row| (row.created_ms, row.session.id));
        Ok(rows)
    }

    pub fn answer(&mut self, subscriber: Uuid, request: Uuid) -> Result<Option<Answer>> {
        let key = (subscriber, request);
        if let Some(cell) = self.changes.answers.get(&key) {
            return Ok(Some(cell.row.clone()));
        }
        self.need(Need::Answer {
            subscriber,
            request,
        })?;
        Ok(self.rows.now.answers.get(&key).map(|cell| cell.row.clone()))
    }

    /// Whose the number with this index is.
    pub fn claimed_by(&mut self, claim: &[u8]) -> Result<Option<Uuid>> {
        if let Some(cell) = self.changes.claims.get(claim) {
            return Ok(Some(cell.row));
        }
        self.need(Need::Claim(claim.to_vec()))?;
        Ok(self.rows.now.claims.get(claim).map(|cell| cell.row))
    }

    pub(super) fn walk_finished(&mut self, key: KeyId) -> Result<bool> {
        if self.changes.walks.contains_key(&key) {
            return Ok(true);
        }
        self.need(Need::Walk(key))?;
        Ok(self.rows.now.walks.contains_key(&key))
    }

    /// An enrollment token, by its hash.
    pub fn token(&mut self, hash: &str) -> Result<Option<TokenRow>> {
        if let Some(cell) = self.changes.tokens.get(hash) {
            return Ok(Some(cell.row.clone()));
        }
        self.need(Need::Token(hash.to_owned()))?;
        Ok(self.rows.now.tokens.get(hash).map(|cell| cell.row.clone()))
    }

    /// An account of the operator's people.
    pub fn account(&mut self, name: Name) -> Result<Option<Account>> {
        if let Some(cell) = self.changes.accounts.get(&name) {
            return Ok(Some(cell.row.clone()));
        }
        self.need(Need::Account(name))?;
        Ok(self
            .rows
            .now
            .accounts
            .get(&name)
            .map(|cell| cell.row.clone()))
    }
}

/// A session as a job leaves it, and the steps that the job adds to its history.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub row: SessionRow,
    pub steps: Vec<StepRow>,
}

/// What has come of it so far.
impl Work<'_> {
    /// Fails if there is no such session.
    pub fn outcome(&mut self, session: Uuid) -> Result<Outcome> {
        let row = self.session(session)?.ok_or(StoreError::Conflict)?;
        let steps = self.changes.steps.iter();
        let steps = steps.filter(|step| step.session == session).cloned();
        let steps = steps.collect();
        Ok(Outcome { row, steps })
    }
}

/// Changing.
impl Work<'_> {
    pub(super) fn write_subscriber(&mut self, row: Subscriber) {
        let before = self.rows.now.subscribers.get(&row.id);
        if before.is_none_or(|cell| cell.row.indexed() != row.indexed()) {
            self.changes.reindexed.insert(row.id);
        }
        self.changes
            .subscribers
            .insert(row.id, Cell { row, changed: true });
    }

    pub(super) fn write_session(&mut self, row: SessionRow) {
        let id = row.session.id;
        let before = self.rows.now.sessions.get(&id);
        if before.is_none_or(|cell| cell.row.indexed() != row.indexed()) {
            self.changes.reindexed.insert(id);
        }
        self.changes
            .sessions
            .insert(id, Cell { row, changed: true });
    }

    pub(super) fn write_claim(&mut self, claim: Vec<u8>, subscriber: Uuid) {
        let row = subscriber;
        self.changes
            .claims
            .insert(claim, Cell { row, changed: true });
    }

    pub(super) fn write_walk(&mut self, key: KeyId, finished_ms: i64) {
        let row = finished_ms;
        self.changes.walks.insert(key, Cell { row, changed: true });
    }

    /// `false` if one of the numbers is registered already.
    pub fn insert_subscriber(&mut self, new: &NewSubscriber, at_ms: i64) -> Result<bool> {
        let mut taken = false;
        for claim in &new.claims {
            // All are looked for, so that all are loaded together.
            taken |= self.claimed_by(claim).is_ok_and(|owner| owner.is_some());
        }
        if !self.missing.is_empty() {
            return Err(StoreError::NotLoaded);
        }
        if taken {
            return Ok(false);
        }
        for claim in &new.claims {
            self.write_claim(claim.clone(), new.id);
        }
        self.write_subscriber(Subscriber::new(new, at_ms));
        Ok(true)
    }

    /// `false` if there is no such subscriber.
    pub fn set_secret_hash(&mut self, id: Uuid, hash: &[u8]) -> Result<bool> {
        let Some(mut row) = self.subscriber(id)? else {
            return Ok(false);
        };
        row.secret_hash = hash.to_vec();
        self.write_subscriber(row);
        Ok(true)
    }

    /// `false` if there is no such subscriber.
    pub fn set_phones_ms(&mut self, id: Uuid, phones_ms: i64) -> Result<bool> {
        let Some(mut row) = self.subscriber(id)? else {
            return Ok(false);
        };
        row.phones_ms = row.phones_ms.max(phones_ms);
        self.write_subscriber(row);
        Ok(true)
    }

    /// `false` if there is no such subscriber. None: the default plan.
    pub fn set_plan(&mut self, id: Uuid, plan: Option<&str>) -> Result<bool> {
        let Some(mut row) = self.subscriber(id)? else {
            return Ok(false);
        };
        row.plan = plan.map(ToOwned::to_owned);
        self.write_subscriber(row);
        Ok(true)
    }

    /// Takes `count` fresh generations and returns the newest.
    pub fn take_generations(&mut self, subscriber: Uuid, count: u64) -> Result<u64> {
        let mut row = self.known_subscriber(subscriber)?;
        row.generation += count;
        let newest = row.generation;
        self.write_subscriber(row);
        Ok(newest)
    }

    /// A new session with the first step of its history.
    pub fn insert_session(&mut self, session: Session, who: Who, at_ms: i64) -> Result<()> {
        let (id, subscriber) = (session.id, session.subscriber);
        let mut ids = self.unreleased(subscriber)?;
        ids.insert(id);
        self.changes.unreleased.insert(subscriber, ids);
        self.goes(None, &session, at_ms);
        let mut row = SessionRow::new(session, at_ms);
        self.add_step(&mut row, who, at_ms);
        self.changes.instruct.insert(id);
        self.write_session(row);
        Ok(())
    }

    /// Makes a change that the state machine decided on: the row, its history, the addresses given
    /// back.
    pub fn apply(&mut self, before: &Session, change: &Change, who: Who, at_ms: i64) -> Result<()> {
        let after = &change.session;
        let Some(mut row) = self.session(after.id)? else {
            return Err(StoreError::Conflict);
        };
        if row.session.state != after.state || row.session.generation != after.generation {
            row.since_ms = at_ms;
        }
        // The line is another one.
        if after.state == State::Connecting && before.state != State::Connecting {
            row.terminal_mac.clear();
            row.line.clear();
            row.route.clear();
        }
        let gateway = &row.session.connection.gateway;
        if row.session.state != after.state || *gateway != after.connection.gateway {
            self.goes(Some((row.session.state, gateway.clone())), after, at_ms);
        }
        row.session = after.clone();
        for gateway in &change.free_addresses_at {
            let connections = [
                Some(&before.connection),
                before.target.as_ref().map(|target| &target.connection),
            ];
            for connection in connections.into_iter().flatten() {
                if connection.gateway != *gateway {
                    continue;
                }
                if let Some(place) = connection.addresses.place {
                    let key = (gateway.clone(), place);
                    self.changes.leases.insert(key, Lease::Free(after.id));
                } else if connection.addresses != Addresses::default() {
                    self.changes.free_all.insert((gateway.clone(), after.id));
                }
            }
        }
        if change.step {
            self.add_step(&mut row, who, at_ms);
        }
        if change.instruct {
            self.changes.instruct.insert(after.id);
        }
        self.write_session(row);
        Ok(())
    }

    pub fn set_established(
        &mut self,
        session: Uuid,
        terminal_mac: &str,
        line: &str,
        route: &str,
    ) -> Result<()> {
        let Some(mut row) = self.session(session)? else {
            return Ok(());
        };
        terminal_mac.clone_into(&mut row.terminal_mac);
        line.clone_into(&mut row.line);
        route.clone_into(&mut row.route);
        self.write_session(row);
        Ok(())
    }

    /// Ids are made here, so that each step can name the one before: those of one process rise.
    fn goes(&mut self, before: Option<(State, String)>, session: &Session, at_ms: i64) {
        self.changes.transitions.push(Transition {
            session: session.id,
            before,
            after: session.state,
            gateway: session.connection.gateway.clone(),
            moves: session.target.is_some(),
            at_ms,
        });
    }

    fn add_step(&mut self, row: &mut SessionRow, who: Who, at_ms: i64) {
        let session = &row.session;
        let step = StepRow {
            id: Uuid::now_v7(),
            previous: row.last_step,
            session: session.id,
            generation: session.generation,
            state: session.state,
            gateway: session.connection.gateway.clone(),
            detail: session.detail.clone(),
            who: who.name().into_owned(),
            at_ms,
        };
        row.last_step = Some(step.id);
        self.changes.steps.push(step);
    }

    /// A free place of a gateway's pools that hold `capacity` places: the one `wanted`, or the next
    /// free one behind it.
    pub fn take_place(
        &mut self,
        gateway: &str,
        capacity: i64,
        wanted: i64,
        session: Uuid,
    ) -> Result<Option<i64>> {
        // Mostly it is free.
        self.need(Need::Place {
            gateway: gateway.to_owned(),
            place: wanted,
        })?;
        if self.is_free(gateway, wanted) {
            self.take(gateway, wanted, session);
            return Ok(Some(wanted));
        }
        let windows = (capacity + WINDOW - 1) / WINDOW;
        let first = wanted / WINDOW;
        let mut ahead = 1;
        for step in 0..=windows {
            let window = (first + step) % windows.max(1);
            let need = Need::Places {
                gateway: gateway.to_owned(),
                window,
            };
            if !self.rows.is_loaded(&need) {
                // Twice as many each time: a full pool is gone through in few rounds.
                for more in 0..ahead.min(windows - step) {
                    self.missing.insert(Need::Places {
                        gateway: gateway.to_owned(),
                        window: (window + more) % windows,
                    });
                }
                return Err(StoreError::NotLoaded);
            }
            ahead = (ahead * 2).min(256);
            let start = window * WINDOW;
            let end = (start + WINDOW).min(capacity);
            // The first window is looked at from `wanted` on, and once more at the end.
            let from = if step == 0 { wanted } else { start };
            if let Some(place) = (from..end).find(|place| self.is_free(gateway, *place)) {
                self.take(gateway, place, session);
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn take(&mut self, gateway: &str, place: i64, session: Uuid) {
        let key = (gateway.to_owned(), place);
        self.changes.leases.insert(key, Lease::Take(session));
    }

    fn is_free(&self, gateway: &str, place: i64) -> bool {
        let key = (gateway.to_owned(), place);
        // A place that is given back in this batch is free for the next one: its row is still
        // there until the batch is written.
        !self.changes.leases.contains_key(&key) && !self.rows.now.leases.contains_key(&key)
    }

    /// Records a receipt; one that is there already stays as it is.
    pub fn record_receipt(&mut self, receipt: &ReceiptRow) {
        self.changes.receipts.push(receipt.clone());
    }

    pub fn record_answer(&mut self, subscriber: Uuid, request: Uuid, answer: &Answer) {
        let row = answer.clone();
        self.changes
            .answers
            .insert((subscriber, request), Cell { row, changed: true });
    }

    pub fn set_counters(&mut self, row: CountersRow) {
        self.changes.counters.insert(row.session, row);
    }

    /// A new token, or one that is used now. Fails if another server has used it meanwhile; then the
    /// job is run again.
    pub fn write_token(&mut self, hash: &str, row: TokenRow) {
        let cell = Cell { row, changed: true };
        self.changes.tokens.insert(hash.to_owned(), cell);
    }

    pub fn write_account(&mut self, row: Account) {
        let cell = Cell { row, changed: true };
        self.changes.accounts.insert(cell.row.name, cell);
    }

    /// Certificates of this gateway that were issued until then, in Unix milliseconds, are void.
    pub fn revoke(&mut self, gateway: &str, until_ms: i64) {
        self.changes
            .revocations
            .insert(gateway.to_owned(), until_ms);
    }

    pub fn gateway_seen(&mut self, id: &str, seen: GatewaySeen) {
        self.changes.gateways.insert(id.to_owned(), seen);
    }

    pub fn audit(
        &mut self,
        who: Who,
        action: &'static str,
        subscriber: Option<Uuid>,
        session: Option<Uuid>,
        detail: &str,
        at_ms: i64,
    ) {
        self.changes.audits.push(Event {
            at_ms,
            who: who.name(),
            action: action.into(),
            subscriber,
            session,
            detail: detail.to_owned(),
        });
    }
}

/// What a session's gateway still owes an answer to, as `waiting` has it.
pub(super) fn waits(session: &Session) -> bool {
    match session.state {
        State::Connecting | State::Disconnecting | State::DisconnectingUnconfirmed => true,
        State::Establishing | State::Established => !session.service.is_acknowledged(),
        State::Refused | State::Released => false,
    }
}
