//! `audit`: an exported log is listed and verified by the binary, with the key that `pki init` made.

use std::path::Path;
use std::process::{Command, Output};

use doorstep_proto::v1 as pb;
use doorstep_server::audit::export::{write_entry, write_head};
use doorstep_server::audit::{Event, Head};
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_server::store::Database;
use uuid::Uuid;

use crate::common::{CONFIG, PHONE, Server, Subscriber};

const BIN: &str = env!("CARGO_BIN_EXE_doorstep-server");
/// More than one group of the table.
const ENTRIES: u128 = 2500;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(BIN)
        .arg("audit")
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn fails(dir: &Path, arguments: &[&str], expected: &str) {
    let output = run(dir, arguments);
    // What cannot be looked at is not found to be wrong.
    let unseen = ["no keys in", "cannot read", "not a head of"];
    let is_found = !unseen.iter().any(|text| expected.contains(text));
    let code = if is_found { 3 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(expected), "{arguments:?}: {error}");
}

#[test]
fn an_exported_log_is_listed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("server.toml"), CONFIG).unwrap();
    let config = Config::load(&dir.join("server.toml")).unwrap();
    let (file, config_file) = (["--file", "log"], ["--config", "server.toml"]);
    let verify = |more: &[&'static str]| [&["verify"], &file[..], &config_file, more].concat();
    std::fs::write(dir.join("log"), "").unwrap();
    fails(dir, &verify(&[]), "no keys in");
    keys::init(&config).unwrap();
    fails(dir, &verify(&[]), "the export was cut off");

    let key = keys::audit_key(&config).unwrap();
    let mut head = key.empty();
    let (mut entries, mut middle): (Vec<Vec<u8>>, Option<Head>) = (Vec::new(), None);
    for index in 0..ENTRIES {
        let event = Event {
            at_ms: 1_772_368_496_789 + index as i64,
            who: "operator".into(),
            action: if index % 2 == 0 {
                "forced"
            } else {
                "disconnect"
            }
            .into(),
            subscriber: Some(Uuid::from_u128(index)),
            session: None,
            detail: "line\u{1b}[2J".to_owned(),
        };
        let mut line = Vec::new();
        write_entry(&mut line, &key.append(&mut head, event)).unwrap();
        entries.push(line);
        if index == ENTRIES / 2 {
            middle = Some(head);
        }
    }
    let mut last = Vec::new();
    write_head(&mut last, &head).unwrap();
    let write = |entries: &[Vec<u8>]| {
        std::fs::write(dir.join("log"), [&entries.concat()[..], &last].concat()).unwrap();
    };
    write(&entries);

    let told = succeeds(dir, &verify(&[]));
    assert!(told.contains("2500, all as they were written"), "{told}");
    assert_eq!(
        succeeds(dir, &["head", "--file", "log"]).trim(),
        head.to_string()
    );
    std::fs::write(dir.join("kept"), format!("{}\n", middle.unwrap())).unwrap();
    let told = succeeds(dir, &verify(&["--head", "kept"]));
    assert!(told.contains("agrees, up to entry 1251"), "{told}");
    fails(
        dir,
        &verify(&["--head", "nowhere"]),
        "--head: cannot read the file nowhere",
    );
    fails(
        dir,
        &verify(&["--head", "audit1:7:00"]),
        "not a head of the audit log",
    );

    let table = succeeds(dir, &["list", "--file", "log", "--action", "forced"]);
    assert_eq!(
        table.lines().count(),
        1 + 1250,
        "one line above the columns, and no blank ones"
    );
    assert!(table.starts_with("NUMBER  AT"), "{table}");
    assert!(
        table.contains("2026-03-01T12:34:56.789Z"),
        "{}",
        &table[..200]
    );
    assert!(!table.contains('\u{1b}'), "nothing acts on the terminal");
    let one = Uuid::from_u128(7).to_string();
    let json = succeeds(dir, &["list", "--file", "log", "--of", &one, "-o", "json"]);
    assert_eq!(json.as_bytes(), entries[7], "as it was exported");

    // Someone who holds the file, not the key.
    let mut bad = entries.clone();
    bad[41] = String::from_utf8(bad[41].clone())
        .unwrap()
        .replace("operator", "operatox")
        .into_bytes();
    write(&bad);
    fails(dir, &verify(&[]), "entry 42 is not as it was written");
    bad = entries.clone();
    bad.remove(41);
    write(&bad);
    fails(
        dir,
        &verify(&[]),
        "entry 42 is missing: entry 43 follows entry 41",
    );
    write(&entries[..100]);
    fails(
        dir,
        &verify(&[]),
        "the log ends with entry 100, but its head counts 2500",
    );
    fails(
        dir,
        &verify(&["--head", "kept"]),
        "the anchor proves 1251 entries",
    );
}

/// What the operator does stands in the log, and the log is proven while the server runs.
#[tokio::test]
async fn the_log_of_a_running_server_is_verified() {
    for server in [Server::start().await, Server::start_on_postgres().await] {
        let dir = server.dir.path();
        let database = match &server.config.database {
            Database::Postgres(url) => format!("database = \"{url}\"\n"),
            Database::Sqlite(_) => String::new(),
        };
        std::fs::write(dir.join("server.toml"), database + CONFIG).unwrap();
        let config = ["--config", "server.toml"];
        let empty = succeeds(dir, &[&["head"], &config[..]].concat());
        assert!(empty.starts_with("audit1:0:"), "{empty}");

        let home = Subscriber::register(&server, PHONE).await;
        let subscriber_id = home.credentials.subscriber_id.clone();
        for _ in 0..3 {
            let request = pb::ResetSecretRequest {
                subscriber_id: subscriber_id.clone(),
                dry_run: false,
            };
            server.operator().await.reset_secret(request).await.unwrap();
        }
        let told = succeeds(
            dir,
            &[&["verify", "--head", empty.trim()], &config[..]].concat(),
        );
        assert!(told.contains("3, all as they were written"), "{told}");
        let listed = succeeds(
            dir,
            &[
                &["list", "--of", &subscriber_id, "--action", "reset-secret"],
                &config[..],
            ]
            .concat(),
        );
        assert_eq!(listed.lines().count(), 4, "{listed}");

        // What is exported proves itself as well.
        let exported = succeeds(dir, &[&["export"], &config[..]].concat());
        std::fs::write(dir.join("log"), exported).unwrap();
        let told = succeeds(dir, &[&["verify", "--file", "log"], &config[..]].concat());
        assert!(told.contains("3, all as they were written"), "{told}");
    }
}
