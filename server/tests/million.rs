//! The operator's questions with many sessions. How long they take is looked at with a million:
//! `DOORSTEP_SESSIONS=1000000 cargo test -p doorstep-server --release --test million -- --nocapture`

mod common;

use std::time::{Duration, Instant};

use common::{HOME_1, PHONE, Server, Subscriber};
use doorstep_proto::v1 as pb;
use doorstep_server::store::Database;
use pb::AccessKind::Connect;
use pb::SessionState as S;
use sqlx::{AssertSqlSafe, Connection as _};

/// So many where nothing else is said: more than a page looks at.
const SESSIONS: u32 = 20_000;
const MANY: u32 = 1_000_000;
/// With many of them, and a machine and a build that are there for that.
const MOST: Duration = Duration::from_millis(200);

const COMMUNITY: &str = "'110103-a' || (n % 997) || 'x-001-002-'";

/// The columns of a table with another text in the place of some of them.
fn copied(columns: &[String], others: &[(&str, &str)]) -> String {
    let texts = columns.iter().map(|column| {
        let other = others.iter().find(|(name, _)| name == column);
        other.map_or(column.as_str(), |(_, text)| *text)
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn sessions() -> u32 {
    let number = std::env::var("DOORSTEP_SESSIONS").ok();
    number.map_or(SESSIONS, |text| text.parse().expect("a number of sessions"))
}

/// Copies of the only subscriber, session and receipt.
async fn fill(database: &Database) {
    let last = sessions();
    match database {
        Database::Sqlite(path) => {
            let file = rusqlite::Connection::open(path).unwrap();
            let columns = |table: &str| -> Vec<String> {
                let mut names = file
                    .prepare("SELECT name FROM pragma_table_info(?)")
                    .unwrap();
                let names = names.query_map([table], |row| row.get(0)).unwrap();
                names.map(Result::unwrap).collect()
            };
            file.execute_batch("PRAGMA cache_size = -500000; BEGIN")
                .unwrap();
            let location = format!("{COMMUNITY} || printf('%04d', n % 9999)");
            for (table, others) in rows("randomblob(16)", &location) {
                let columns = columns(table);
                let insert = format!(
                    "WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers \
                     WHERE n < {last}) INSERT INTO {table} ({}) SELECT {} \
                     FROM (SELECT * FROM {table} LIMIT 1), numbers",
                    columns.join(", "),
                    copied(&columns, &others)
                );
                file.execute_batch(&insert).unwrap();
            }
            file.execute_batch("COMMIT; ANALYZE").unwrap();
        }
        Database::Postgres(url) => {
            let mut server = sqlx::PgConnection::connect(url).await.unwrap();
            let id = "decode(md5(random()::text || n), 'hex')";
            let location = format!("{COMMUNITY} || lpad((n % 9999)::text, 4, '0')");
            for (table, others) in rows(id, &location) {
                let columns: Vec<String> = sqlx::query_scalar(
                    "SELECT column_name::text FROM information_schema.columns \
                     WHERE table_name = $1 ORDER BY ordinal_position",
                )
                .bind(table)
                .fetch_all(&mut server)
                .await
                .unwrap();
                let insert = format!(
                    "INSERT INTO {table} ({}) SELECT {} FROM (SELECT * FROM {table} LIMIT 1) AS one, \
                     generate_series(2, {last}) AS n",
                    columns.join(", "),
                    copied(&columns, &others)
                );
                sqlx::raw_sql(AssertSqlSafe(insert))
                    .execute(&mut server)
                    .await
                    .unwrap();
            }
            sqlx::raw_sql("VACUUM ANALYZE")
                .execute(&mut server)
                .await
                .unwrap();
        }
    }
}

type Others<'a> = Vec<(&'a str, &'a str)>;

fn rows<'a>(id: &'a str, location: &'a str) -> [(&'static str, Others<'a>); 3] {
    let gateway = "'gw' || (n % 50)";
    let no_number = [
        "phone_index",
        "phone_sealed",
        "id_card_index",
        "id_card_sealed",
    ];
    let mut person = vec![("id", id)];
    person.extend(no_number.map(|column| (column, "NULL")));
    let session = vec![
        ("id", id),
        ("subscriber", id),
        ("gateway", gateway),
        ("location", location),
        ("since_ms", "since_ms + n"),
    ];
    let receipt = vec![("session", id), ("gateway", gateway)];
    [
        ("subscribers", person),
        ("sessions", session),
        ("receipts", receipt),
    ]
}

/// The longest of some.
async fn longest<T>(what: &str, mut ask: impl AsyncFnMut() -> T) -> T {
    let mut longest = Duration::ZERO;
    let mut answer = None;
    for _ in 0..10 {
        let began = Instant::now();
        answer = Some(ask().await);
        longest = longest.max(began.elapsed());
    }
    eprintln!("{what}: {longest:?} at most");
    assert!(longest <= MOST || sessions() < MANY, "{what}: {longest:?}");
    answer.unwrap()
}

async fn questions(mut server: Server) {
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let session = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    gw1.establish().await;
    server.reaches(&session, S::Established).await;
    home.release("").await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&session, disconnect.generation).await;
    gw1.receipt_ack().await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    drop(gw1);
    server.stop().await;
    fill(&server.config.database).await;
    server.resume().await;
    let began = Instant::now();
    let store = &server.running.as_ref().unwrap().engine.store;
    loop {
        let tallies = store.tallies().await.unwrap();
        if tallies.subscribers == u64::from(sessions()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!(
        "the rows of another hand were counted after {:?}",
        began.elapsed()
    );

    let mut operator = server.operator().await;
    let status = longest("status", async || {
        let status = operator.status(pb::OperatorStatusRequest {}).await;
        status.unwrap().into_inner()
    })
    .await;
    let counted: u64 = status
        .sessions_by_state
        .iter()
        .map(|state| state.count)
        .sum();
    assert_eq!(counted, u64::from(sessions()) + 1);
    let mut gateways = server.operator().await;
    longest("gateways", async || {
        let list = gateways.list_gateways(pb::ListGatewaysRequest {}).await;
        list.unwrap()
    })
    .await;
    let all = pb::ListSessionsRequest {
        limit: 100,
        include_released: true,
        ..pb::ListSessionsRequest::default()
    };
    for (what, list) in [
        ("100 sessions", all.clone()),
        (
            "100 sessions at a gateway",
            pb::ListSessionsRequest {
                gateway_id: "gw1".to_owned(),
                ..all.clone()
            },
        ),
        (
            "100 sessions in a community",
            pb::ListSessionsRequest {
                location_prefix: "110103-a5x".to_owned(),
                ..all.clone()
            },
        ),
        (
            "a page in a state that hardly any has",
            pb::ListSessionsRequest {
                include_released: false,
                states: vec![S::Refused.into()],
                ..all
            },
        ),
    ] {
        let mut operator = server.operator().await;
        longest(what, async || {
            let list = operator.list_sessions(list.clone()).await;
            list.unwrap()
        })
        .await;
    }
}

#[tokio::test]
async fn on_sqlite() {
    questions(Server::start().await).await;
}

#[tokio::test]
async fn on_postgres() {
    questions(Server::start_on_postgres().await).await;
}
