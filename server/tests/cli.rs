//! The binary itself: keys, daemon, and client commands.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{CONFIG, HOME_1};

const BIN: &str = env!("CARGO_BIN_EXE_doorstep-server");

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(BIN)
        .args(arguments)
        .current_dir(dir)
        .env("DOORSTEP_SERVER_SOCKET", dir.join("admin.sock"))
        .output()
        .unwrap()
}

fn json(dir: &Path, arguments: &[&str]) -> Value {
    let output = run(dir, &[arguments, &["-o", "json"]].concat());
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let value = serde_json::from_slice(&output.stdout).unwrap();
    doorstep_test_schemas::assert_valid("doorstep-server", arguments, &value);
    value
}

/// Exit code and standard error of a command that must fail.
fn fails(dir: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(dir, arguments);
    assert!(!output.status.success(), "{arguments:?} must fail");
    assert!(output.stdout.is_empty());
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Ends the daemon however the test ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_daemon_and_clients() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = "server.toml";
    std::fs::write(dir.join(config), CONFIG).unwrap();

    let (code, error) = fails(dir, &["run", "--config", config]);
    assert_eq!(code, 1);
    assert!(error.contains("error: no keys in"), "{error}");
    let made = json(dir, &["pki", "init", "--config", config]);
    assert!(made["sealing_key"].as_str().unwrap().starts_with("dk1."));
    let (code, error) = fails(dir, &["pki", "init", "--config", config]);
    assert_eq!(code, 6);
    assert!(error.contains("never overwritten"), "{error}");
    for entry in std::fs::read_dir(dir.join("data/keys")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }

    let issued = json(
        dir,
        &["pki", "issue", "gw1", "--out", "gw1", "--config", config],
    );
    for field in ["certificate", "key", "ca"] {
        assert!(
            dir.join(issued[field].as_str().unwrap()).exists(),
            "{field}"
        );
    }
    fails(
        dir,
        &["pki", "issue", "gw1", "--out", "gw1", "--config", config],
    );
    let sealed = json(dir, &["keys", "seal", HOME_1, "--config", config]);
    assert!(sealed["sealed"].as_str().unwrap().starts_with("d1."));
    let rotated = json(dir, &["keys", "rotate-seal", "--config", config]);
    assert_ne!(rotated["sealing_key"], made["sealing_key"]);
    assert_eq!(rotated["ca_sha256"], made["ca_sha256"]);
    let (code, error) = fails(
        dir,
        &["keys", "seal", "--legacy", HOME_1, "--config", config],
    );
    assert_eq!(code, 6);
    assert!(error.contains("the legacy form is off"), "{error}");
    let (code, error) = fails(dir, &["keys", "seal", "nowhere", "--config", config]);
    assert_eq!(code, 2);
    assert!(error.contains("location id is not valid"), "{error}");

    let (code, error) = fails(dir, &["status"]);
    assert_eq!(code, 4);
    assert!(error.contains("cannot reach the server at"), "{error}");
    assert!(error.contains("No such file"), "{error}");
    assert_eq!(fails(dir, &["sessions", "explode"]).0, 2);

    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut daemon = Daemon(
        Command::new(BIN)
            .args(["run", "--config", config, "--log-format", "json"])
            .current_dir(dir)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let started = Instant::now();
    while !dir.join("admin.sock").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the daemon does not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let mode = std::fs::metadata(dir.join("admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for entry in std::fs::read_dir(dir.join("data")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("server.sqlite") {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
    let status = json(dir, &["status"]);
    assert_eq!(status["operator"], "north-net");
    assert_eq!(status["gateways_configured"], 2);
    assert_eq!(status["gateways_connected"], 0);
    assert_eq!(status["sessions_by_state"], serde_json::json!({}));
    assert!(status["listen"].as_str().unwrap().starts_with("127.0.0.1:"));
    let none = |list: &str| serde_json::json!({ list: [], "next_page_token": null });
    assert_eq!(json(dir, &["sessions"]), none("sessions"));
    let all = &["sessions", "list", "--all"];
    assert_eq!(json(dir, all), none("sessions"));
    assert_eq!(json(dir, &["subscribers"]), none("subscribers"));
    assert_eq!(json(dir, &["gateways"])[0]["gateway_id"], "gw1");
    assert!(run(dir, &["gateways"]).stdout.starts_with(b"GATEWAY"));
    let nobody = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
    for arguments in [
        &["sessions", "show", nobody][..],
        &["sessions", "force", nobody],
        &["sessions", "disconnect", nobody],
        &["sessions", "service", nobody, "--down", "20M", "--police"],
        &["subscribers", "show", nobody],
        &["subscribers", "reset-secret", nobody],
        &["subscribers", "plan", nobody, "--default"],
    ] {
        let (code, error) = fails(dir, arguments);
        assert_eq!(code, 5);
        assert!(
            error.starts_with("error: ") && error.contains("there is no such"),
            "{error}"
        );
    }
    for (arguments, expected) in [
        (&["--up", "63k"][..], "must be at least 64k"),
        (&["--down", "fast"], "must be bits per second"),
        (&["--priority", "8"], "0..=7"),
        (&["--plan", "home", "--up", "1M"], "cannot be used with"),
        (&["--shape", "--police"], "cannot be used with"),
        (&[], "required"),
    ] {
        let (code, error) = fails(dir, &[&["sessions", "service", nobody], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    assert_eq!(fails(dir, &["subscribers", "plan", nobody]).0, 2);
    let (code, error) = fails(dir, &["subscribers", "plan", nobody, "gold"]);
    assert_eq!(code, 2);
    assert!(error.contains("no [[plan]] is configured"), "{error}");
    let made = json(dir, &["pki", "token", "gw1", "--expires", "10m"]);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("dt1.gw1.north-net."));
    let made = json(dir, &["pki", "token", "gw1", "--out", "token"]);
    assert!(made["token"].is_null(), "it stands in the file alone");
    let mode = std::fs::metadata(dir.join("token")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let listed = json(dir, &["pki", "tokens"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed[0]["used_unix_ms"].is_null());
    let (code, error) = fails(dir, &["pki", "token", "gw9"]);
    assert_eq!(code, 6);
    assert!(error.contains("add a [[gateway]]"), "{error}");
    assert_eq!(fails(dir, &["pki", "token", "gw1", "--expires", "8d"]).0, 2);
    let revoked = json(dir, &["pki", "revoke", "gw1"]);
    assert!(revoked["issued_until_unix_ms"].as_i64().unwrap() > 0);
    let identity = |arguments: &[&str]| {
        json(
            dir,
            &[&["keys", "identity"], arguments, &["--config", config]].concat(),
        )
    };
    let listed = identity(&["list"]);
    assert_eq!(listed[0]["state"], "current");
    assert!(listed[0]["subscribers"].is_null(), "not counted for it");
    identity(&["add"]);
    let (code, error) = fails(
        dir,
        &["keys", "identity", "retire", "1", "--config", config],
    );
    assert_eq!(code, 6);
    assert!(error.contains("identity key 0001 seals"), "{error}");
    let listed = identity(&["use", "2"]);
    assert_eq!(listed[1]["state"], "old");
    assert_eq!(listed[1]["subscribers"], 0);
    // The server takes the files up by and by.
    let taken_up = Instant::now();
    let newest = || {
        let key = &json(dir, &["status"])["identity_keys"][0];
        (key["key"] == 2, key["state"] == "current")
    };
    while newest() != (true, true) {
        assert!(
            taken_up.elapsed() < Duration::from_secs(20),
            "the key is not taken up"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = identity(&["retire", "1"]);
    assert_eq!(listed[1]["state"], "retired");
    let keys = &json(dir, &["status"])["identity_keys"];
    assert_eq!(keys.as_array().unwrap().len(), 1);
    assert_eq!(keys[0]["key"], 2);
    // A second daemon on the same folder is refused, and the first goes on.
    let (code, error) = fails(dir, &["run", "--config", config]);
    assert_eq!(code, 6);
    assert!(error.contains("another server runs"), "{error}");
    json(dir, &["status"]);

    let pid = nix::unistd::Pid::from_raw(daemon.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = daemon.0.wait().unwrap();
    assert!(status.success(), "SIGTERM ends it orderly");
    assert!(!dir.join("admin.sock").exists(), "the socket is removed");
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    let secret = token.rsplit('.').next().unwrap();
    assert!(!log.contains(secret), "a token in the log");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[test]
fn configuration_errors_name_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("server.toml"), CONFIG.replace("listen", "listne")).unwrap();
    let (code, error) = fails(dir, &["run", "--config", "server.toml"]);
    assert_eq!(code, 1);
    assert!(error.contains("server.toml"), "{error}");
    assert!(error.contains("server.toml:4:1: "), "{error}");
    let (_, error) = fails(dir, &["run", "--config", "missing.toml"]);
    assert!(
        error.contains("cannot read the configuration missing.toml"),
        "{error}"
    );
    assert_eq!(fails(dir, &["run", "--confg", "server.toml"]).0, 2);
}
