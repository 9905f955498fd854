//! `--dry-run` of the commands on files: every file is as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::common::CONFIG;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .args(arguments)
        .args(["--config", "server.toml", "-o", "json"])
        .current_dir(dir)
        .output()
        .unwrap()
}

/// Below the folder; the lock that whoever works there holds is always empty.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if !path.ends_with("lock") {
            let bytes = std::fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

/// Tried, which leaves all as it is; then done, which does not.
fn tried_and_done(dir: &Path, arguments: &[&str]) -> (Value, Value) {
    let [tried, done] = [true, false].map(|dry_run| {
        let before = files(dir);
        let option: &[&str] = if dry_run { &["--dry-run"] } else { &[] };
        let output = run(dir, &[arguments, option].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        let is_as_before = files(dir) == before;
        assert_eq!(is_as_before, dry_run, "{arguments:?}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        doorstep_test_schemas::assert_valid("doorstep-server", arguments, &value);
        assert_eq!(value["dry_run"] == true, dry_run, "{arguments:?}");
        value
    });
    (tried, done)
}

fn refused(dir: &Path, arguments: &[&str]) {
    let before = files(dir);
    let dry = run(dir, &[arguments, &["--dry-run"]].concat());
    assert!(files(dir) == before, "{arguments:?}");
    let real = run(dir, arguments);
    let told = String::from_utf8_lossy(&real.stderr);
    assert_eq!(real.status.code(), Some(6), "{arguments:?}: {told}");
    assert_eq!(dry.status.code(), Some(6), "{arguments:?}");
    assert_eq!(String::from_utf8_lossy(&dry.stderr), told, "{arguments:?}");
}

#[test]
fn keys_are_tried_and_then_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("server.toml"), CONFIG).unwrap();
    tried_and_done(dir, &["pki", "init"]);
    refused(dir, &["pki", "init"]);
    let (to_be, made) = tried_and_done(dir, &["pki", "issue", "gw1", "--out", "gw1"]);
    assert_eq!(to_be["key"], made["key"]);
    refused(dir, &["pki", "issue", "gw1", "--out", "gw1"]);
    tried_and_done(dir, &["keys", "rotate-seal"]);
    let (to_be, made) = tried_and_done(dir, &["keys", "identity", "add"]);
    assert_eq!(to_be["state"], "next");
    assert_eq!(to_be["file"], made[0]["file"]);
    refused(dir, &["keys", "identity", "add"]);
    refused(dir, &["keys", "identity", "retire", "1"]);
    let (to_be, made) = tried_and_done(dir, &["keys", "identity", "use", "2"]);
    assert_eq!(to_be["state"], "current");
    assert_eq!(to_be["file"], made[0]["file"]);
    refused(dir, &["pki", "rotate-ca", "activate"]);
    for step in [&["prepare"][..], &["activate", "--force"]] {
        tried_and_done(dir, &[&["pki", "rotate-ca"], step].concat());
    }
    refused(dir, &["pki", "rotate-ca", "finish"]);
    tried_and_done(dir, &["pki", "rotate-ca", "finish", "--force"]);
}

#[test]
fn databases_are_tried_and_then_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("server.toml"), CONFIG).unwrap();
    assert!(run(dir, &["pki", "init"]).status.success());
    let (to_be, made) = tried_and_done(dir, &["database", "migrate"]);
    assert_eq!((&to_be["from"], &to_be["to"]), (&made["from"], &made["to"]));
    assert!(run(dir, &["database", "export", "all"]).status.success());
    for entry in std::fs::read_dir(dir.join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("sqlite") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (to_be, made) = tried_and_done(dir, &["database", "import", "all"]);
    assert_eq!(to_be["rows"], made["rows"]);
    assert_eq!(to_be["sha256"], made["sha256"]);
    assert!(to_be["audit_head_proven"].is_null());
}
