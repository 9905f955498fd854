use doorstep_location::LocationPrefix;

use super::pages::{LOOKED_AT, TEXTS};
use super::*;
use crate::audit::AuditKey;
use crate::session::{Connection, Session, State};

const SUBSCRIBERS: u128 = 5;
const SESSIONS: u128 = 90;

/// Ids all over, as those of version 4 are.
fn id(number: u128) -> Uuid {
    Uuid::from_u128((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn session(number: u128) -> Session {
    let state = State::ALL[usize::try_from(number % 7).unwrap()];
    let community = ["xin", "xinjing", "xinjingjiayuan"][usize::try_from(number % 3).unwrap()];
    let location = format!(
        "110103-{community}-00{}-002-{:03}",
        number % 2 + 1,
        number % 4
    );
    let own = test_rows::session(id(number));
    Session {
        subscriber: Uuid::from_u128(number % SUBSCRIBERS + 1),
        state,
        connection: Connection {
            location: location.parse().unwrap(),
            gateway: format!("gw{}", number % 5 % 2),
            ..own.connection
        },
        ..own
    }
}

async fn open(folder: &tempfile::TempDir) -> Store {
    let database = Database::Sqlite(folder.path().join("server.sqlite"));
    let key = AuditKey::new([7; 32].into());
    let store = Store::open(&database, key, |_| {}, |_| {}).await.unwrap();
    store
        .change(|work| {
            for number in 1..=SUBSCRIBERS {
                let new = NewSubscriber {
                    id: Uuid::from_u128(number),
                    phone: None,
                    id_card: None,
                    claims: Vec::new(),
                    secret_hash: Vec::new(),
                };
                work.insert_subscriber(&new, i64::try_from(number).unwrap())?;
            }
            for number in 0..SESSIONS {
                let at_ms = i64::try_from(number % 11).unwrap();
                work.insert_session(session(number), Who::Operator, at_ms)?;
            }
            Ok::<(), StoreError>(())
        })
        .await
        .unwrap();
    store
}

/// All pages, one behind the other.
async fn all_pages(store: &Store, which: &Sessions, limit: u32) -> Vec<SessionRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = store.sessions(which, after.as_ref(), limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize);
        rows.extend(page.rows);
        assert!(
            rows.len() <= usize::try_from(SESSIONS).unwrap(),
            "it never ends"
        );
        match page.next {
            None => return rows,
            next => after = next,
        }
    }
}

#[tokio::test]
async fn pages_have_what_is_asked_for_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let everything = all_pages(&store, &Sessions::default(), 1000).await;
    assert_eq!(everything.len(), usize::try_from(SESSIONS).unwrap());
    let locations = [
        "1101",
        "110103",
        "110103-xin",
        "110103-xinjing-001",
        "110104",
    ];
    let locations = locations.map(|text| Some(text.parse::<LocationPrefix>().unwrap()));
    let states = [
        &State::ALL[..],
        &[State::Refused],
        &[State::Connecting, State::Released],
    ];
    let mut asked = Vec::new();
    for location in locations.into_iter().chain([None]) {
        for gateway in [None, Some("gw0"), Some("gw9")] {
            for subscriber in [None, Some(Uuid::from_u128(2))] {
                for states in states {
                    for (since_ms, by_location) in [(0, false), (6, true)] {
                        asked.push(Sessions {
                            location: location.clone(),
                            by_location,
                            gateway: gateway.map(str::to_owned),
                            subscriber,
                            states: states.to_vec(),
                            since_ms,
                        });
                    }
                }
            }
        }
    }
    let mut found = 0;
    for which in &asked {
        let takes = |row: &&SessionRow| {
            let (session, connection) = (&row.session, &row.session.connection);
            which
                .location
                .as_ref()
                .is_none_or(|prefix| prefix.contains(&connection.location))
                && which
                    .gateway
                    .as_ref()
                    .is_none_or(|id| connection.gateway == *id)
                && which.subscriber.is_none_or(|id| session.subscriber == id)
                && which.states.contains(&session.state)
                && row.since_ms >= which.since_ms
        };
        let mut expected: Vec<_> = everything.iter().filter(takes).cloned().collect();
        expected.sort_by_key(|row| {
            let by_location = which.by_location || which.location.is_some();
            let by_location = by_location && which.subscriber.is_none();
            let location = row.session.connection.location.to_string();
            (by_location.then_some(location), row.session.id)
        });
        for limit in [7, 1000] {
            let rows = all_pages(&store, which, limit).await;
            assert!(rows == expected, "{which:?}, {limit} at a time");
        }
        found += expected.len();
    }
    assert!(found > 500, "the filters let something through: {found}");
}

#[tokio::test]
async fn subscribers_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.subscribers(2, after.as_ref(), 2).await.unwrap();
        seen.extend(
            page.rows
                .iter()
                .map(|row| (row.subscriber.id.as_u128(), row.sessions > 0)),
        );
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (2..=SUBSCRIBERS).map(|number| (number, true)).collect();
    assert_eq!(seen, expected);
}

/// No list sorts, or goes through rows that its keys do not name.
#[tokio::test]
async fn pages_are_read_by_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder).await.close().await;
    let file = rusqlite::Connection::open(folder.path().join("server.sqlite")).unwrap();
    for text in TEXTS.iter().flatten() {
        let explain = format!("EXPLAIN QUERY PLAN {text}");
        let mut plan = file.prepare(&explain).unwrap();
        let marks = vec!["a"; text.matches('?').count()];
        let steps = plan.query_map(rusqlite::params_from_iter(marks), |row| row.get(3));
        let steps: Vec<String> = steps.unwrap().map(|step| step.unwrap()).collect();
        assert_eq!(steps.len(), 1, "{text}: {steps:?}");
        assert!(steps[0].starts_with("SEARCH"), "{text}: {steps:?}");
    }
}

/// What nobody asks for is not gone through at once.
#[tokio::test]
async fn a_page_ends_after_so_many_rows_though_none_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let mut file = rusqlite::Connection::open(folder.path().join("server.sqlite")).unwrap();
    let more = file.transaction().unwrap();
    let copy =
        "CREATE TEMP TABLE copy AS SELECT * FROM sessions WHERE state = 'established' LIMIT 1";
    more.execute_batch(copy).unwrap();
    let mut rename = more.prepare("UPDATE copy SET id = ?").unwrap();
    let mut insert = more
        .prepare("INSERT INTO sessions SELECT * FROM copy")
        .unwrap();
    for number in SESSIONS..2 * LOOKED_AT as u128 - 10 {
        rename.execute([id(number).as_bytes()]).unwrap();
        insert.execute([]).unwrap();
    }
    drop((rename, insert));
    more.commit().unwrap();
    let location = "110103".parse().ok();
    for location in [None, location] {
        let which = Sessions {
            states: vec![State::Established],
            since_ms: 100,
            location,
            ..Sessions::default()
        };
        let (mut pages, mut after) = (0, None);
        loop {
            let page = store.sessions(&which, after.as_ref(), 10).await.unwrap();
            assert_eq!(page.rows, []);
            pages += 1;
            match page.next {
                None => break,
                next => after = next,
            }
        }
        assert_eq!(pages, 2, "{which:?}");
    }
}

#[test]
fn the_texts_name_how_much_is_looked_at() {
    for [_, end] in TEXTS {
        assert!(end.ends_with(&format!("OFFSET {}", LOOKED_AT - 1)), "{end}");
    }
}
