//! What commands end with, against the table of `docs/reference/cli.md`.

use std::collections::BTreeSet;

use doorstep_daemon::exit::Exit;

use crate::common::{CONFIG, HOME_1, NOWHERE, PHONE, Server, Subscriber};

const NOBODY: &str = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";

#[tokio::test]
async fn every_kind_of_end_has_its_code() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = home.credentials.subscriber_id.clone();
    let other = Subscriber::register(&server, "13900001234").await;
    let other = other.credentials.subscriber_id;
    let dir = server.dir.path();
    std::fs::write(dir.join("server.toml"), CONFIG).unwrap();
    std::fs::write(dir.join("changed"), "").unwrap();
    std::fs::write(dir.join("rows.csv"), "phone\n123\n").unwrap();
    let config = ["--config", "server.toml"];
    let with_config = |words: &[&'static str]| [words, &config].concat();
    let nowhere = ["--socket", "nowhere.sock"];
    let session = connect.session_id.as_str();

    let rows: Vec<(Vec<&str>, Exit)> = vec![
        (vec!["status"], Exit::Done),
        (vec!["why", "--phone", PHONE], Exit::Done),
        (
            vec!["audit", "list", "--config", "absent.toml"],
            Exit::Failed,
        ),
        (vec!["subscribers", "import", "absent.csv"], Exit::Failed),
        (vec!["explode"], Exit::Usage),
        (vec!["sessions", "show", "seven"], Exit::Usage),
        (vec!["sessions", "list", "--limit", "0"], Exit::Usage),
        (vec!["sessions", "list", "--page-token", "x"], Exit::Usage),
        (vec!["sessions", "move", session, "nowhere"], Exit::Usage),
        (vec!["subscribers", "plan", &id, "gold"], Exit::Usage),
        (vec!["why", "--location", NOWHERE], Exit::Finding),
        (
            with_config(&["audit", "verify", "--file", "changed"]),
            Exit::Finding,
        ),
        ([&["status"], &nowhere[..]].concat(), Exit::Unreachable),
        ([&["gateways"], &nowhere[..]].concat(), Exit::Unreachable),
        (vec!["sessions", "show", NOBODY], Exit::NotFound),
        (vec!["sessions", "force", NOBODY], Exit::NotFound),
        (vec!["subscribers", "show", NOBODY], Exit::NotFound),
        (vec!["sessions", "list", "--gateway", "gw9"], Exit::NotFound),
        (vec!["accounts", "disable", "nobody"], Exit::NotFound),
        (vec!["sessions", "force", session], Exit::Refused),
        (vec!["sessions", "move", session, HOME_1], Exit::Refused),
        (
            vec!["sessions", "connect", NOWHERE, "--subscriber", &other],
            Exit::Refused,
        ),
        (vec!["subscribers", "import", "rows.csv"], Exit::Refused),
        (vec!["pki", "token", "gw9"], Exit::Refused),
        (with_config(&["database", "migrate"]), Exit::Refused),
        (with_config(&["pki", "init"]), Exit::Refused),
    ];
    let mut seen = BTreeSet::new();
    for (arguments, exit) in rows {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
            .args(&arguments)
            .current_dir(dir)
            .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
            .output()
            .await
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code();
        assert_eq!(code, Some(exit.number().into()), "{arguments:?}: {told}");
        let is_error = !matches!(exit, Exit::Done | Exit::Finding);
        assert!(
            !is_error || told.contains("error: "),
            "{arguments:?}: {told}"
        );
        seen.insert(exit);
    }
    // No command of the server's waits, and this server is neither stopping nor busy.
    let unseen = Exit::ALL.into_iter().filter(|exit| !seen.contains(exit));
    assert_eq!(unseen.collect::<Vec<_>>(), [Exit::TimedOut, Exit::NotNow]);
}
