//! What a batch has changed, as statements of one transaction.

use uuid::Uuid;

use super::sql::{Statement, Takes, Value};
use super::work::{Changes, Lease, waits};
use super::{
    accounts, enrollments, lists, numbers, receipts, requests, sessions, steps, subscribers,
};
use crate::session::State;

const WAITING: (&str, &str) = (
    "INSERT INTO waiting (session, gateway, receipt_since_ms)",
    "ON CONFLICT (session) DO UPDATE SET gateway = excluded.gateway, \
     receipt_since_ms = excluded.receipt_since_ms",
);
const ANSWERED: &str = "DELETE FROM waiting WHERE session";
const TAKE: (&str, &str) = (
    "INSERT INTO leases (gateway, place, session)",
    "ON CONFLICT DO NOTHING RETURNING place",
);
const FREE: (&str, &str) = ("DELETE FROM leases WHERE (gateway, place, session)", "");
const FREE_ALL: (&str, &str) = ("DELETE FROM leases WHERE (gateway, session)", "");

/// Rows always in the order of their keys: two batches never wait for each other in a ring. `is_own`:
/// nobody else writes to the database, and one more statement costs nothing.
pub(super) fn statements(changes: &Changes, is_own: bool) -> Vec<Statement> {
    let reindexed = |id: &Uuid| !is_own || changes.reindexed.contains(id);
    let mut all = Vec::new();
    all.extend(two_ways(
        changes.subscribers.values().filter(|cell| cell.changed),
        |cell| cell.row.id,
        |cell| cell.row.values(),
        reindexed,
        [subscribers::WRITE, subscribers::WRITE_IN_PLACE],
    ));
    all.push(Statement::new(
        Takes::InsertAll,
        numbers::WRITE_CLAIMS,
        by_key(
            changes.claims.iter().filter(|(_, cell)| cell.changed),
            |(claim, _)| claim.as_slice(),
            |(claim, cell)| vec![claim.as_slice().into(), cell.row.into()],
        ),
    ));
    all.extend(two_ways(
        changes.sessions.values().filter(|cell| cell.changed),
        |cell| cell.row.session.id,
        |cell| cell.row.values(),
        reindexed,
        [sessions::WRITE, sessions::WRITE_IN_PLACE],
    ));
    waiting(changes, &mut all);
    leases(changes, &mut all);
    all.push(Statement::new(
        Takes::InsertAll,
        requests::WRITE,
        by_key(
            changes.answers.iter().filter(|(_, cell)| cell.changed),
            |(key, _)| **key,
            |((subscriber, request), cell)| cell.row.values(*subscriber, *request),
        ),
    ));
    all.push(Statement::new(
        Takes::InsertAll,
        numbers::WRITE_WALKS,
        by_key(
            changes.walks.iter().filter(|(_, cell)| cell.changed),
            |(key, _)| **key,
            |(key, cell)| vec![i64::from(key.number()).into(), cell.row.into()],
        ),
    ));
    all.push(Statement::new(
        Takes::InsertAll,
        enrollments::WRITE_TOKENS,
        by_key(
            changes.tokens.iter().filter(|(_, cell)| cell.changed),
            |(hash, _)| hash.as_str(),
            |(hash, cell)| {
                vec![
                    hash.as_str().into(),
                    cell.row.gateway.as_str().into(),
                    cell.row.created_ms.into(),
                    cell.row.expires_ms.into(),
                    cell.row.used_ms.into(),
                ]
            },
        ),
    ));
    all.push(Statement::new(
        Takes::InsertAll,
        accounts::WRITE,
        by_key(
            changes.accounts.iter().filter(|(_, cell)| cell.changed),
            |(name, _)| **name,
            |(_, cell)| cell.row.values(),
        ),
    ));
    let insert = |text, rows| Statement::new(Takes::Insert, text, rows);
    all.extend([
        insert(
            steps::WRITE,
            changes.steps.iter().map(|row| row.values()).collect(),
        ),
        insert(
            receipts::WRITE,
            changes.receipts.iter().map(|row| row.values()).collect(),
        ),
        insert(
            receipts::WRITE_COUNTERS,
            by_key(
                changes.counters.iter(),
                |(session, _)| **session,
                |(_, row)| row.values(),
            ),
        ),
        insert(
            lists::WRITE_GATEWAYS,
            by_key(
                changes.gateways.iter(),
                |(id, _)| id.as_str(),
                |(id, seen)| seen.values(id),
            ),
        ),
        insert(
            enrollments::WRITE_REVOCATIONS,
            by_key(
                changes.revocations.iter(),
                |(gateway, _)| gateway.as_str(),
                |(gateway, until_ms)| vec![gateway.as_str().into(), (*until_ms).into()],
            ),
        ),
    ]);
    all.retain(|statement| !statement.rows.is_empty());
    all
}

/// Rows that indices have elsewhere now by the first of two texts, the others by the second.
fn two_ways<T: Copy>(
    all: impl Iterator<Item = T>,
    id: impl Fn(&T) -> Uuid,
    values: impl Fn(T) -> Vec<Value>,
    reindexed: impl Fn(&Uuid) -> bool,
    [elsewhere, in_place]: [(&'static str, &'static str); 2],
) -> [Statement; 2] {
    let (first, second): (Vec<_>, Vec<_>) = all.partition(|row| reindexed(&id(row)));
    [(elsewhere, first), (in_place, second)].map(|(text, rows)| {
        let rows = by_key(rows.into_iter(), &id, &values);
        Statement::new(Takes::InsertAll, text, rows)
    })
}

fn by_key<T: Copy, K: Ord>(
    all: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
    values: impl Fn(T) -> Vec<Value>,
) -> Vec<Vec<Value>> {
    let mut all: Vec<T> = all.collect();
    all.sort_by_key(key);
    all.into_iter().map(values).collect()
}

fn waiting(changes: &Changes, all: &mut Vec<Statement>) {
    let changed = || changes.sessions.values().filter(|cell| cell.changed);
    let waiting = by_key(
        changed().filter(|cell| waits(&cell.row.session)),
        |cell| cell.row.session.id,
        |cell| {
            let session = &cell.row.session;
            let awaited = session.state == State::Disconnecting;
            vec![
                session.id.into(),
                session.connection.gateway.as_str().into(),
                awaited.then_some(cell.row.since_ms).into(),
            ]
        },
    );
    all.push(Statement::new(Takes::Insert, WAITING, waiting));
    let answered = by_key(
        changed().filter(|cell| !waits(&cell.row.session)),
        |cell| cell.row.session.id,
        |cell| vec![cell.row.session.id.into()],
    );
    all.push(Statement::new(Takes::Match, (ANSWERED, ""), answered));
}

fn leases(changes: &Changes, all: &mut Vec<Statement>) {
    let mut taken = Vec::new();
    let mut freed = Vec::new();
    for ((gateway, place), lease) in &changes.leases {
        let (list, session) = match lease {
            Lease::Taken => continue,
            Lease::Take(session) => (&mut taken, session),
            Lease::Free(session) => (&mut freed, session),
        };
        list.push(vec![
            gateway.as_str().into(),
            (*place).into(),
            (*session).into(),
        ]);
    }
    let rest = changes.free_all.iter();
    let rest = rest.map(|(gateway, session)| vec![gateway.as_str().into(), (*session).into()]);
    all.push(Statement::new(Takes::InsertAll, TAKE, taken));
    all.push(Statement::new(Takes::Match, FREE, freed));
    all.push(Statement::new(Takes::Match, FREE_ALL, rest.collect()));
}
