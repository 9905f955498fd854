//! What a batch has changed, written in one transaction.

use sqlx::{AnyConnection, Connection as _};

use super::receipts::CountersRow;
use super::sql::{Dialect, Value, each, with_keys, with_rows};
use super::work::{Changes, Lease, waits};
use super::{Result, StoreError, lists, receipts, requests, sessions, steps, subscribers};
use crate::session::State;

/// Writes everything and commits. [`StoreError::Conflict`] when a row is not as it was loaded:
/// nothing is written then.
pub(super) async fn flush(
    connection: &mut AnyConnection,
    dialect: Dialect,
    changes: &Changes,
) -> Result<()> {
    let begin = match dialect {
        Dialect::Sqlite => "BEGIN IMMEDIATE",
        Dialect::Postgres => "BEGIN",
    };
    let mut transaction = connection.begin_with(begin).await?;
    write(&mut transaction, dialect, changes).await?;
    transaction.commit().await?;
    Ok(())
}

async fn write(connection: &mut AnyConnection, dialect: Dialect, changes: &Changes) -> Result<()> {
    // Always in the order of the keys: two batches never wait for each other in a ring.
    let mut changed: Vec<_> = changes
        .subscribers
        .values()
        .filter(|cell| cell.changed)
        .collect();
    changed.sort_by_key(|cell| cell.row.id);
    let rows = changed.iter().map(|cell| cell.row.values()).collect();
    expect_all(connection, dialect, subscribers::WRITE, rows).await?;

    let mut changed: Vec<_> = changes
        .sessions
        .values()
        .filter(|cell| cell.changed)
        .collect();
    changed.sort_by_key(|cell| cell.row.session.id);
    let rows = changed.iter().map(|cell| cell.row.values()).collect();
    expect_all(connection, dialect, sessions::WRITE, rows).await?;

    let mut waiting = Vec::new();
    let mut answered = Vec::new();
    for cell in &changed {
        let session = &cell.row.session;
        if waits(session) {
            let receipt_since_ms =
                (session.state == State::Disconnecting).then_some(cell.row.since_ms);
            waiting.push(vec![
                session.id.into(),
                session.connection.gateway.as_str().into(),
                receipt_since_ms.into(),
            ]);
        } else {
            answered.push(Value::from(session.id));
        }
    }
    let statement = "INSERT INTO waiting (session, gateway, receipt_since_ms) VALUES";
    let again = "ON CONFLICT (session) DO UPDATE SET gateway = excluded.gateway, \
                 receipt_since_ms = excluded.receipt_since_ms";
    with_rows(connection, dialect, statement, again, &waiting).await?;
    let statement = "DELETE FROM waiting WHERE session IN";
    with_keys(connection, dialect, statement, "", &answered).await?;

    let mut taken = Vec::new();
    let mut freed = Vec::new();
    for ((gateway, place), lease) in &changes.leases {
        match lease {
            Lease::Taken => {}
            Lease::Take(session) => {
                taken.push(vec![
                    gateway.as_str().into(),
                    (*place).into(),
                    (*session).into(),
                ]);
            }
            Lease::Free(session) => {
                freed.push(vec![
                    gateway.as_str().into(),
                    (*place).into(),
                    (*session).into(),
                ]);
            }
        }
    }
    let statement = (
        "INSERT INTO leases (gateway, place, session) VALUES",
        "ON CONFLICT DO NOTHING RETURNING place",
    );
    expect_all(connection, dialect, statement, taken).await?;
    let statement = "DELETE FROM leases WHERE gateway = ? AND place = ? AND session = ?";
    each(connection, dialect, statement, &freed).await?;
    let mut freed = Vec::new();
    for (gateway, session) in &changes.free_all {
        freed.push(vec![gateway.as_str().into(), (*session).into()]);
    }
    let statement = "DELETE FROM leases WHERE gateway = ? AND session = ?";
    each(connection, dialect, statement, &freed).await?;

    let mut answers: Vec<_> = changes
        .answers
        .iter()
        .filter(|(_, cell)| cell.changed)
        .collect();
    answers.sort_by_key(|(key, _)| *key);
    let rows = answers
        .iter()
        .map(|((subscriber, request), cell)| cell.row.values(*subscriber, *request))
        .collect();
    expect_all(connection, dialect, requests::WRITE, rows).await?;

    let mut rows: Vec<_> = changes.counters.iter().collect();
    rows.sort_by_key(|(session, _)| **session);
    let counters = rows
        .into_iter()
        .map(|(session, (gateway, generation, counters))| {
            CountersRow {
                session: *session,
                gateway: gateway.clone(),
                generation: *generation,
                counters: *counters,
            }
            .values()
        })
        .collect::<Vec<_>>();
    let mut gateways: Vec<_> = changes.gateways.iter().collect();
    gateways.sort_by_key(|(id, _)| id.as_str());
    let gateways: Vec<_> = gateways.iter().map(|(id, seen)| seen.values(id)).collect();
    let appended = [
        (
            steps::WRITE,
            changes.steps.iter().map(|row| row.values()).collect(),
        ),
        (
            receipts::WRITE,
            changes.receipts.iter().map(|row| row.values()).collect(),
        ),
        (receipts::WRITE_COUNTERS, counters),
        (lists::WRITE_GATEWAYS, gateways),
        (
            steps::WRITE_AUDIT,
            changes.audits.iter().map(|row| row.values()).collect(),
        ),
    ];
    for ((before, after), rows) in appended {
        with_rows(connection, dialect, before, after, &rows).await?;
    }
    Ok(())
}

/// Writes rows that must all be as they were loaded.
async fn expect_all(
    connection: &mut AnyConnection,
    dialect: Dialect,
    (before, after): (&'static str, &'static str),
    rows: Vec<Vec<Value>>,
) -> Result<()> {
    let written = with_rows(connection, dialect, before, after, &rows).await?;
    if written.len() == rows.len() {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}
