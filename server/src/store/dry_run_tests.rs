//! A dry run answers as a real one and leaves nothing behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::test_rows::session;
use super::*;

const ANN: Uuid = Uuid::from_u128(1);
const SESSION: Uuid = Uuid::from_u128(7);

fn ann() -> NewSubscriber {
    NewSubscriber {
        id: ANN,
        phone: Some((vec![1], vec![0])),
        id_card: None,
        claims: vec![vec![1]],
        secret_hash: vec![1],
    }
}

/// Everything that a unit of work may leave.
fn everything(work: &mut Work<'_>) -> Result<(bool, Option<i64>, usize)> {
    let inserted = work.insert_subscriber(&ann(), 1)?;
    let generation = work.take_generations(ANN, 3)?;
    let place = work.take_place("gw1", 8, 5, SESSION)?;
    work.insert_session(session(SESSION), Who::Operator, 1)?;
    work.revoke("gw1", 1);
    work.audit(Who::Operator, "test", Some(ANN), None, "", 1);
    let outcome = work.outcome(SESSION)?;
    assert_eq!(generation, 3);
    Ok((inserted, place, outcome.steps.len()))
}

/// All rows of all tables, and the file's own count of its changes.
fn dump(file: &std::path::Path) -> Vec<String> {
    let file = rusqlite::Connection::open(file).unwrap();
    let mut rows = Vec::new();
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let mut names = file.prepare(names).unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for name in names.map(|name| name.unwrap()) {
        let mut select = file.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = select.column_count();
        let mut all = select.query([]).unwrap();
        while let Some(row) = all.next().unwrap() {
            let cells = (0..columns).map(|index| format!("{:?}", row.get_ref(index).unwrap()));
            rows.push(format!("{name}: {}", cells.collect::<Vec<_>>().join(" | ")));
        }
    }
    rows
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.sqlite");
    let database = Database::Sqlite(file.clone());
    let key = AuditKey::new([7; 32].into());
    let committed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&committed);
    let told = move |_: &Committed| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let store = Store::open(&database, key, told, |_| {}).await.unwrap();
    let before = dump(&file);
    let answer = (true, Some(5), 1);
    for _ in 0..2 {
        let tried = store.change_or_try(Run::Dry, everything).await.unwrap();
        assert_eq!(tried, answer, "the same again: nothing was taken");
    }
    assert_eq!(dump(&file), before);
    assert_eq!(committed.load(Ordering::SeqCst), 0, "nobody is told");
    assert!(store.session(SESSION).await.unwrap().is_none());

    // Among real work of the same transaction.
    let (tried, done) = tokio::join!(
        store.change_or_try(Run::Dry, everything),
        store.change_or_try(Run::Real, everything),
    );
    assert_eq!((tried.unwrap(), done.unwrap()), (answer, answer));
    let after = dump(&file);
    assert_ne!(after, before);
    // As it is now; and what only reads changes nothing either.
    let tried = store.change_or_try(Run::Dry, |work| {
        assert!(!work.insert_subscriber(&ann(), 1)?);
        assert_eq!(work.take_generations(ANN, 1)?, 4);
        work.take_place("gw1", 8, 5, Uuid::from_u128(8))
    });
    assert_eq!(tried.await.unwrap(), Some(6));
    assert_eq!(dump(&file), after);
}

#[tokio::test]
async fn a_dry_run_is_refused_as_a_real_one() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(folder.path().join("server.sqlite"));
    let key = AuditKey::new([7; 32].into());
    let store = Store::open(&database, key, |_| {}, |_| {}).await.unwrap();
    let refusal = async |run| {
        let tried = store.change_or_try(run, |work| work.take_generations(ANN, 1));
        tried.await.unwrap_err().to_string()
    };
    assert_eq!(refusal(Run::Dry).await, refusal(Run::Real).await);
    store.close().await;
    assert!(refusal(Run::Dry).await.contains("shutting down"));
}
