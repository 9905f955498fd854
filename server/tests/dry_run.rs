//! `--dry-run` of every command that asks the running server: it answers, or is refused, as the real one,
//! and every row is as it was.

use std::process::{Output, Stdio};
use std::time::Duration;

use doorstep_server::store::transfer;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::common::{HOME_1, HOME_1B, HOME_2, NOWHERE, Server, Subscriber, UNHURRIED, config_with};

const NOBODY: &str = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
const PASSWORD: &str = "correct horse battery";

fn config() -> String {
    let plan = "[[plan]]\nname = \"fast\"\ndownstream = \"1G\"\nupstream = \"1G\"\n";
    format!("country_code = \"86\"\n{}{plan}", config_with(UNHURRIED))
}

async fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .args(arguments)
        .args(["-o", "json"])
        .current_dir(server.dir.path())
        .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that reads nothing may have ended already.
    let _ = input.write_all(format!("{PASSWORD}\n").as_bytes()).await;
    drop(input);
    child.wait_with_output().await.unwrap()
}

/// Every row, as of one moment: the audit log among them.
async fn rows(server: &Server) -> String {
    let mut rows = Vec::new();
    let database = &server.config.database;
    let exported = transfer::export(database, &server.config.operator, &mut rows);
    exported.await.unwrap();
    String::from_utf8(rows).unwrap()
}

/// Once nothing is under way any more.
async fn rows_at_rest(server: &Server) -> String {
    let mut before = rows(server).await;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = rows(server).await;
        if now == before {
            return now;
        }
        before = now;
    }
}

/// What a command would do; then nothing has happened.
async fn tried(server: &Server, arguments: &[&str]) -> Value {
    let before = rows_at_rest(server).await;
    let output = run(server, &[arguments, &["--dry-run"]].concat()).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    assert!(
        told.contains("nothing was changed"),
        "{arguments:?}: {told}"
    );
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    doorstep_test_schemas::assert_valid("doorstep-server", arguments, &value);
    assert_eq!(value["dry_run"], true, "{arguments:?}");
    assert!(
        rows(server).await == before,
        "{arguments:?} has changed rows"
    );
    value
}

async fn done(server: &Server, arguments: &[&str]) -> Value {
    let before = rows_at_rest(server).await;
    let output = run(server, arguments).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    doorstep_test_schemas::assert_valid("doorstep-server", arguments, &value);
    assert!(value["dry_run"].is_null(), "{arguments:?}");
    assert!(
        rows(server).await != before,
        "{arguments:?} has changed no row"
    );
    value
}

/// The same refusal, tried and in earnest.
async fn refused(server: &Server, arguments: &[&str]) {
    let before = rows_at_rest(server).await;
    let dry = run(server, &[arguments, &["--dry-run"]].concat()).await;
    assert!(
        rows(server).await == before,
        "{arguments:?} has changed rows"
    );
    let real = run(server, arguments).await;
    let told = String::from_utf8_lossy(&real.stderr);
    assert!(!real.status.success(), "{arguments:?}");
    assert_eq!(
        dry.status.code(),
        real.status.code(),
        "{arguments:?}: {told}"
    );
    let error = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = text.lines().find(|line| line.starts_with("error: "));
        line.unwrap_or_else(|| panic!("{arguments:?}: {text}"))
            .to_owned()
    };
    assert_eq!(error(&dry), error(&real), "{arguments:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_tried_and_then_changed() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (home, connect) = Subscriber::established(&server, &mut gw1).await;
    drop(gw1);
    let other = Subscriber::register(&server, "13900001234").await;
    let (home, other) = (home.credentials, other.credentials);
    let (home, other) = (home.subscriber_id.as_str(), other.subscriber_id.as_str());
    let session = connect.session_id.as_str();

    let connect = ["sessions", "connect", HOME_2, "--subscriber", other];
    let connect = [&connect[..], &["--establishment", "dhcp"]].concat();
    let to_be = tried(&server, &connect).await;
    assert_eq!(to_be["state"], "connecting");
    assert_eq!(to_be["gateway_id"], "gw2");
    assert_eq!(to_be["session_id"], "", "the real one would be another");
    let made = done(&server, &connect).await;
    assert_eq!(
        to_be["ipv4_address"], made["ipv4_address"],
        "it was not taken"
    );
    let dhcp = made["session_id"].as_str().unwrap();

    let service = ["sessions", "service", session, "--down", "20M", "--police"];
    assert_eq!(
        tried(&server, &service).await["service"],
        done(&server, &service).await["service"]
    );
    let relocate = ["sessions", "move", dhcp, HOME_1B];
    let to_be = tried(&server, &relocate).await;
    assert_eq!(to_be["target_location_id"], HOME_1B);
    done(&server, &relocate).await;

    let end = ["sessions", "disconnect", session];
    refused(&server, &["sessions", "force", session]).await;
    let to_be = tried(&server, &end).await;
    let ended = done(&server, &end).await;
    assert_eq!(to_be["state"], ended["state"]);
    let steps = |value: &Value| value["steps"].as_array().unwrap().len();
    assert_eq!(
        steps(&to_be),
        steps(&ended),
        "with the step that is to come"
    );
    let force = ["sessions", "force", session];
    assert_eq!(tried(&server, &force).await["state"], "released");
    done(&server, &force).await;

    for arguments in [
        &["sessions", "disconnect", NOBODY][..],
        &["sessions", "move", session, HOME_1],
        &["sessions", "move", dhcp, NOWHERE],
        &["sessions", "service", NOBODY, "--up", "10M"],
        &["sessions", "service", dhcp, "--plan", "slow"],
        &["sessions", "connect", NOWHERE, "--subscriber", home],
        &["sessions", "connect", HOME_1, "--subscriber", NOBODY],
        &["sessions", "connect", HOME_1, "--subscriber", other],
    ] {
        refused(&server, arguments).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_else_is_tried_and_then_changed() {
    let server = Server::start_with(&config()).await;
    let home = Subscriber::register(&server, "13900001234").await;
    let home = home.credentials.subscriber_id.as_str();
    let file = |name: &str, text: &str| {
        std::fs::write(server.dir.path().join(name), text).unwrap();
    };
    file("server.toml", &config().replace("1G", "2G"));
    file("new.csv", "phone,plan\n13900000001,fast\n13900000002,\n");
    file("refused.csv", "phone,plan\n123,\n13900000003,slow\n");
    file(
        "all.csv",
        &format!("subscriber,location\n{home},{HOME_1}\n"),
    );

    let import = ["subscribers", "import", "new.csv", "--secrets", "secrets"];
    let to_be = tried(&server, &import).await;
    assert_eq!(to_be["imported"], 2);
    assert!(!server.dir.path().join("secrets").exists());
    assert_eq!(done(&server, &import).await["imported"], 2);
    assert_eq!(tried(&server, &import[..3]).await["present"], 2);
    refused(&server, &["subscribers", "import", "refused.csv"]).await;
    let all = ["sessions", "connect", "--all", "--from", "all.csv"];
    assert_eq!(tried(&server, &all).await["connected"], 1);
    assert_eq!(done(&server, &all).await["connected"], 1);

    let reset = ["subscribers", "reset-secret", home];
    assert!(tried(&server, &reset).await["secret"].is_null());
    assert!(done(&server, &reset).await["secret"].is_string());
    let plan = ["subscribers", "plan", home, "fast"];
    assert_eq!(tried(&server, &plan).await["plan"], "fast");
    done(&server, &plan).await;
    refused(&server, &["subscribers", "plan", home, "slow"]).await;
    refused(&server, &["subscribers", "plan", NOBODY, "--default"]).await;
    let reload = ["plans", "reload"];
    let to_be = tried(&server, &reload).await;
    assert_eq!(to_be["changes"], done(&server, &reload).await["changes"]);

    let add = ["accounts", "add", "li", "--role", "viewer"];
    refused(&server, &["accounts", "disable", "li"]).await;
    tried(&server, &add).await;
    done(&server, &add).await;
    refused(&server, &add).await;
    for change in [
        &["accounts", "role", "li", "admin"][..],
        &["accounts", "disable", "li"],
        &["accounts", "enable", "li"],
        &["accounts", "password", "li"],
    ] {
        tried(&server, change).await;
        done(&server, change).await;
    }

    let token = ["pki", "token", "gw1"];
    assert!(tried(&server, &token).await["token"].is_null());
    assert!(done(&server, &token).await["token"].is_string());
    refused(&server, &["pki", "token", "gw9"]).await;
    let revoke = ["pki", "revoke", "gw1"];
    tried(&server, &revoke).await;
    done(&server, &revoke).await;
}
