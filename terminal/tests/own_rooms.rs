//! Rooms with a session of their own: which links they need, and in which order.

use std::collections::BTreeMap;

use doorstep_establish::Offer;
use doorstep_terminal::config::{Home, Room};
use doorstep_terminal::links::Item;
use doorstep_terminal::links::desired::{Active, desired};
use doorstep_terminal::links::own_rooms::Chosen;
use doorstep_terminal::links::plan::{Plan, Step};

use crate::support::declared::{self, home, made, session, wan};

/// `room1` has a session of its own.
fn divided() -> Home {
    let room = Room {
        session: "south".into(),
        ipv4: Some("192.168.78.1/24".parse().unwrap()),
    };
    Home {
        rooms: BTreeMap::from([("room1".to_owned(), room)]),
        ..home()
    }
}

/// Two sessions on one line; the second one is the room's.
fn sessions() -> [Active; 2] {
    let first = session("wan0", &[]);
    let second = Active {
        slot: 1,
        offer: Offer {
            ipv4: Some([100, 65, 1, 10].into()),
            ipv6: Some("2001:db8:2::/56".parse().unwrap()),
            ..first.offer.clone()
        },
        ..first.clone()
    };
    [first, second]
}

fn chosen() -> Chosen {
    Chosen::from([("room1".to_owned(), 1)])
}

#[track_caller]
fn assert_told(items: &[Item], what: &[&str], is_told: bool) {
    for what in what {
        let told = items.iter().any(|item| item.to_string() == *what);
        assert_eq!(told, is_told, "{what}: {items:#?}");
    }
}

/// Whose addresses stand for whose, in IPv4.
fn translations(items: &[Item]) -> Vec<String> {
    let rules = items.iter().find_map(|item| match item {
        Item::Nat { rules } => Some(rules),
        _ => None,
    });
    let rules = rules.into_iter().flatten();
    rules
        .map(|rule| format!("{} as {}", rule.source, rule.to))
        .collect()
}

#[test]
fn it_uses_that_one_or_none() {
    let closed = [
        "room1 as a port of br-room1",
        "address 192.168.78.1/24 on br-room1",
        "rule from 0.0.0.0/0 by br-room1 to table 52499",
        "rule from ::/0 by br-room1 to table 52499",
        "route 0.0.0.0/0 unreachable table 52499 metric 65535",
        "route ::/0 unreachable table 52499 metric 65535",
        // The other rooms are reached in any case.
        "route 192.168.77.0/24 dev br-home table 52499 metric 52",
    ];
    let open = [
        "rule from 192.168.78.0/24 by br-room1 to table 52501",
        "rule from 2001:db8:2:1::/64 by br-room1 to table 52501",
        "address 2001:db8:2:1::1/64 on br-room1",
        "route 2001:db8:2::/56 unreachable table 254 metric 65535",
        "route 192.168.78.0/24 dev br-room1 table 52501 metric 52",
        "route 192.168.77.0/24 dev br-home table 52501 metric 52",
    ];
    let (home, sessions) = (divided(), sessions());
    let without = desired(&wan(), Some(&home), &sessions[..1], &Chosen::new());
    let with = desired(&wan(), Some(&home), &sessions, &chosen());
    assert_told(&without, &closed, true);
    assert_told(&with, &closed, true);
    assert_told(&without, &open, false);
    assert_told(&with, &open, true);
    let one = "192.168.77.0/24 as 100.64.1.10";
    assert_eq!(translations(&without), [one]);
    assert_eq!(translations(&with), ["192.168.78.0/24 as 100.65.1.10", one]);
}

#[test]
fn it_is_closed_before_rules_by_source() {
    let with = desired(&wan(), Some(&divided()), &sessions(), &chosen());
    let priority = |what: &str| {
        let of = |item: &Item| match item {
            Item::Rule(rule) if rule.to_string() == what => Some(rule.priority),
            _ => None,
        };
        with.iter().find_map(of).expect(what)
    };
    let own = priority("from 2001:db8:2:1::/64 by br-room1 to table 52501");
    let closed = priority("from ::/0 by br-room1 to table 52499");
    let by_source = priority("from 2001:db8::/56 to table 52500");
    assert!(own < closed && closed < by_source);
}

#[test]
fn no_other_room_uses_its_session() {
    let with = desired(&wan(), Some(&divided()), &sessions(), &chosen());
    let closed = [
        "rule from 2001:db8:2::/56 by br-home to table 52499",
        "rule from 100.65.1.10/32 by br-home to table 52499",
    ];
    let open = [
        "rule from 2001:db8::/56 by br-home to table 52499",
        "address 2001:db8:2::1/64 on br-home",
        "rule from 0.0.0.0/0 by br-room1 to table 52501",
        "rule from ::/0 by br-room1 to table 52501",
    ];
    assert_told(&with, &closed, true);
    assert_told(&with, &open, false);
}

#[test]
fn the_rooms_on_the_bridge_may_have_one_as_well() {
    let home = Home {
        session: Some("south".into()),
        rooms: BTreeMap::new(),
        ..home()
    };
    let sessions = sessions();
    let closed = [
        "room0 as a port of br-home",
        "rule from 0.0.0.0/0 by br-home to table 52499",
        "rule from ::/0 by br-home to table 52499",
    ];
    let open = [
        "rule from 192.168.77.0/24 by br-home to table 52501",
        "rule from 2001:db8:2::/64 by br-home to table 52501",
        "address 2001:db8:2::1/64 on br-home",
    ];
    let other = ["address 2001:db8::1/64 on br-home"];
    let without = desired(&wan(), Some(&home), &sessions[..1], &Chosen::new());
    let chosen = Chosen::from([("br-home".to_owned(), 1)]);
    let with = desired(&wan(), Some(&home), &sessions, &chosen);
    assert_told(&without, &closed, true);
    assert_told(&with, &closed, true);
    assert_told(&without, &open, false);
    assert_told(&with, &open, true);
    assert_told(&without, &other, false);
    assert_told(&with, &other, false);
    assert_eq!(translations(&without), [""; 0]);
    assert_eq!(translations(&with), ["192.168.77.0/24 as 100.65.1.10"]);
}

#[test]
fn it_is_closed_before_it_has_a_port_and_after() {
    let (home, sessions) = (divided(), sessions());
    let joined = desired(&wan(), Some(&declared::home()), &sessions, &Chosen::new());
    let own = desired(&wan(), Some(&home), &sessions, &chosen());
    let owned = Plan::diff(&joined, &[], &made(&[])).owned;
    let there = Plan::diff(&own, &owned, &made(&joined));
    let back = Plan::diff(&[], &there.owned, &made(&own));
    let place = |plan: &Plan, what: &str| {
        let mut steps = plan.steps.iter();
        let place = steps.position(|step| {
            let (Step::Make(own) | Step::Undo(own)) = step;
            own.item.to_string() == what
        });
        place.unwrap_or_else(|| panic!("{what}: {:#?}", plan.steps))
    };
    let port = "room1 as a port of br-room1";
    for closed in [
        "rule from ::/0 by br-room1 to table 52499",
        "route ::/0 unreachable table 52499 metric 65535",
    ] {
        assert!(place(&there, closed) < place(&there, port), "{closed}");
        assert!(place(&back, closed) > place(&back, port), "{closed}");
    }
    let again = Plan::diff(&own, &there.owned, &made(&own));
    assert_eq!(again.steps, []);
}
