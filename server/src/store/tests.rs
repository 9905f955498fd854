use uuid::Uuid;

use super::*;
use crate::audit::{AuditKey, Verifier};

async fn open(folder: &tempfile::TempDir) -> Store {
    let database = Database::Sqlite(folder.path().join("server.sqlite"));
    Store::open(&database, key(), |_| {}, |_| {}).await.unwrap()
}

fn key() -> AuditKey {
    AuditKey::new([7; 32].into())
}

fn new(number: u8) -> NewSubscriber {
    NewSubscriber {
        id: Uuid::from_u128(u128::from(number) + 1),
        phone: Some((vec![number], vec![0])),
        id_card: None,
        claims: vec![vec![number]],
        secret_hash: vec![number],
    }
}

async fn insert(store: &Store, new: NewSubscriber) -> Result<bool> {
    store
        .change(move |work| work.insert_subscriber(&new, 1))
        .await
}

#[tokio::test]
async fn what_comes_together_is_decided_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    assert!(insert(&store, new(1)).await.unwrap());
    let taken = (0..500).map(|_| store.change(|work| work.take_generations(new(1).id, 1)));
    let mut taken: Vec<u64> = futures::future::try_join_all(taken).await.unwrap();
    taken.sort_unstable();
    assert_eq!(taken, (1..=500).collect::<Vec<_>>());
    let row = store.subscriber(new(1).id).await.unwrap().unwrap();
    assert_eq!(row.subscriber.generation, 500);
    assert!(row.subscriber.version < 500, "they shared transactions");
}

#[tokio::test]
async fn one_number_is_registered_once_however_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let same = (0..20).map(|id| {
        let new = NewSubscriber {
            id: Uuid::from_u128(id + 1),
            ..new(7)
        };
        insert(&store, new)
    });
    let inserted = futures::future::try_join_all(same).await.unwrap();
    assert_eq!(inserted.iter().filter(|inserted| **inserted).count(), 1);
}

/// Two rows with one number, from a time when it was claimed under one key only.
#[tokio::test]
async fn a_number_that_two_have_is_renewed_for_both_and_found_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let (one, other) = (new(1), new(2));
    insert(&store, one.clone()).await.unwrap();
    insert(&store, other.clone()).await.unwrap();
    let was = store.subscriber(one.id).await.unwrap().unwrap().subscriber;
    let renewed = |claims: Vec<Vec<u8>>, sealed: u8| crate::vault::Renewed {
        number: crate::vault::Number {
            index: claims[0].clone(),
            sealed: vec![sealed],
        },
        claims,
    };
    let renew = async |was: &Subscriber, phone: crate::vault::Renewed| {
        let was = was.clone();
        store
            .change(move |work| work.renew_numbers(&was, Some(&phone), None))
            .await
            .unwrap()
    };
    let taken = renewed(vec![vec![2], vec![1]], 9);
    assert_eq!(renew(&was, taken).await, Renewal::Twice);
    let row = store.subscriber(one.id).await.unwrap().unwrap().subscriber;
    assert_eq!(
        (row.phone_index.as_deref(), row.phone_sealed.as_deref()),
        (None, Some([9].as_slice())),
        "it is read, and not found"
    );
    for (claim, who) in [(1, one.id), (2, other.id)] {
        assert_eq!(owner(&store, claim).await, Some(who));
    }
    // What was read before the row changed is not written over it.
    let late = renewed(vec![vec![3], vec![1]], 8);
    assert_eq!(renew(&was, late).await, Renewal::Changed);
    let own = renewed(vec![vec![3], vec![1]], 8);
    assert_eq!(renew(&row, own).await, Renewal::Done);
    let row = store.subscriber(one.id).await.unwrap().unwrap().subscriber;
    assert_eq!(row.phone_index, Some(vec![3]));
    assert_eq!(owner(&store, 3).await, Some(one.id));
}

#[tokio::test]
async fn work_that_fails_changes_nothing_and_lets_the_rest_through() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    insert(&store, new(1)).await.unwrap();
    let fails = store.change(|work| {
        work.take_generations(new(1).id, 10)?;
        Err::<(), _>(StoreError::Busy)
    });
    let goes = store.change(|work| work.take_generations(new(1).id, 1));
    let (failed, went) = tokio::join!(fails, goes);
    assert!(matches!(failed, Err(StoreError::Busy)));
    assert_eq!(went.unwrap(), 1);
}

/// Two servers on one database, as far as SQLite allows it: each has read before the other writes.
#[tokio::test]
async fn a_row_that_another_server_has_changed_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(&folder).await, open(&folder).await);
    insert(&one, new(1)).await.unwrap();
    let work = (0..200).map(|number| {
        let store = if number % 2 == 0 { &one } else { &other };
        store.change(|work| work.take_generations(new(1).id, 1))
    });
    let mut taken: Vec<u64> = futures::future::try_join_all(work).await.unwrap();
    taken.sort_unstable();
    assert_eq!(taken, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn places_are_given_once_until_the_pool_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let capacity = 3 * work::WINDOW + 5;
    let take = |session: i64| {
        let id = Uuid::from_u128(u128::from(session.unsigned_abs()) + 1);
        store.change(move |work| {
            // Wherever it begins, all of them are found.
            work.take_place("gw1", capacity, (session * 37) % capacity, id)
        })
    };
    let all = futures::future::try_join_all((0..capacity + 3).map(take))
        .await
        .unwrap();
    let mut given: Vec<i64> = all.iter().flatten().copied().collect();
    given.sort_unstable();
    assert_eq!(given, (0..capacity).collect::<Vec<_>>());
    assert_eq!(all.iter().filter(|place| place.is_none()).count(), 3);
}

#[tokio::test]
async fn nothing_is_taken_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let last = insert(&store, new(1));
    let (last, ()) = tokio::join!(last, store.close());
    assert!(last.unwrap(), "what came before the end is written");
    assert!(matches!(
        insert(&store, new(2)).await,
        Err(StoreError::Closed)
    ));
}

#[tokio::test]
async fn what_two_servers_note_is_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::Sqlite(folder.path().join("server.sqlite"));
    let (one, other) = (open(&folder).await, open(&folder).await);
    let notes = (0..100u128).map(|number| {
        let store = if number % 2 == 0 { &one } else { &other };
        store.change(move |work| {
            work.audit(Who::Operator, "test", None, None, &number.to_string(), 1);
            Ok::<(), StoreError>(())
        })
    });
    futures::future::try_join_all(notes).await.unwrap();

    let key = key();
    let verify = async |log: &mut AuditLog| {
        let mut verifier = Verifier::new(&key, None)?;
        loop {
            let entries = log.next().await.unwrap();
            if entries.is_empty() {
                return verifier.finish(&log.head());
            }
            entries.iter().try_for_each(|entry| verifier.push(entry))?;
        }
    };
    let mut log = AuditLog::open(&database, &key).await.unwrap();
    assert_eq!(verify(&mut log).await, Ok(100));

    // Somebody with access to the file takes one out.
    let file = rusqlite::Connection::open(folder.path().join("server.sqlite")).unwrap();
    file.execute("DELETE FROM audit WHERE number = 40", [])
        .unwrap();
    let mut log = AuditLog::open(&database, &key).await.unwrap();
    let fault = verify(&mut log).await.unwrap_err();
    assert_eq!(fault.first_bad(), Some(40));
}

async fn owner(store: &Store, claim: u8) -> Option<Uuid> {
    let owners = store.owners([[claim].as_slice()]).await.unwrap();
    owners.get([claim].as_slice()).copied()
}

#[tokio::test]
async fn what_something_else_has_counted_wrong_is_corrected() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for number in 1..=3 {
        insert(&store, new(number)).await.unwrap();
    }
    store
        .change(|work| {
            work.audit(Who::Operator, "reset-secret", None, None, "", 1);
            Ok::<(), StoreError>(())
        })
        .await
        .unwrap();
    let right = store.tallies().await.unwrap();
    assert_eq!(right.subscribers, 3);
    assert_eq!(store.audit_count("reset-secret").await.unwrap(), 1);
    assert_eq!(store.correct_tallies().await.unwrap(), 0);
    let wrong = [
        "UPDATE tallies SET count = count + 5 WHERE what = 'subscriber'",
        "INSERT INTO tallies (server, what, part, count) VALUES (x'07', 'established', 'gw1', 9)",
        "DELETE FROM tallies WHERE what = 'audit'",
    ];
    let wrong = wrong.map(|text| Statement::marks(text, vec![]));
    store.backend.write(wrong.to_vec()).await.unwrap();
    assert_eq!(store.tallies().await.unwrap().live["gw1"], 9);
    assert_eq!(store.correct_tallies().await.unwrap(), 3);
    assert_eq!(store.tallies().await.unwrap().subscribers, 3);
    assert_eq!(store.audit_count("reset-secret").await.unwrap(), 1);
    assert_eq!(store.correct_tallies().await.unwrap(), 0);
}
