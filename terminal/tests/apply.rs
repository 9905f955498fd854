//! A new configuration of the links while the daemon runs: told, taken up, rolled back, put back.

use std::time::Duration;

use serde_json::Value;

use crate::support::connected::connected_home;
use crate::support::home::{PATIENCE, Terminal, listening, stop};
use crate::support::online::go_online;
use crate::support::{assert_unchanged, dump, in_namespace, ip};

/// A home that is online with one room; another configuration of it is in `new.toml`.
async fn online(folder: &std::path::Path) -> (Terminal, tokio::process::Child) {
    let (terminal, mut grants) = connected_home(folder, Duration::ZERO).await;
    let file = folder.join("terminal.toml");
    let two = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, two.replace(", \"room1\"", "")).unwrap();
    let three = two.replace("\"room1\"", "\"room1\", \"later0\"");
    std::fs::write(
        folder.join("new.toml"),
        three.replace("192.168.77.1/24", "192.168.78.1/24"),
    )
    .unwrap();
    let daemon = terminal.daemon();
    terminal.until("listens", listening).await;
    go_online(&terminal, &mut grants).await;
    (terminal, daemon)
}

impl Terminal {
    async fn apply(&self, file: &str, words: &str) -> (i32, Value, String) {
        let file = self.folder.join(file);
        self.client(&format!("apply {} {words}", file.display()))
            .await
    }

    /// Waits until the former links are back.
    async fn comes_back(&self, before: &str, what: &str) {
        self.until(what, |status| status["confirm_by_unix_ms"].is_null())
            .await;
        assert_unchanged(before, what);
    }
}

fn changes(told: &Value) -> Vec<(String, String)> {
    let links = told["links"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    links
        .map(|change| (text(&change["change"]), text(&change["what"])))
        .collect()
}

#[test]
fn is_told_before_it_is_done() {
    in_namespace("is_told_before_it_is_done", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, daemon) = online(folder.path()).await;
        // Somebody else's, on a port that is to be used.
        ip("link set room1 up");
        ip("addr add 198.51.100.7/24 dev room1");
        let before = dump();

        let (code, told, error) = terminal.apply("new.toml", "--dry-run").await;
        assert_eq!(code, 0, "{error}");
        assert_unchanged(&before, "only told");
        assert_eq!(told["applied"], false);
        let settings: Vec<&Value> = told["settings"].as_array().unwrap().iter().collect();
        assert_eq!(settings.len(), 2, "{told:#}");
        assert_eq!(settings[0]["key"], "home.ipv4");
        assert_eq!(settings[1]["value"][2], "later0");
        let of = |kind: &str, what: &str| {
            let expected = (kind.to_owned(), what.to_owned());
            assert!(changes(&told).contains(&expected), "{what}: {told:#}");
        };
        of("added", "room1 as a port of br-home");
        of("added", "address 192.168.78.1/24 on br-home");
        of("removed", "address 192.168.77.1/24 on br-home");
        let notes = told["notes"].to_string();
        assert!(notes.contains("there is no interface later0"), "{notes}");

        let (code, done, error) = terminal.apply("new.toml", "").await;
        assert_eq!(code, 0, "{error}");
        assert_eq!(done["links"], told["links"], "what was told is done");
        assert!(ip("link show room1").contains("master br-home"));
        assert!(ip("addr show br-home").contains("192.168.78.1/24"));
        assert!(ip("addr show room1").contains("198.51.100.7/24"), "stays");
        // A port that comes later is joined as one that was there from the beginning.
        ip("link add later0 type veth peer name tv1");
        let end = std::time::Instant::now() + PATIENCE;
        while !ip("link show later0").contains("master br-home") {
            assert!(std::time::Instant::now() < end, "later0 is not joined");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ip("link del later0");

        // Another WAN port is heard, until it is not named any more.
        ip("link add wan1 type veth peer name gw1");
        let text = std::fs::read_to_string(folder.path().join("new.toml")).unwrap();
        let text = text.replace("[\"wan0\"]", "[\"wan0\", \"wan1\"]");
        std::fs::write(folder.path().join("ports.toml"), text).unwrap();
        let (code, _, error) = terminal.apply("ports.toml", "").await;
        assert_eq!(code, 0, "{error}");
        let second = |status: &Value| status["ports"][1]["listening"] == true;
        terminal.until("hears on the second port", second).await;
        let (code, _, error) = terminal.apply("new.toml", "").await;
        assert_eq!(code, 0, "{error}");
        let status = terminal.until("hears on the first", listening).await;
        assert!(status["ports"][1].is_null(), "{status:#}");
        ip("link del wan1");

        // The daemon's own file, with nothing named: what it began with.
        let (code, back, error) = terminal.client("apply").await;
        assert_eq!(code, 0, "{error}");
        assert_eq!(back["applied"], true);
        assert_unchanged(&before, "as it began");
        let (_, again, _) = terminal.client("apply --dry-run").await;
        assert_eq!(again["links"], serde_json::json!([]), "{again:#}");
        stop(daemon).await;
    });
}

#[test]
fn what_cannot_be_done_is_not_half_done() {
    in_namespace("what_cannot_be_done_is_not_half_done", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, daemon) = online(folder.path()).await;
        let new = std::fs::read_to_string(folder.path().join("new.toml")).unwrap();
        let before = dump();
        // A loopback interface is no port of a bridge, which the kernel says only when it is asked.
        let cases = [
            (
                new.replace("later0", "lo"),
                "cannot make lo as a port of br-home",
                "the former links are as they were",
                1,
            ),
            (
                new.replace("[\"wan0\"]", "[\"wan9\"]"),
                "wan.ports: session",
                "is on wan0, which is not among them; move or release it first",
                6,
            ),
            (new.replace("later0", "room0"), "named twice", "bad.toml", 2),
            (
                new.replace("[wan]", "[wam]"),
                "bad.toml",
                "unknown field `wam`",
                2,
            ),
        ];
        for (text, what, next, expected) in cases {
            std::fs::write(folder.path().join("bad.toml"), text).unwrap();
            for words in ["", "--confirm 60s"] {
                let (code, _, error) = terminal.apply("bad.toml", words).await;
                assert_eq!(code, expected, "{what}");
                assert!(error.contains(what) && error.contains(next), "{error}");
                assert_unchanged(&before, what);
            }
        }
        let (code, _, error) = terminal.client("confirm").await;
        assert_eq!(code, 6);
        assert!(error.contains("nothing waits"), "{error}");
        let (code, _, error) = terminal.apply("nowhere.toml", "").await;
        assert!(code == 1 && error.contains("nowhere.toml"), "{error}");
        let status = terminal.until("goes on", listening).await;
        assert_eq!(status["sessions"][0]["state"], "established");
        stop(daemon).await;
    });
}

#[test]
fn unconfirmed_links_go_and_confirmed_ones_stay() {
    in_namespace("unconfirmed_links_go_and_confirmed_ones_stay", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut daemon) = online(folder.path()).await;
        let before = dump();

        // Nobody confirms.
        let (code, told, error) = terminal.apply("new.toml", "--confirm 5s").await;
        assert_eq!(code, 0, "{error}");
        assert!(told["confirm_by_unix_ms"].is_i64(), "{told:#}");
        assert!(ip("link show room1").contains("master br-home"));
        terminal.comes_back(&before, "not confirmed").await;

        // The daemon is killed while it waits, and started before and after the time is over.
        for (name, wait, pause) in [("within", "5s", 0), ("after", "5s", 5100)] {
            let (code, _, error) = terminal
                .apply("new.toml", &format!("--confirm {wait}"))
                .await;
            assert_eq!(code, 0, "{error}");
            daemon.kill().await.unwrap();
            let new = dump();
            assert!(new != before, "{name}: put back already");
            tokio::time::sleep(Duration::from_millis(pause)).await;
            assert_unchanged(&new, "nobody is there to change anything");
            daemon = terminal.daemon();
            terminal.until(name, listening).await;
            terminal.comes_back(&before, name).await;
        }

        // Refused.
        let (code, _, error) = terminal.apply("new.toml", "--confirm 60s").await;
        assert_eq!(code, 0, "{error}");
        let (code, _, error) = terminal.apply("new.toml", "").await;
        assert!(code == 6 && error.contains("still waits"), "{error}");
        let (code, _, error) = terminal.client("confirm --refuse").await;
        assert_eq!(code, 0, "{error}");
        terminal.comes_back(&before, "refused").await;

        // Confirmed by the daemon that is there then; a restart changes nothing.
        let (code, _, error) = terminal.apply("new.toml", "--confirm 60s").await;
        assert_eq!(code, 0, "{error}");
        daemon.kill().await.unwrap();
        daemon = terminal.daemon();
        terminal.until("waits", listening).await;
        let new = dump();
        let (code, _, error) = terminal.client("confirm").await;
        assert_eq!(code, 0, "{error}");
        stop(daemon).await;
        daemon = terminal.daemon();
        terminal.until("after a restart", listening).await;
        assert_unchanged(&new, "confirmed");

        // A configuration file that is written later counts at the next start.
        stop(daemon).await;
        let file = folder.path().join("terminal.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("192.168.77.1", "192.168.79.1")).unwrap();
        daemon = terminal.daemon();
        terminal.until("with the file", listening).await;
        assert!(ip("addr show br-home").contains("192.168.79.1/24"));
        assert!(!ip("link show room1").contains("master br-home"));
        stop(daemon).await;
    });
}
