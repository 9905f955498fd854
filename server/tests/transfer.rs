//! `database`: a whole database moves between SQLite and PostgreSQL by one file, or not at all.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_server::audit::Verifier;
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_server::store::transfer::{self, Summary, TransferError};
use doorstep_server::store::{AuditLog, Database};
use pb::AccessKind::{Additional, Connect, Move};

use crate::common::{
    CONFIG, HOME_1, HOME_2, ID_CARD, PHONE, Server, Subscriber, UNHURRIED, config_with, configure,
    on_postgres,
};

const OPERATOR: &str = "north-net";

/// A server that has something in most of its tables, stopped.
async fn filled() -> Server {
    let mut server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    gw1.establish().await;
    server
        .reaches(&first.session_id, pb::SessionState::Established)
        .await;
    home.ask(&server, Move, HOME_2).await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&disconnect.session_id, disconnect.generation)
        .await;
    gw1.receipt_ack().await;
    gw2.establish().await;
    server
        .reaches(&first.session_id, pb::SessionState::Established)
        .await;
    home.ask(&server, Additional, HOME_1).await.unwrap();
    for phone in ["13900000001", "13900000002", "13900000003"] {
        let other = Subscriber::register(&server, phone).await;
        let request = pb::ResetSecretRequest {
            subscriber_id: other.credentials.subscriber_id,
            dry_run: false,
        };
        server.operator().await.reset_secret(request).await.unwrap();
    }
    let both = pb::RegisterRequest {
        phone: "13900000009".to_owned(),
        id_card: ID_CARD.to_owned(),
        verification_code: String::new(),
    };
    server.access().await.register(both).await.unwrap();
    drop((gw1, gw2));
    server.stop().await;
    server
}

async fn export(database: &Database) -> (Vec<u8>, Summary) {
    let mut file = Vec::new();
    let summary = transfer::export(database, OPERATOR, &mut file)
        .await
        .unwrap();
    (file, summary)
}

async fn import(database: &Database, file: &[u8]) -> Result<Summary, TransferError> {
    transfer::import(database, OPERATOR, file, Run::Real).await
}

/// A database of the kind that these tests are about, and nothing in it.
fn empty(dir: &tempfile::TempDir) -> Database {
    let config = configure(CONFIG, dir.path());
    std::fs::create_dir_all(&config.data_dir).unwrap();
    config.database
}

/// One of the other kind.
fn other_kind(dir: &tempfile::TempDir) -> Database {
    if on_postgres() {
        Database::Sqlite(dir.path().join("other.db"))
    } else {
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let name = format!("o{}", name.trim_start_matches('.').to_lowercase());
        Database::Postgres(doorstep_test_postgres::shared(&name))
    }
}

async fn rows(database: &Database) -> u64 {
    export(database).await.1.rows.values().sum()
}

/// Goes through the whole log with the key, and returns how many entries it has.
async fn verified(config: &Config, database: &Database) -> u64 {
    let key = keys::audit_key(config).unwrap();
    let mut log = AuditLog::open(database, &key).await.unwrap();
    let mut verifier = Verifier::new(&key, None).unwrap();
    loop {
        let page = log.next().await.unwrap();
        if page.is_empty() {
            break;
        }
        for entry in page {
            verifier.push(&entry).unwrap();
        }
    }
    verifier.finish(&log.head()).unwrap();
    log.head().count
}

#[tokio::test]
async fn a_database_goes_to_the_other_kind_and_back() {
    let server = filled().await;
    let (file, summary) = export(&server.config.database).await;
    let text = String::from_utf8(file.clone()).unwrap();
    for number in [PHONE, ID_CARD, "13900000001"] {
        assert!(!text.contains(number), "a number is readable");
    }
    for table in [
        "audit", "gateways", "leases", "pools", "receipts", "requests", "sessions", "steps",
    ] {
        assert!(summary.rows[table] > 0, "{table} is empty: {summary:?}");
    }
    assert_eq!(summary.rows["subscribers"], 5);

    let dir = tempfile::tempdir().unwrap();
    let other = other_kind(&dir);
    assert_eq!(import(&other, &file).await.unwrap(), summary);
    let (again, _) = export(&other).await;
    assert!(again == file, "the other kind of database has other rows");
    let back = empty(&dir);
    import(&back, &again).await.unwrap();
    assert!(
        export(&back).await.0 == file,
        "rows changed on the way back"
    );
    assert_eq!(verified(&server.config, &other).await, 3);
    assert_eq!(verified(&server.config, &back).await, 3);
}

/// The subscriber's secret, the session and its place go along.
#[tokio::test]
async fn a_server_goes_on_with_what_was_imported() {
    let mut server = filled().await;
    let (file, _) = export(&server.config.database).await;
    let dir = tempfile::tempdir().unwrap();
    let other = other_kind(&dir);
    import(&other, &file).await.unwrap();
    server.config.database = other;
    server.resume().await;
    let listed = server
        .operator()
        .await
        .list_subscribers(pb::ListSubscribersRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.subscribers.len(), 5);
    let masked: Vec<_> = listed.subscribers.iter().map(|s| &s.phone_masked).collect();
    assert!(
        masked.iter().any(|phone| **phone == "138****5678"),
        "{masked:?}"
    );
    // Known under its number: indexes are found again.
    let again = pb::RegisterRequest {
        phone: PHONE.to_owned(),
        id_card: String::new(),
        verification_code: String::new(),
    };
    let refused = server.access().await.register(again).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_as_it_was_written_leaves_nothing() {
    let server = filled().await;
    let (file, _) = export(&server.config.database).await;
    let text = String::from_utf8(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len() - 1;
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    let step = lines
        .iter()
        .position(|line| line.contains("\"steps\""))
        .unwrap()
        + 1;
    let without = |index: usize| {
        let mut lines = lines.clone();
        lines.remove(index);
        joined(&lines)
    };
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "no export of a database"),
        ("phone,plan\n".to_owned(), "no export of a database"),
        (text[..text.len() / 2].to_owned(), "was cut off"),
        (joined(&lines[..last]), "was cut off"),
        (text.trim_end().to_owned(), "was cut off"),
        (without(step), "the file was changed"),
        (
            text.replacen("waits for gateway", "waits for nobody!", 1),
            "the file was changed",
        ),
        (
            text.replacen("\"pools\",\"columns\"", "\"moats\",\"columns\"", 1),
            "a table that this",
        ),
        (
            joined(&[&lines[..step], &["[1]"], &lines[step..]].concat()),
            "wrong number of values",
        ),
        (
            joined(&[&lines[..step], &["[{]"], &lines[step..]].concat()),
            "not a row",
        ),
        (text.clone() + "[]\n", "goes on after its last line"),
        (
            text.replacen("\"doorstep_database\":1", "\"doorstep_database\":2", 1),
            "format 2",
        ),
        (
            text.replacen("\"schema\":", "\"schema\":9", 1),
            "the file has schema version 9",
        ),
        (
            text.replacen(OPERATOR, "south-net", 1),
            "of operator south-net",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let database = empty(&dir);
    transfer::migrate(&database, Run::Real).await.unwrap();
    for (changed, want) in cases {
        assert_ne!(changed, text, "{want}: nothing was changed");
        let error = import(&database, changed.as_bytes()).await.unwrap_err();
        assert!(error.to_string().contains(want), "{want}: {error}");
        assert_eq!(rows(&database).await, 0, "{want}");
    }
    import(&database, text.as_bytes()).await.unwrap();
    let error = import(&database, text.as_bytes()).await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("is not empty: there are rows in audit, audit_head, "),
        "{error}"
    );
    assert!(!error.contains("enrollments"), "{error}");
}

#[tokio::test]
async fn a_schema_is_brought_up_to_date_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let database = empty(&dir);
    let made = transfer::migrate(&database, Run::Real).await.unwrap();
    assert_eq!(made.from, 0);
    assert!(made.to >= 2);
    let again = transfer::migrate(&database, Run::Real).await.unwrap();
    assert_eq!((again.from, again.to), (made.to, made.to));
    let old = Database::Sqlite(dir.path().join("old.db"));
    let Database::Sqlite(path) = &old else {
        unreachable!()
    };
    transfer::migrate(&old, Run::Real).await.unwrap();
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "DELETE FROM schema_version WHERE version = {}",
            made.to
        ))
        .unwrap();
    let error = transfer::export(&old, OPERATOR, Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::Behind { .. }), "{error}");
    connection
        .execute_batch("INSERT INTO schema_version VALUES (99)")
        .unwrap();
    let error = transfer::export(&old, OPERATOR, Vec::new())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("a newer server has used it"),
        "{error}"
    );
}

/// Registers and resets secrets, so that subscribers and audit entries are written together.
async fn write_on(server: &Server, from: u32, stop: tokio_util::sync::CancellationToken) -> u32 {
    let mut number = from;
    let mut operator = server.operator().await;
    while !stop.is_cancelled() {
        let home = Subscriber::register(server, &format!("137{number:08}")).await;
        let request = pb::ResetSecretRequest {
            subscriber_id: home.credentials.subscriber_id,
            dry_run: false,
        };
        operator.reset_secret(request).await.unwrap();
        number += 1;
    }
    number - from
}

/// Of a backup or an export made while the server writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_during_writes_is_of_one_moment() {
    let server = Server::start_with(&config_with(UNHURRIED)).await;
    let server = std::sync::Arc::new(server);
    let stop = tokio_util::sync::CancellationToken::new();
    let writer = {
        let (server, stop) = (std::sync::Arc::clone(&server), stop.clone());
        tokio::spawn(async move { write_on(&server, 0, stop).await })
    };
    let dir = tempfile::tempdir().unwrap();
    let mut copies: Vec<Database> = Vec::new();
    for index in 0..5 {
        let target = other_kind_numbered(&dir, index);
        let (file, summary) = export(&server.config.database).await;
        assert_eq!(import(&target, &file).await.unwrap(), summary);
        copies.push(target);
        let to = dir.path().join(format!("backup-{index}.db"));
        match (
            transfer::backup(&server.config.database, &to),
            on_postgres(),
        ) {
            (Ok(made), false) => {
                let metadata = to.metadata().unwrap();
                assert_eq!(made.bytes, metadata.len());
                assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
                copies.push(Database::Sqlite(to));
            }
            (Err(error), true) => {
                assert!(error.to_string().contains("pg_dump"), "{error}");
                assert!(!to.exists());
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    stop.cancel();
    assert!(writer.await.unwrap() > 0);
    for copy in copies {
        let entries = verified(&server.config, &copy).await;
        let registered = export(&copy).await.1.rows["subscribers"];
        assert!(
            registered == entries || registered == entries + 1,
            "{copy}: {registered} subscribers, {entries} entries"
        );
    }
}

/// A file is enough here: what PostgreSQL imports is another test's affair.
fn other_kind_numbered(dir: &tempfile::TempDir, index: usize) -> Database {
    Database::Sqlite(dir.path().join(format!("copy-{index}.db")))
}

fn command(dir: &Path, arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .arg("database")
        .args(arguments)
        .args(["--config", "server.toml"])
        .current_dir(dir)
        .output()
        .unwrap()
}

fn succeeds(dir: &Path, arguments: &[&str]) -> serde_json::Value {
    let output = command(dir, &[arguments, &["-o", "json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    let value = serde_json::from_slice(&output.stdout).unwrap();
    let words = [&["database"], arguments].concat();
    doorstep_test_schemas::assert_valid("doorstep-server", &words, &value);
    value
}

fn fails(dir: &Path, arguments: &[&str], want: &str) {
    let output = command(dir, arguments);
    let code = if want.starts_with("cannot") { 1 } else { 6 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(want), "{arguments:?}: {error}");
}

/// Where the commands find the database of a server.
fn write_config(dir: &Path, database: &Database) {
    let database = match database {
        Database::Postgres(url) => url.clone(),
        Database::Sqlite(path) => format!("sqlite:{}", path.display()),
    };
    let text = format!("database = \"{database}\"\n{CONFIG}");
    std::fs::write(dir.join("server.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_do_so_too() {
    let server = filled().await;
    let dir = server.dir.path();
    write_config(dir, &server.config.database);
    let written = succeeds(dir, &["export", "all.jsonl"]);
    assert_eq!(written["rows"]["subscribers"], 5);
    let mode = dir
        .join("all.jsonl")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    fails(dir, &["export", "all.jsonl"], "is there already");
    let left: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".doorstep-"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());

    let new = Database::Sqlite(dir.join("new.db"));
    write_config(dir, &new);
    let read = succeeds(dir, &["import", "all.jsonl"]);
    assert_eq!(read["sha256"], written["sha256"]);
    assert_eq!(read["audit_head_proven"], true);
    fails(dir, &["import", "all.jsonl"], "is not empty");
    let made = succeeds(dir, &["backup", "copy.db"]);
    assert!(made["bytes"].as_u64().unwrap() > 0);
    fails(dir, &["backup", "copy.db"], "is there already");
    assert_eq!(succeeds(dir, &["migrate"])["from"], made["schema"]);
    fails(dir, &["import", "nothing"], "cannot read nothing");
    // A server that runs has the folder.
    let lock = doorstep_server::serve::lock_data_dir(&server.config).unwrap();
    fails(dir, &["migrate"], "another server runs");
    fails(dir, &["import", "all.jsonl"], "another server runs");
    drop(lock);
}
