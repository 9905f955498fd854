//! The whole daemon and its command line, with a gateway's end of the line and a server that the
//! test plays: connect, a second session, a restart, a move, releases.

use std::time::{Duration, Instant};

use doorstep_establish::{Mac, SessionKey};
use serde_json::Value;
use uuid::Uuid;

use crate::support::connected::connected_home;
use crate::support::home::{Gateway, PATIENCE, listening, stop};
use crate::support::{assert_unchanged, dump, in_namespace, ip};

#[test]
fn a_home_connects_moves_and_releases() {
    in_namespace("a_home_connects_moves_and_releases", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut grants) =
            connected_home(folder.path(), Duration::from_millis(100)).await;
        let before = dump();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;

        let (code, _, error) = terminal.client("request --sealed d1.x").await;
        assert_eq!(code, 6);
        assert!(error.contains("error: not registered"), "{error}");
        let (code, registered, error) = terminal.client("register --phone 13800000000").await;
        assert_eq!(code, 0, "{error}");
        assert!(
            registered["subscriber_id"]
                .as_str()
                .unwrap()
                .parse::<Uuid>()
                .is_ok()
        );
        let (code, _, error) = terminal.client("request --sealed nonsense").await;
        assert_eq!(code, 2);
        assert!(error.contains("unknown form"), "{error}");
        let (code, plans, error) = terminal.client("plans").await;
        assert_eq!(code, 0, "{error}");
        assert_eq!(plans["plans"][1]["name"], "office", "{plans}");
        assert_eq!(plans["plans"][1]["own"], true, "asked with credentials");
        let words = "request --sealed d1.x --plan dear";
        let (code, _, error) = terminal.client(words).await;
        assert_eq!(code, 6);
        assert!(error.contains("not offered"), "{error}");

        // The gateway's request overtakes the server's answer by 100 ms.
        let first = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
        let establish = async {
            let grant = grants.recv().await.unwrap();
            (first.establish(grant.clone(), 10).await, grant)
        };
        let (result, (initiator, grant)) = tokio::join!(
            terminal.client("request --sealed d1.x --plan home"),
            establish
        );
        let (code, result, error) = result;
        assert_eq!(code, 0, "{error}");
        assert_eq!(result["state"], "established");
        assert_eq!(result["gateway_id"], "gw-1");
        assert_eq!(result["ipv4_address"], "100.64.1.10");
        assert_eq!(result["wan_interface"], "wan0");
        // Nobody waits for the next time that one of them says something by itself.
        assert!(result["elapsed_ms"].as_u64().unwrap() < 5000, "{result:#}");
        assert!(
            ip("route").contains("default via 100.64.0.1 dev wan0"),
            "{}",
            ip("route")
        );
        assert!(ip("link show room0").contains("master br-home"));

        // A second session on the same line.
        let establish = async {
            let grant = grants.recv().await.unwrap();
            first.establish(grant, 11).await
        };
        let (result, second) = tokio::join!(
            terminal.client("request --sealed d1.y --additional"),
            establish
        );
        assert_eq!(result.0, 0, "{}", result.2);
        let via = ip("route get 8.8.8.8 from 100.64.1.11");
        assert!(via.contains("table 52501"), "{via}");
        let (code, _, error) = terminal.client("release").await;
        assert_eq!(code, 2, "which of the two?");
        assert!(error.contains("--session"), "{error}");
        let name = second.session();
        let (code, _, error) = terminal.client(&format!("release --session {name}")).await;
        assert_eq!(code, 0, "{error}");
        assert!(!ip("addr show wan0").contains("100.64.1.11"));

        // The daemon restarts; the links do not notice.
        let links = dump();
        stop(daemon).await;
        assert!(!terminal.folder.join("run/admin.sock").exists());
        assert_unchanged(&links, "after the daemon's end");
        let daemon = terminal.daemon();
        let status = terminal
            .until("goes on", |s| {
                listening(s) && s["sessions"][0]["state"] == "established"
            })
            .await;
        assert_eq!(status["sessions"][0]["ipv4_address"], "100.64.1.10");
        assert_eq!(status["operators"][0]["registered"], true);
        assert_unchanged(&links, "after the restart");

        // The first gateway's release cannot be replayed by someone without the key.
        let forged = SessionKey::generate();
        first.send(grant.0, &forged, &initiator.release()).await;

        // A move to another gateway, with other addresses.
        let other = Gateway::new("gw-2", Mac([2, 0, 0, 0, 1, 2]));
        let establish = async {
            let grant = grants.recv().await.unwrap();
            other.establish(grant, 20).await
        };
        let (result, _) = tokio::join!(terminal.client("move --sealed d1.z"), establish);
        let (code, result, error) = result;
        assert_eq!(code, 0, "{error}");
        assert_eq!(
            (&result["gateway_id"], &result["generation"]),
            (&"gw-2".into(), &3.into())
        );
        let addresses = ip("addr show wan0");
        assert!(addresses.contains("100.64.1.20") && !addresses.contains("100.64.1.10"));
        let neighbours = ip("neigh show nud permanent");
        assert!(
            neighbours.contains("100.64.0.1 dev wan0 lladdr 02:00:00:00:01:02"),
            "{neighbours}"
        );
        assert!(!neighbours.contains("02:00:00:00:01:01"), "{neighbours}");

        // An interface taken down and up again loses its routes, and gets them back.
        ip("link set wan0 down");
        let end = Instant::now() + PATIENCE;
        while !ip("route").contains("default via 100.64.0.1") {
            assert!(Instant::now() < end, "{}", ip("route"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        terminal.until("listens again", listening).await;

        let (code, released, error) = terminal.client("release").await;
        assert_eq!(code, 0, "{error}");
        assert_eq!(released["released"], true);
        assert_unchanged(&before, "after the release");
        stop(daemon).await;
    });
}

/// Each request was carried out at the server when the daemon is killed, and its answer, with the
/// session's key, was on its way.
#[test]
fn a_request_that_is_under_way_outlives_the_daemon() {
    in_namespace(
        "a_request_that_is_under_way_outlives_the_daemon",
        || async {
            let folder = tempfile::tempdir().unwrap();
            let (terminal, mut grants) =
                connected_home(folder.path(), Duration::from_secs(2)).await;
            let before = dump();
            let mut daemon = terminal.daemon();
            terminal.until("listens", listening).await;
            let (code, _, error) = terminal.client("register --phone 13800000000").await;
            assert_eq!(code, 0, "{error}");
            for (words, name, number) in [
                ("request --sealed d1.x", "gw-1", 10),
                ("move --sealed d1.y", "gw-2", 20),
                ("request --sealed d1.z --additional", "gw-2", 21),
            ] {
                let kill = async {
                    let grant = grants.recv().await.unwrap();
                    daemon.kill().await.unwrap();
                    grant
                };
                let (client, grant) = tokio::join!(terminal.client(words), kill);
                assert_eq!(client.0, 1, "its daemon is gone: {}", client.1);
                daemon = terminal.daemon();
                let gateway = Gateway::new(name, Mac([2, 0, 0, 0, 1, number]));
                let (id, generation) = (grant.0.to_string(), grant.1);
                let established = tokio::time::timeout(PATIENCE, gateway.establish(grant, number));
                established.await.expect("it does not go on by itself");
                let online = |session: &Value| {
                    session["session_id"] == *id
                        && session["generation"] == generation
                        && session["state"] == "established"
                        && session["gateway_id"] == name
                };
                let there =
                    |status: &Value| status["sessions"].as_array().unwrap().iter().any(online);
                terminal.until(words, there).await;
                assert!(grants.try_recv().is_err(), "carried out once");
            }
            let status = terminal.until("listens", listening).await;
            for session in status["sessions"].as_array().unwrap() {
                let id = session["session_id"].as_str().unwrap();
                let (code, _, error) = terminal.client(&format!("release --session {id}")).await;
                assert_eq!(code, 0, "{error}");
            }
            assert_unchanged(&before, "after the releases");
            stop(daemon).await;

            // One of weeks ago is asked no more, whatever the server still knows of it.
            let file = terminal.folder.join("state/state.json");
            let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let now = std::time::UNIX_EPOCH.elapsed().unwrap();
            let now_ms = i64::try_from(now.as_millis()).unwrap();
            let asked = |at_unix_ms: i64| {
                serde_json::json!({
                    "request_id": Uuid::new_v4(),
                    "wish": "connect",
                    "sealed_location_id": "d1.x",
                    "session_id": "",
                    "asked_at_unix_ms": at_unix_ms,
                })
            };
            let weeks_ms = 31 * 24 * 3_600_000;
            state["requests"] = vec![asked(now_ms - weeks_ms), asked(now_ms)].into();
            std::fs::write(&file, state.to_string()).unwrap();
            let daemon = terminal.daemon();
            let accepted = |status: &Value| !status["sessions"].as_array().unwrap().is_empty();
            terminal.until("the newer one is accepted", accepted).await;
            assert!(grants.try_recv().is_ok() && grants.try_recv().is_err());
            // Written once the gateway's side has been looked after.
            let end = Instant::now() + PATIENCE;
            while std::fs::read_to_string(&file)
                .unwrap()
                .contains("asked_at_unix_ms")
            {
                assert!(Instant::now() < end, "both are done with");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stop(daemon).await;
        },
    );
}

/// It has been answered: asking again would bring the same answer.
#[test]
fn a_request_that_is_answered_without_a_key_is_not_asked_again() {
    in_namespace(
        "a_request_that_is_answered_without_a_key_is_not_asked_again",
        || async {
            let folder = tempfile::tempdir().unwrap();
            let (terminal, _grants) = connected_home(folder.path(), Duration::ZERO).await;
            let daemon = terminal.daemon();
            terminal.until("listens", listening).await;
            let (code, _, error) = terminal.client("register --phone 13800000000").await;
            assert_eq!(code, 0, "{error}");
            let (code, _, error) = terminal.client("request --sealed d1.keyless").await;
            assert_eq!(code, 1);
            assert!(error.contains("no valid session id and key"), "{error}");
            let file = terminal.folder.join("state/state.json");
            let state: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            assert_eq!(state["last_sealed"], "d1.keyless", "the request was kept");
            assert_eq!(state["requests"], Value::Null, "and is not any more");
            stop(daemon).await;
        },
    );
}

#[test]
fn bad_configurations_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let good =
        "[server]\nurl = \"https://127.0.0.1:1\"\nca = \"ca.pem\"\n[wan]\nports = [\"wan0\"]\n";
    let cases = [
        ("", "missing field `wan`"),
        (
            "[wan]\nports = [\"wan0\"]\n",
            "server: expected the operator's server in [server], or one for each",
        ),
        (
            &good.replace("[server]", "[operators.\"a b\"]"),
            "\"a b\" is no name of an operator",
        ),
        (
            &format!(
                "{good}{}",
                good.replace("[server]", "[operators.default]")
                    .replace("[wan]\nports = [\"wan0\"]\n", "")
            ),
            "is the name of the operator in [server]",
        ),
        ("x = 1\n", "line 1, column 1"),
        (
            &good.replace("[\"wan0\"]", "[]"),
            "wan.ports: expected at least one",
        ),
        (
            &good.replace("https", "http"),
            "url: of operator default: expected https",
        ),
        (
            &good.replace("\"wan0\"", "\"wan0\", \"wan0\""),
            "named twice",
        ),
        (&format!("{good}tags = [0]\n"), "VLAN"),
        (&format!("{good}tags = \"some\"\n"), "expected \"auto\""),
        (
            &format!("{good}[home]\nmode = \"bridge\"\nipv4 = \"192.168.77.1/24\"\n"),
            "home.ipv4: 192.168.77.1/24: with mode = \"bridge\" the operator gives",
        ),
        (
            &format!(
                "{}[home]\nmode = \"bridge\"\n",
                good.replace("\"wan0\"", "\"wan0\", \"wan1\"")
            ),
            "wan.ports: with mode = \"bridge\" there can be one",
        ),
        (
            &format!("{good}[home]\nmode = \"routed \"\n"),
            "expected `routed` or `bridge`",
        ),
        (
            &format!("{good}[home]\nsession = \"south\"\n"),
            "home.session: \"south\" is neither an operator of this configuration nor",
        ),
        (
            &format!("{good}[home.rooms.lan1]\nsession = \"south\"\n"),
            "home.rooms: lan1: session: \"south\" is neither",
        ),
        (
            &format!(
                "{good}[home]\nipv4 = \"10.0.0.1/16\"\n\
                 [home.rooms.lan1]\nsession = \"default\"\nipv4 = \"10.0.5.1/24\"\n"
            ),
            "home.rooms: lan1: ipv4: 10.0.5.1/24 overlaps 10.0.0.1/16; choose another",
        ),
        (
            &format!(
                "{good}[home]\nroom_ports = [\"br-lan1\"]\n\
                 [home.rooms.lan1]\nsession = \"default\"\n"
            ),
            "\"br-lan1\" is named twice",
        ),
        (
            &format!("{good}[home]\nmode = \"bridge\"\nsession = \"default\"\n"),
            "with mode = \"bridge\" there are no sessions to choose from",
        ),
        (
            &format!("{good}[home]\nroom_ports = [\"lan1.4095\"]\n"),
            "home: \"lan1.4095\": 4095 is no VLAN id: expected 1 to 4094",
        ),
        (
            &format!("{good}[home.rooms.\"lan1.0\"]\nsession = \"default\"\n"),
            "home: \"lan1.0\": 0 is no VLAN id",
        ),
        (
            &format!("{good}[home]\nroom_ports = [\"wan0.20\"]\n"),
            "home: wan0.20: wan0 is a WAN port",
        ),
        (
            &format!("{good}[home]\nroom_ports = [\"br-home.20\"]\n"),
            "home: br-home.20: br-home is a bridge of the rooms",
        ),
        (
            &format!(
                "{good}[home]\nroom_ports = [\"lan1.20\"]\n\
                 [home.rooms.\"lan1.20\"]\nsession = \"default\"\n"
            ),
            "\"lan1.20\" is named twice",
        ),
        (good, "ca.pem"),
    ];
    for (text, expected) in cases {
        let path = folder.path().join("terminal.toml");
        std::fs::write(&path, text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_doorstep-terminal"))
            .args(["run", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains("error: ") && error.contains(expected),
            "{expected}: {error}"
        );
    }
}
