use super::work::waits;
use super::*;
use crate::session::machine::{self, Event, Outcome};
use crate::session::{Connection, Session, State, Target};

const SESSION: Uuid = Uuid::from_u128(7);

fn session() -> Session {
    Session {
        state: State::Established,
        ..test_rows::session(SESSION)
    }
}

async fn open(folder: &tempfile::TempDir) -> Store {
    let database = Database::Sqlite(folder.path().join("server.sqlite"));
    let key = AuditKey::new([7; 32].into());
    let store = Store::open(&database, key, |_| {}, |_| {}).await.unwrap();
    store
        .change(|work| work.insert_session(session(), Who::Operator, 1))
        .await
        .unwrap();
    store
}

/// Changes the session by one unit of work for each of `changes`, all of one transaction, and gives it as the
/// database has it then.
async fn change(store: &Store, changes: &[fn(&mut Session)]) -> Session {
    let changes = changes.iter().map(|change| {
        let change = *change;
        store.change(move |work| {
            let mut row = work.session(SESSION)?.ok_or(StoreError::Conflict)?;
            change(&mut row.session);
            work.write_session(row);
            Ok::<(), StoreError>(())
        })
    });
    futures::future::try_join_all(changes).await.unwrap();
    let mut rows = store.sessions_with(&[SESSION]).await.unwrap();
    rows.pop().unwrap().session
}

#[tokio::test]
async fn whatever_changes_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let mut expected = session();
    let changes: [fn(&mut Session); 7] = [
        |session| session.detail = "other".to_owned(),
        |session| session.connection.gateway = "gw2".to_owned(),
        |session| {
            session.connection.location = "110103-xinjingjiayuan-001-002-005".parse().unwrap();
        },
        |session| {
            session.target = Some(Target {
                generation: 2,
                connection: session.connection.clone(),
            });
        },
        |session| session.service.plan = Some("home".to_owned()),
        |session| session.service.service.time_to_live_s = 60,
        |session| session.state = State::Released,
    ];
    for change_one in changes {
        change_one(&mut expected);
        assert_eq!(change(&store, &[change_one]).await, expected);
    }
    // A gateway that one job changes and the next one of the same transaction leaves alone.
    let back: [fn(&mut Session); 2] = [
        |session| session.connection.gateway = "gw1".to_owned(),
        |session| session.detail = "back".to_owned(),
    ];
    let session = change(&store, &back).await;
    assert_eq!(session.connection.gateway, "gw1");
    assert_eq!(session.detail, "back");
}

/// Whoever adds an index to a table must leave its columns out of what is written in place.
#[tokio::test]
async fn nothing_that_an_index_has_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.close().await;
    let file = rusqlite::Connection::open(folder.path().join("server.sqlite")).unwrap();
    // The indices' own texts, which name the columns of their conditions, too, and the columns of those
    // that come from UNIQUE.
    let indexed = |table: &str| -> Vec<String> {
        let text = "SELECT COALESCE(list.sql, info.name) FROM sqlite_master AS list \
                    JOIN pragma_index_info(list.name) AS info \
                    JOIN pragma_index_list(list.tbl_name) AS kinds ON kinds.name = list.name \
                    WHERE list.type = 'index' AND list.tbl_name = ? AND kinds.origin <> 'pk'";
        let mut indices = file.prepare(text).unwrap();
        let texts = indices.query_map([table], |row| row.get(0)).unwrap();
        texts.map(|text| text.unwrap()).collect()
    };
    for (table, text, least) in [
        ("sessions", sessions::WRITE_IN_PLACE.1, 4),
        ("subscribers", subscribers::WRITE_IN_PLACE.1, 3),
    ] {
        let indexed = indexed(table);
        assert!(indexed.len() >= least, "{table}: {indexed:?}");
        let set = text.split("DO UPDATE SET").nth(1).unwrap();
        let set = set.split("WHERE").next().unwrap().split(',');
        for column in set.map(|assignment| assignment.split('=').next().unwrap().trim()) {
            let names = |index: &&String| {
                let words = index.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.into_iter().any(|word| word == column)
            };
            assert_eq!(indexed.iter().find(names), None, "{table}: {column}");
        }
    }
}

#[tokio::test]
async fn plans_in_use_are_each_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    assert_eq!(store.plans_in_use().await.unwrap(), [""; 0]);
    let plans = [None, Some("b"), Some("a"), Some("b"), Some("office"), None];
    for (number, plan) in (10..).zip(plans) {
        let new = NewSubscriber {
            id: Uuid::from_u128(number),
            phone: None,
            id_card: None,
            claims: Vec::new(),
            secret_hash: Vec::new(),
        };
        let subscribed = store.change(move |work| {
            work.insert_subscriber(&new, 1)?;
            work.set_plan(new.id, plan)
        });
        assert!(subscribed.await.unwrap());
    }
    assert_eq!(store.plans_in_use().await.unwrap(), ["a", "b", "office"]);
    change(
        &store,
        &[|session| session.service.plan = Some("home".to_owned())],
    )
    .await;
    let all = ["a", "b", "home", "office"];
    assert_eq!(store.plans_in_use().await.unwrap(), all);
    change(&store, &[|session| session.state = State::Released]).await;
    assert_eq!(store.plans_in_use().await.unwrap(), ["a", "b", "office"]);
}

const NEW_HOME: &str = "110103-xinjingjiayuan-001-002-009";

fn new_home(generation: u64) -> Target {
    Target {
        generation,
        connection: Connection {
            location: NEW_HOME.parse().unwrap(),
            gateway: "gw2".to_owned(),
            ..session().connection
        },
    }
}

/// What `find::AT` relies on, with the state machine's own test that nothing else keeps a target.
#[test]
fn whatever_may_have_a_target_waits() {
    for state in State::ALL {
        let session = Session { state, ..session() };
        assert!(waits(&session) || !state.is_disconnecting(), "{state}");
    }
}

#[tokio::test]
async fn who_is_to_be_at_a_location_is_found_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let old_home = session().connection.location.to_string();
    let begin = |generation| Event::Move {
        disconnect_generation: generation,
        target: new_home(generation + 1),
    };
    let receipt = |generation| Event::Receipt {
        gateway: "gw1",
        generation,
    };
    let unanswered = Event::Unanswered {
        gateway_connected: false,
    };
    let refused = Event::Nack {
        gateway: "gw1",
        generation: 2,
        revision: 0,
        reason: "no",
    };
    // Whether it is found by the old home, and by the new one.
    for (event, expected) in [
        (begin(2), [true, true]),
        (unanswered, [true, true]),
        (refused, [true, true]),
        (receipt(2), [false, true]),
        (Event::Release { generation: 4 }, [false, true]),
    ] {
        let happens = event.clone();
        let changed = store.change(move |work| {
            let before = work.session(SESSION)?.ok_or(StoreError::Conflict)?.session;
            let Outcome::Changed(change) = machine::apply(&before, happens.clone()) else {
                return Err(StoreError::Conflict);
            };
            work.apply(&before, &change, Who::Gateway, 2)
        });
        changed.await.unwrap();
        for (location, expected) in [&old_home, NEW_HOME].into_iter().zip(expected) {
            let found = store.sessions_at(location).await.unwrap();
            let ids: Vec<_> = found.iter().map(|row| row.session.id).collect();
            let all: &[Uuid] = if expected { &[SESSION] } else { &[] };
            assert_eq!(ids, all, "{location} after {event:?}");
        }
    }
}

#[tokio::test]
async fn a_location_is_found_without_reading_all_sessions() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await.close().await;
    let file = rusqlite::Connection::open(folder.path().join("server.sqlite")).unwrap();
    let mut plan = file
        .prepare(&format!("EXPLAIN QUERY PLAN {}", find::AT))
        .unwrap();
    let steps = plan.query_map(["a", "a"], |row| row.get(3)).unwrap();
    let steps: Vec<String> = steps.map(|step| step.unwrap()).collect();
    assert!(
        steps
            .iter()
            .any(|step| step.contains("sessions_by_location")),
        "{steps:?}"
    );
    let scan = |step: &&String| step.starts_with("SCAN sessions");
    assert_eq!(steps.iter().find(scan), None, "{steps:?}");
}
