//! Sessions that come up by DHCP.

use std::net::Ipv4Addr;
use std::time::Duration;

use doorstep_establish::Mac;

use super::world::*;
use crate::engine::message::{Connect, CpeReplacement, RefusalReason, Report};
use crate::engine::row::Phase;
use crate::engine::{Action, Event};

const PLACE: u8 = 2;
const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 1);

fn own() -> Ipv4Addr {
    address(NORTH, 1)
}

fn select() -> Ask {
    Ask::Select {
        address: own(),
        server: SERVER,
    }
}

fn release() -> Ask {
    Ask::Release {
        address: own(),
        server: SERVER,
    }
}

/// A world with a session that a router holds.
fn held_by(router: Mac, replacement: CpeReplacement) -> World {
    let mut world = World::connected();
    let connect = replaced(by_dhcp(NORTH, 1, 1, PLACE), replacement);
    world.connect(NORTH, connect);
    world.ask(PLACE, router, select());
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())]);
    world.advance(Duration::from_secs(1));
    world.settle();
    world.frames.clear();
    world.take_reports();
    world
}

/// Whose packets the fast path forwards.
fn in_force(world: &World) -> Vec<[u8; 6]> {
    let rows = world.maps.upstream_v4.values();
    rows.map(|row| row.mac.bytes()).collect()
}

fn counted(world: &World, name: &str) -> u64 {
    let counts = world.engine.summary().dhcp;
    let found = counts.iter().find(|(known, _)| *known == name);
    found.map_or(0, |(_, count)| *count)
}

#[test]
fn a_router_gets_its_session() {
    let mut world = World::connected();
    world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
    assert!(world.frames.is_empty(), "nobody is asked");
    world.advance(Duration::from_secs(60));
    assert!(world.frames.is_empty(), "nobody is asked later");
    let detail = world.sessions()[0].detail.clone();
    assert_eq!(detail.as_deref(), Some("waits for a router to ask by DHCP"));
    world.take_reports();

    assert_eq!(
        world.asked(PLACE, ROUTER, Ask::Discover),
        [Told::Offer(own())]
    );
    assert!(world.orders.is_empty(), "an offer promises nothing");
    assert_eq!(world.asked(PLACE, ROUTER, select()), []);
    assert_eq!(world.asked(PLACE, ROUTER, select()), []);
    assert_eq!(world.orders.len(), 1, "opened once");
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())], "once it flows");
    let reports = world.take_reports();
    let [Report::Established { mac, line, .. }] = &reports[..] else {
        panic!("established, not {reports:?}");
    };
    assert_eq!((*mac, line.as_str()), (ROUTER, "access0/101.1002"));
    assert_eq!(in_force(&world), [ROUTER.0]);
    assert_eq!(
        world.asked(PLACE, ROUTER, Ask::Renew(own())),
        [Told::Ack(own())]
    );
    assert!(world.orders.is_empty());
    assert_eq!(counted(&world, "acknowledged"), 3);
}

#[test]
fn who_asks_before_the_session_comes_is_answered_when_it_comes() {
    for (pause, told) in [
        (Duration::from_secs(5), vec![Told::Offer(own())]),
        (Duration::from_secs(31), vec![]),
    ] {
        let mut world = World::connected();
        assert_eq!(world.asked(PLACE, ROUTER, Ask::Discover), []);
        assert_eq!(counted(&world, "no_session"), 1);
        world.advance(pause);
        world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
        world.advance(Duration::ZERO);
        assert_eq!(world.told(), told, "after {pause:?}");
    }
}

#[test]
fn leases_outlive_the_daemon() {
    let mut world = held_by(ROUTER, CpeReplacement::Never);
    world.crash();
    assert_eq!(
        world.asked(PLACE, ROUTER, Ask::Renew(own())),
        [Told::Ack(own())]
    );
    assert_eq!(world.asked(PLACE, OTHER_ROUTER, Ask::Discover), []);
    assert_eq!(counted(&world, "held"), 1);
    world.ask(PLACE, ROUTER, release());
    world.crash();
    let offer = [Told::Offer(own())];
    assert_eq!(world.asked(PLACE, OTHER_ROUTER, Ask::Discover), offer);
}

#[test]
fn another_router_takes_over_by_the_rule() {
    let hold = CpeReplacement::AfterHold { hold_s: 60 };
    let rows = [
        ("at once", CpeReplacement::AtOnce, 0, false, true),
        ("before the hold is over", hold, 58, false, false),
        ("after the hold", hold, 59, false, true),
        ("before the hold is over, given back", hold, 1, true, true),
        ("never", CpeReplacement::Never, 1_000_000, false, false),
        ("never, given back", CpeReplacement::Never, 1, true, true),
    ];
    for (what, rule, pause, given_back, admitted) in rows {
        let mut world = held_by(ROUTER, rule);
        world.advance(Duration::from_secs(pause));
        if given_back {
            assert_eq!(world.asked(PLACE, ROUTER, release()), [], "{what}");
        }
        world.take_reports();
        let offered = world.asked(PLACE, OTHER_ROUTER, Ask::Discover);
        assert_eq!(!offered.is_empty(), admitted, "{what}");
        assert_eq!(world.asked(PLACE, OTHER_ROUTER, select()), [], "{what}");
        let changes = world.orders.iter();
        let changes = changes.filter(|order| matches!(order, Action::Change { .. }));
        assert_eq!(changes.count(), usize::from(admitted), "{what}");
        world.settle();
        if !admitted {
            assert_eq!(in_force(&world), [ROUTER.0], "{what}");
            continue;
        }
        assert_eq!(world.told(), [Told::Ack(own())], "{what}: once it flows");
        assert_eq!(in_force(&world), [OTHER_ROUTER.0], "{what}");
        let reports = world.take_reports();
        let told = reports.iter().filter_map(|report| match report {
            Report::Established { mac, .. } => Some(*mac),
            _ => None,
        });
        assert!(told.eq([OTHER_ROUTER]), "{what}: {reports:?}");
    }
}

#[test]
fn routers_that_contend_take_over_once_a_second() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    let mut changes = 0;
    for turn in 0..100 {
        world.ask(PLACE, Mac([2, 7, 0, 0, 1, turn]), select());
        let orders = world.orders.iter();
        changes += orders
            .filter(|order| matches!(order, Action::Change { .. }))
            .count();
        world.settle();
        world.advance(Duration::from_millis(100));
        world.settle();
    }
    assert!((5..=10).contains(&changes), "{changes} in ten seconds");
}

#[test]
fn a_crash_before_the_fast_path_follows_another_router_loses_nothing() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    world.ask(PLACE, OTHER_ROUTER, select());
    assert_eq!(in_force(&world), [ROUTER.0]);
    world.crash();
    assert_eq!(in_force(&world), [OTHER_ROUTER.0]);
    let again = world.asked(PLACE, OTHER_ROUTER, select());
    assert_eq!(again, [Told::Ack(own())]);
}

#[test]
fn a_fast_path_that_cannot_follow_is_asked_again_before_the_router_is_told() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    world.failures = 1;
    world.ask(PLACE, OTHER_ROUTER, select());
    world.settle();
    assert_eq!(world.asked(PLACE, OTHER_ROUTER, select()), []);
    world.advance(Duration::from_secs(5));
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())]);
    assert_eq!(in_force(&world), [OTHER_ROUTER.0]);
}

#[test]
fn whose_session_has_ended_or_is_elsewhere_is_told_so_at_once() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    let elsewhere = Ipv4Addr::new(100, 99, 0, 7);
    // It has come from another line.
    let asked = world.asked(PLACE, OTHER_ROUTER, Ask::Reboot(elsewhere));
    assert_eq!(asked, [Told::Nak]);
    assert_eq!(in_force(&world), [ROUTER.0]);
    let asked = world.asked(3, ROUTER, Ask::Reboot(own()));
    assert_eq!(asked, [Told::Nak], "no session on that line");

    world.disconnect(NORTH, 1, 2);
    world.frames.clear();
    world.settle();
    assert!(world.told().is_empty(), "it asks by itself");
    assert!(world.maps.upstream_v4.is_empty());
    assert_eq!(world.asked(PLACE, ROUTER, Ask::Renew(own())), [Told::Nak]);
    assert_eq!(world.asked(PLACE, ROUTER, Ask::Discover), []);
}

#[test]
fn a_newer_connect_on_the_line_is_taken_up_by_the_router() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    world.connect(NORTH, by_dhcp(NORTH, 1, 3, PLACE));
    world.settle();
    world.frames.clear();
    world.ask(PLACE, ROUTER, Ask::Renew(own()));
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())]);
    let row = &world.journal.sessions[&session(NORTH, 1)];
    assert!(matches!(row.phase, Phase::Established(opened) if opened.mac == ROUTER));
    assert_eq!(row.connect.generation, 3);
}

#[test]
fn as_many_routers_as_sessions() {
    let mut world = held_by(ROUTER, CpeReplacement::Never);
    let second = replaced(by_dhcp(NORTH, 3, 1, PLACE), CpeReplacement::Never);
    world.connect(NORTH, second);
    let other = address(NORTH, 3);
    world.advance(Duration::ZERO);
    assert_eq!(
        world.asked(PLACE, OTHER_ROUTER, Ask::Discover),
        [Told::Offer(other)]
    );
    let ask = Ask::Select {
        address: other,
        server: SERVER,
    };
    world.ask(PLACE, OTHER_ROUTER, ask);
    world.settle();
    assert_eq!(world.told(), [Told::Ack(other)]);
    for (router, address) in [(ROUTER, own()), (OTHER_ROUTER, other)] {
        let told = world.asked(PLACE, router, Ask::Renew(address));
        assert_eq!(told, [Told::Ack(address)]);
    }
    let third = Mac([2, 7, 0, 0, 0, 3]);
    assert_eq!(world.asked(PLACE, third, Ask::Discover), []);
}

#[test]
fn what_cannot_come_up_by_dhcp_is_refused() {
    let short = |connect: Connect| Connect {
        dhcp: connect
            .dhcp
            .map(|dhcp| crate::engine::message::Dhcp { lease_s: 9, ..dhcp }),
        ..connect
    };
    let without_v4 = Connect {
        ipv4: None,
        ..by_dhcp(NORTH, 1, 1, PLACE)
    };
    for (operator, connect, expected) in [
        (NORTH, without_v4, "needs an ipv4_address"),
        (SOUTH, by_dhcp(SOUTH, 1, 1, PLACE), "gateway_addresses"),
        (NORTH, short(by_dhcp(NORTH, 1, 1, PLACE)), "dhcp.lease_s: 9"),
    ] {
        let mut world = World::connected();
        world.connect(operator, connect);
        let reports = world.take_reports();
        let [Report::Nack(refusal)] = &reports[..] else {
            panic!("refused, not {reports:?}");
        };
        assert_eq!(refusal.reason, RefusalReason::Malformed);
        assert!(refusal.detail.contains(expected), "{}", refusal.detail);
    }
}

#[test]
fn a_terminals_session_is_nobodys_lease_and_a_lease_no_terminals() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, PLACE));
    world.frames.clear();
    world.ask(PLACE, ROUTER, Ask::Discover);
    assert!(world.frames.is_empty());
    assert!(world.orders.is_empty());

    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, PLACE));
    let (ifindex, request) = world.frames[0].clone();
    let (answer, _) = accept(ifindex, &request).expect("a request");
    let mut world = World::connected();
    world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
    world.feed(answer);
    assert!(world.orders.is_empty());
}

#[test]
fn nobody_is_answered_on_a_blocked_line() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    world.set_blocked(PLACE, true).expect("a line");
    world.settle();
    let told = world.asked(PLACE, ROUTER, Ask::Discover);
    assert_eq!(told, []);
    world.set_blocked(PLACE, false).expect("a line");
    world.settle();
    assert_eq!(
        world.asked(PLACE, ROUTER, Ask::Renew(own())),
        [Told::Ack(own())]
    );
}

#[test]
fn what_is_malformed_counts_by_name_and_changes_nothing() {
    let mut world = held_by(ROUTER, CpeReplacement::AtOnce);
    let good = frame(ROUTER, select());
    let options = 14 + 8 + 20 + 8 + 240;
    let (line, before) = (line(PLACE), world.journal.clone());
    let spoiled = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    for (name, bad) in [
        ("frame", good[..60].to_vec()),
        ("malformed", spoiled(options - 4, 0)),
        ("options", spoiled(options + 4, 255)),
        ("from_server", spoiled(options + 2, 5)),
        ("foreign_hardware", spoiled(options - 240 + 28, 6)),
        ("unserved", spoiled(options + 2, 9)),
    ] {
        world.feed(Event::Frame { line, frame: bad });
        assert_eq!(counted(&world, name), 1, "{name}");
        assert!(world.told().is_empty(), "{name}");
        assert_eq!(world.journal, before, "{name}");
    }
}
