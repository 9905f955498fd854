//! Links that somebody changes by hand: what is ours comes back, what is not stays.

use std::time::{Duration, Instant};

use crate::support::connected::connected_home;
use crate::support::home::{PATIENCE, Terminal, listening, stop};
use crate::support::online::go_online;
use crate::support::{assert_unchanged, dump, in_namespace, ip};

/// What somebody does, and what is missing then.
struct Harm {
    words: &'static str,
    missing: &'static str,
    shown_by: &'static str,
}

impl Harm {
    /// Does it, and waits until it is undone; how long that took.
    async fn until_repaired(&self) -> Duration {
        let shown = || ip(self.shown_by);
        assert!(
            shown().contains(self.missing),
            "{}: {}",
            self.words,
            shown()
        );
        ip(self.words);
        let done = Instant::now();
        while !shown().contains(self.missing) {
            let waited = done.elapsed();
            assert!(waited < PATIENCE, "{}: {}", self.words, shown());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.elapsed()
    }
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

async fn repairs(terminal: &Terminal) -> u64 {
    let (_, status, error) = terminal.client("status").await;
    status["repairs"]
        .as_u64()
        .unwrap_or_else(|| panic!("{error}"))
}

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
            let after = harm.until_repaired().await;
            let repaired = |status: &serde_json::Value| {
                let times = status["repairs"].as_u64();
                times.is_some_and(|times| times > number as u64)
            };
            terminal.until(harm.words, repaired).await;
            eprintln!("{}: repaired after {after:?}", harm.words);
        }
        // An address and routes of somebody's own are none of ours, even in the place of one of ours.
        ip("addr add 192.0.2.77/32 dev wan0");
        ip("route add 198.51.100.0/24 dev wan0");
        let before_that = repairs(&terminal).await;
        ip("addr del 100.64.1.10/32 dev wan0");
        // It is counted when all is done.
        let back = |status: &serde_json::Value| {
            status["repairs"].as_u64() > Some(before_that)
                && ip("-4 addr show wan0").contains("100.64.1.10/32")
        };
        terminal.until("the own address", back).await;
        assert!(ip("-4 addr show wan0").contains("192.0.2.77/32"));
        assert!(ip("-4 route").contains("198.51.100.0/24"));
        ip("addr del 192.0.2.77/32 dev wan0");
        ip("route del 198.51.100.0/24 dev wan0");
        let before_that = repairs(&terminal).await;
        ip("route replace default dev wan0 metric 52");
        ip("link set room0 nomaster");
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

/// What somebody does to a room with a session of its own.
const HARMS_OF_A_ROOM: [Harm; 4] = [
    Harm {
        words: "rule del iif br-room1 lookup 52499",
        missing: "from all iif br-room1 lookup 52499",
        shown_by: "-4 rule",
    },
    Harm {
        words: "-6 rule del from 2001:db8:10:1::/64 iif br-room1 lookup 52500",
        missing: "from 2001:db8:10:1::/64 iif br-room1 lookup 52500",
        shown_by: "-6 rule",
    },
    Harm {
        words: "route del unreachable default table 52499",
        missing: "unreachable default",
        shown_by: "-4 route show table 52499",
    },
    Harm {
        words: "link del br-room1",
        missing: "master br-room1",
        shown_by: "link show room1",
    },
];

#[test]
fn a_room_with_a_session_of_its_own_stays_apart() {
    in_namespace("a_room_with_a_session_of_its_own_stays_apart", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut grants) = connected_home(folder.path(), Duration::ZERO).await;
        let file = folder.path().join("terminal.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("\"room0\", \"room1\"", "\"room0\"");
        let own = "[home.rooms.room1]\nsession = \"default\"\nipv4 = \"192.168.78.1/24\"\n";
        std::fs::write(&file, text + own).unwrap();
        let before = dump();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let _gateway = go_online(&terminal, &mut grants).await;
        for harm in &HARMS_OF_A_ROOM {
            let after = harm.until_repaired().await;
            eprintln!("{}: repaired after {after:?}", harm.words);
        }
        let (code, _, error) = terminal.client("release").await;
        assert_eq!(code, 0, "{error}");
        assert_unchanged(&before, "after the release");
        stop(daemon).await;
    });
}
