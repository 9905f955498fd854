//! Links that somebody changes by hand: what is ours comes back, what is not stays.

#[path = "support/connected.rs"]
mod connected;
#[path = "support/home.rs"]
mod home;
#[path = "support/online.rs"]
mod online;
#[path = "support/operator.rs"]
mod operator;
mod support;

use std::time::{Duration, Instant};

use connected::connected_home;
use home::{listening, stop};
use online::go_online;
use support::{assert_unchanged, dump, in_namespace, ip};

/// What somebody does, and what is missing then.
struct Harm {
    words: &'static str,
    missing: &'static str,
    shown_by: &'static str,
}

const HARMS: [Harm; 6] = [
    Harm {
        words: "addr del 100.64.1.10/32 dev wan0",
        missing: "100.64.1.10/32",
        shown_by: "-4 addr show wan0",
    },
    Harm {
        words: "-6 addr del 2001:db8:10::1/128 dev wan0",
        missing: "2001:db8:10::1/128",
        shown_by: "-6 addr show wan0",
    },
    Harm {
        words: "route del default",
        missing: "default via 100.64.0.1 dev wan0",
        shown_by: "-4 route",
    },
    Harm {
        words: "neigh del 100.64.0.1 dev wan0",
        missing: "100.64.0.1 dev wan0 lladdr 02:00:00:00:01:01 PERMANENT",
        shown_by: "neigh show nud permanent",
    },
    Harm {
        words: "link set room0 nomaster",
        missing: "master br-home",
        shown_by: "link show room0",
    },
    Harm {
        words: "link del br-home",
        missing: "192.168.77.1/24",
        shown_by: "-4 addr show",
    },
];

#[test]
fn what_somebody_changes_is_repaired_and_reported() {
    in_namespace("what_somebody_changes_is_repaired_and_reported", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut grants) = connected_home(folder.path(), Duration::ZERO).await;
        let before = dump();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let _gateway = go_online(&terminal, &mut grants).await;
        let made = dump();
        let (_, status, _) = terminal.client("status").await;
        assert_eq!(status["repairs"], 0);

        for (number, harm) in HARMS.iter().enumerate() {
            if number + 1 == HARMS.len() {
                // Another bridge has another MAC address.
                assert_unchanged(&made, "after the repairs");
            }
            assert!(ip(harm.shown_by).contains(harm.missing), "{}", harm.words);
            ip(harm.words);
            let done = Instant::now();
            while !ip(harm.shown_by).contains(harm.missing) {
                let shown = ip(harm.shown_by);
                let waited = done.elapsed();
                assert!(waited < Duration::from_secs(10), "{}: {shown}", harm.words);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let repaired = |status: &serde_json::Value| {
                let times = status["repairs"].as_u64();
                times.is_some_and(|times| times > number as u64)
            };
            terminal.until(harm.words, repaired).await;
            eprintln!("{}: repaired after {:?}", harm.words, done.elapsed());
        }
        // An address and routes of somebody's own are none of ours, even in the place of one of ours.
        ip("addr add 192.0.2.77/32 dev wan0");
        ip("route add 198.51.100.0/24 dev wan0");
        ip("addr del 100.64.1.10/32 dev wan0");
        let back = |_: &serde_json::Value| ip("-4 addr show wan0").contains("100.64.1.10/32");
        terminal.until("the own address", back).await;
        assert!(ip("-4 addr show wan0").contains("192.0.2.77/32"));
        assert!(ip("-4 route").contains("198.51.100.0/24"));
        ip("addr del 192.0.2.77/32 dev wan0");
        ip("route del 198.51.100.0/24 dev wan0");
        let (_, status, _) = terminal.client("status").await;
        ip("route replace default dev wan0 metric 52");
        ip("link set room0 nomaster");
        let before_that = status["repairs"].as_u64().unwrap();
        let one_more = |status: &serde_json::Value| status["repairs"] == before_that + 1;
        terminal.until("the room's port", one_more).await;
        assert!(ip("-4 route").contains("default dev wan0 scope link metric 52"));
        ip("route del default");
        let back = |_: &serde_json::Value| ip("-4 route").contains("default via 100.64.0.1");
        terminal.until("the own route", back).await;

        let (code, _, error) = terminal.client("release").await;
        assert_eq!(code, 0, "{error}");
        assert_unchanged(&before, "after the release");
        stop(daemon).await;
    });
}
