//! Named situations.

use std::time::Duration;

use doorstep_establish::{Mac, Message};
use doorstep_gateway_common::LineKey;

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{
    Account, Connect, Held, HeldPhase, Instruction, RefusalReason, Report,
};
use crate::engine::row::Phase;
use crate::session::Counters;

/// A world with a session that flows.
pub(super) fn established(operator: u16, number: u8, place: u8) -> World {
    let mut world = World::connected();
    world.connect(operator, connect(operator, number, 1, place));
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    world
}

pub(super) fn phase(world: &World, number: u8) -> Option<&'static str> {
    let views = world.sessions();
    let view = views.iter().find(|view| view.connect.session == id(number));
    view.map(|view| view.phase)
}

#[test]
fn a_session_is_established() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    assert_eq!(
        world.take_reports(),
        [Report::Ack {
            session: id(1),
            generation: 1,
            revision: 0
        }]
    );
    assert_eq!(world.journal.sessions.len(), 1);
    assert_eq!(phase(&world, 1), Some("establishing"));
    let (_, frame) = world.frames[0].clone();
    let (line, _, body) = read(&frame).expect("a request");
    assert_eq!((line.s_vid, line.c_vid), (101, 1002));
    let Message::Request(offer) = body.message else {
        panic!("a request");
    };
    assert_eq!(offer.gateway_id, "gw1");
    assert_eq!(offer.ipv4, Some(address(NORTH, 1)));
    assert_eq!(offer.ipv4_gateway, Some([100, 64, 1, 1].into()));

    assert_eq!(world.terminals_accept(), 1);
    assert_eq!(phase(&world, 1), Some("opening"));
    assert!(world.take_reports().is_empty(), "nothing flows yet");
    assert!(world.said().is_empty());
    world.settle();
    assert_eq!(phase(&world, 1), Some("established"));
    assert_eq!(world.said(), [confirm(&world)]);
    let reports = world.take_reports();
    let [
        Report::Established {
            mac, line, route, ..
        },
    ] = &reports[..]
    else {
        panic!("established, not {reports:?}");
    };
    assert_eq!(*mac, Mac([2, 1, 0, 101, 3, 234]));
    assert_eq!(line, "access0/101.1002");
    assert_eq!(route, "uplink0 via 192.0.2.1");
    assert_eq!(world.maps.upstream_v4.len(), 1);
    assert_eq!(
        world.maps.downstream_v6.len(),
        2,
        "the home's and the line's"
    );
}

/// Says where the only session is.
fn confirm(world: &World) -> Message {
    let slot = Some(world.sessions()[0].slot);
    Message::Confirm { slot }
}

#[test]
fn requests_are_repeated_until_answered_and_confirms_as_often_as_accepted() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    while world.frames.len() < 30 {
        let next = world.engine.next_deadline().expect("to be repeated");
        let pause = next.saturating_duration_since(world.now.at);
        assert!(pause <= Duration::from_secs(5));
        world.advance(pause);
    }
    let frames = std::mem::take(&mut world.frames);
    let (accept, _) = accept(7, &frames[0].1).expect("a request");
    let Event::Frame { line, frame } = accept else {
        panic!("a frame");
    };
    let again = || Event::Frame {
        line,
        frame: frame.clone(),
    };
    world.feed(again());
    world.feed(again());
    assert_eq!(world.orders.len(), 1, "opened once");
    world.settle();
    world.feed(again());
    assert_eq!(world.said(), [confirm(&world), confirm(&world)]);
}

#[test]
fn what_is_not_the_terminals_answer_on_its_line_changes_nothing() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    let (_, frame) = world.frames[0].clone();
    let (line, right_key, request) = read(&frame).expect("a request");
    let mac = terminal_mac(line);
    let (event, answer) = accept(7, &frame).expect("a request");
    let other_line = LineKey {
        c_vid: 1003,
        ..line
    };
    let mut old = answer.clone();
    old.generation = 0;
    let mut other_nonce = answer.clone();
    other_nonce.nonce.0[3] ^= 1;
    let spoiled = |event: Event| {
        let Event::Frame { line, mut frame } = event else {
            panic!("a frame");
        };
        let last = frame.len() - 1;
        frame[last] ^= 1;
        Event::Frame { line, frame }
    };
    let (stranger, wrong_key) = (Mac([2, 9, 9, 9, 9, 9]), key(SOUTH, 1, 1));
    let rows = [
        (
            "another line",
            answer_from(other_line, mac, id(1), &right_key, &answer),
        ),
        (
            "another key",
            answer_from(line, mac, id(1), &wrong_key, &answer),
        ),
        (
            "another session",
            answer_from(line, mac, id(2), &right_key, &answer),
        ),
        (
            "another source",
            answer_from(line, stranger, id(1), &right_key, &answer),
        ),
        (
            "another generation",
            answer_from(line, mac, id(1), &right_key, &old),
        ),
        (
            "another nonce",
            answer_from(line, mac, id(1), &right_key, &other_nonce),
        ),
        (
            "our own request",
            answer_from(line, mac, id(1), &right_key, &request),
        ),
        (
            "a bit flipped",
            spoiled(answer_from(line, mac, id(1), &right_key, &answer)),
        ),
        (
            "no frame",
            Event::Frame {
                line,
                frame: vec![0; 9],
            },
        ),
    ];
    for (what, event) in rows {
        world.feed(event);
        assert!(world.orders.is_empty(), "{what}");
    }
    world.feed(event);
    assert_eq!(world.orders.len(), 1, "the right one is taken");
}

#[test]
fn a_refusing_terminal_is_asked_again_and_its_reason_shown() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    let (_, frame) = world.frames[0].clone();
    let (line, key, mut body) = read(&frame).expect("a request");
    body.message = Message::Refuse {
        detail: "no bridge\n".into(),
    };
    world.feed(answer_from(line, terminal_mac(line), id(1), &key, &body));
    let detail = world.sessions()[0].detail.clone();
    assert_eq!(
        detail.as_deref(),
        Some("the terminal refuses: no bridge\\n")
    );
    world.frames.clear();
    world.advance(Duration::from_secs(5));
    assert_eq!(world.terminals_accept(), 1, "asked again");
    world.settle();
    assert_eq!(world.sessions()[0].detail, None);
    assert_eq!(phase(&world, 1), Some("established"));
}

#[test]
fn line_prefixes_need_their_room() {
    let mut world = World::connected();
    world.engine.settings.line_prefixes = false;
    let mut connect = connect(NORTH, 1, 1, 1);
    world.connect(NORTH, connect.clone());
    let [refusal] = &world.refusals()[..] else {
        panic!("one refusal")
    };
    assert_eq!(refusal.reason, RefusalReason::NoCapacity);
    assert!(
        refusal.detail.contains("line_prefixes = true"),
        "{refusal:?}"
    );
    assert!(world.journal.sessions.is_empty(), "nothing is recorded");
    connect.ipv6_line = None;
    world.reports.clear();
    world.connect(NORTH, connect);
    assert!(world.refusals().is_empty(), "without one there is room");
    assert_eq!(world.journal.sessions.len(), 1);
}

#[test]
fn connects_that_are_refused() {
    let mut world = established(NORTH, 1, 2);
    world.disconnect(NORTH, 2, 5);
    world.reports.clear();
    type Spoil = fn(&mut Connect);
    #[rustfmt::skip]
    let rows: [(Spoil, RefusalReason, &str); 24] = [
        (|c| { c.session = id(1); c.dns.clear(); }, RefusalReason::Malformed, "generation 1 is held with other values"),
        (|c| { c.session = id(2); c.generation = 5; }, RefusalReason::StaleGeneration, "generation 5 has been seen"),
        (|c| { c.session = id(2); c.generation = 4; }, RefusalReason::StaleGeneration, "generation 5 has been seen"),
        (|c| c.generation = 0, RefusalReason::Malformed, "generation: 0"),
        (|c| c.location = location(9).parse().expect("a location"), RefusalReason::UnknownLocation, "110103-xinjing-001-002-009"),
        (|c| { c.ipv4 = None; c.ipv6 = None; c.ipv6_line = None; }, RefusalReason::Malformed, "ipv4_address, ipv6_prefix"),
        (|c| c.ipv4 = Some([100, 64, 2, 9].into()), RefusalReason::Malformed, "ipv4_address: 100.64.2.9"),
        (|c| c.ipv6 = Some(prefix(SOUTH, 3)), RefusalReason::Malformed, "ipv6_prefix: 2001:db8:2000"),
        (|c| c.ipv6 = Some("2001:db8:1000:400::/57".parse().expect("a prefix")), RefusalReason::Malformed, "delegated length, 56"),
        (|c| c.mtu = 1279, RefusalReason::Malformed, "mtu: 1279"),
        (|c| c.service.priority = 8, RefusalReason::Malformed, "service.priority: 8 is beyond 7"),
        (|c| c.service.upstream_bps = 63_999, RefusalReason::Malformed, "service.upstream_bps: 63999 is neither 0"),
        (|c| c.service.downstream_bps = 1_000_000_000_001, RefusalReason::Malformed, "service.downstream_bps: 1000000000001"),
        (|c| c.ipv4 = Some([100, 64, 1, 1].into()), RefusalReason::AddressInUse, "the gateway's own"),
        (|c| c.ipv6 = Some("2001:db8:1000::/56".parse().expect("a prefix")), RefusalReason::AddressInUse, "the gateway's own"),
        (|c| c.ipv4 = Some(address(NORTH, 1)), RefusalReason::AddressInUse, "100.64.1.11/32 is held by session"),
        (|c| c.ipv6 = Some(prefix(NORTH, 1)), RefusalReason::AddressInUse, "2001:db8:1000:200::/56 is held by session"),
        (|c| c.ipv6_line = Some("2001:db8:1000:ff02::/63".parse().expect("a prefix")), RefusalReason::Malformed, "ff02::/63 is not a /64"),
        (|c| c.ipv6_line = Some("2001:db8:1000:ff00::/64".parse().expect("a prefix")), RefusalReason::Malformed, "would stand for all of it"),
        (|c| c.ipv6_line = Some(line_prefix(SOUTH, 3)), RefusalReason::Malformed, "2001:db8:2000:ff04::/64 is not in this gateway's subscriber_prefixes of north-net"),
        (|c| c.ipv6_line = Some("2001:db8:1000:401::/64".parse().expect("a prefix")), RefusalReason::Malformed, "lies in the session's own 2001:db8:1000:400::/56"),
        (|c| c.ipv6_line = Some("2001:db8:1000:2fe::/64".parse().expect("a prefix")), RefusalReason::AddressInUse, "2001:db8:1000:2fe::/64 lies in 2001:db8:1000:200::/56 of session"),
        (|c| c.ipv6_line = Some(line_prefix(NORTH, 1)), RefusalReason::AddressInUse, "2001:db8:1000:ff02::/64 is held by session"),
        (|c| c.ipv6 = Some("2001:db8:1000:ff00::/56".parse().expect("a prefix")), RefusalReason::AddressInUse, "2001:db8:1000:ff00::/56 holds 2001:db8:1000:ff02::/64, the line prefix of session"),
    ];
    let (maps, sessions) = (world.maps.clone(), world.journal.sessions.clone());
    for (spoil, reason, expected) in rows {
        let mut connect = connect(NORTH, 3, 1, 1);
        spoil(&mut connect);
        let session = connect.session;
        world.connect(NORTH, connect);
        let refusals = world.refusals();
        let [refusal] = &refusals[..] else {
            panic!("{expected}: one refusal, not {refusals:?}");
        };
        assert_eq!(refusal.reason, reason, "{expected}");
        assert!(refusal.detail.contains(expected), "{}", refusal.detail);
        assert_eq!(refusal.session, session.to_string());
    }
    assert_eq!(world.journal.sessions, sessions, "nothing was disturbed");
    assert_eq!(world.maps, maps);
    world.connect(NORTH, connect(NORTH, 3, 1, 1));
    assert_eq!(world.refusals(), [], "a good one of the same generation");
}

#[test]
fn a_malformed_instruction_is_refused_as_it_says_it_is() {
    let mut world = World::connected();
    let refusal = crate::engine::message::Refusal {
        session: "x".into(),
        generation: 3,
        revision: 0,
        reason: RefusalReason::Malformed,
        detail: "session_id".into(),
    };
    world.instruct(NORTH, Instruction::Malformed(refusal.clone()));
    assert_eq!(world.refusals(), [refusal]);
}

#[test]
fn no_capacity_until_a_slot_has_rested() {
    let mut world = World::connected();
    for number in 0..8 {
        world.connect(SOUTH, connect(SOUTH, number, 1, 2));
    }
    let mut one_more = connect(NORTH, 0, 1, 2);
    world.reports.clear();
    world.connect(NORTH, one_more.clone());
    assert_eq!(world.refusals()[0].reason, RefusalReason::NoCapacity);
    world.disconnect(SOUTH, 4, 2);
    world.reports.clear();
    world.connect(NORTH, one_more.clone());
    assert_eq!(world.refusals()[0].reason, RefusalReason::NoCapacity);
    world.advance(Duration::from_secs(10));
    world.reports.clear();
    one_more.generation = 1;
    world.connect(NORTH, one_more);
    assert_eq!(world.refusals(), []);
}

#[test]
fn the_same_connect_again_is_acknowledged_again() {
    let mut world = established(NORTH, 1, 2);
    world.reports.clear();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    let reports = world.take_reports();
    assert!(matches!(
        reports[..],
        [Report::Ack { .. }, Report::Established { .. }]
    ));
    assert!(world.orders.is_empty());
}

#[test]
fn a_new_stream_begins_with_all_that_is_held() {
    let mut world = established(NORTH, 1, 2);
    world.connect(NORTH, connect(NORTH, 2, 1, 3));
    world.disconnect(NORTH, 3, 1);
    world.connect(SOUTH, connect(SOUTH, 4, 1, 3));
    world.feed(Event::StreamDown { operator: NORTH });
    world.reports.clear();
    world.disconnect(SOUTH, 5, 1);
    world.reports.clear();
    world.advance(Duration::from_secs(60));
    assert!(world.reports.iter().all(|(operator, _)| *operator == SOUTH));
    assert_eq!(phase(&world, 1), Some("established"), "fail-static");
    world.reports.clear();
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    let held = |number, phase| Held {
        session: id(number),
        generation: 1,
        phase,
        revision: 0,
    };
    assert_eq!(
        reports[0],
        Report::Hello {
            held: vec![
                held(1, HeldPhase::Established),
                held(2, HeldPhase::Establishing),
                held(3, HeldPhase::Disconnected),
            ]
        }
    );
    // What has been told is not told again; a server that has missed it connects again.
    assert!(matches!(reports[1..], [Report::Receipt(_)]));
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    assert!(matches!(
        world.take_reports()[..],
        [Report::Ack { .. }, Report::Established { .. }]
    ));
    // Another daemon does not know what has been told.
    world.crash();
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    assert!(matches!(
        reports[1..],
        [Report::Receipt(_), Report::Established { .. }]
    ));
}

#[test]
fn counters_are_reported_while_the_stream_is_up() {
    let mut world = established(NORTH, 1, 2);
    world.connect(NORTH, connect(NORTH, 2, 1, 3));
    world.reports.clear();
    world.advance(Duration::from_secs(10));
    world.settle();
    let counters = Counters {
        upstream_packets: 1,
        ..Counters::default()
    };
    let account = Account {
        session: id(1),
        generation: 1,
        counters,
        silent_since_ms: None,
        blocked: false,
    };
    assert_eq!(world.take_reports(), [Report::Accounting(vec![account])]);
    world.feed(Event::StreamDown { operator: NORTH });
    world.advance(Duration::from_secs(30));
    assert!(world.orders.is_empty());
}

/// Each account says what is so when it is read: nothing has to be remembered of what was said before.
#[test]
fn silent_terminals_are_reported_with_the_counters() {
    let mut world = established(NORTH, 1, 2);
    world.reports.clear();
    let silence = |world: &mut World| {
        world.advance(Duration::from_secs(10));
        world.settle();
        match &world.take_reports()[..] {
            [Report::Accounting(accounts)] => accounts[0].silent_since_ms,
            other => panic!("not an account: {other:?}"),
        }
    };
    assert_eq!(silence(&mut world), None);
    let slot = *world.counters.keys().next().expect("a session");
    world.silent.insert(slot, Duration::from_secs(7));
    assert_eq!(silence(&mut world), Some(world.now.unix_ms - 7000));
    world.silent.clear();
    assert_eq!(silence(&mut world), None, "heard again");
}

#[test]
fn after_a_crash_the_same_session_goes_on() {
    let mut world = established(NORTH, 1, 2);
    let maps = world.maps.clone();
    world.crash();
    assert_eq!(world.maps, maps, "untouched");
    assert_eq!(phase(&world, 1), Some("established"));
    assert!(world.frames.is_empty());
}

#[test]
fn after_a_reboot_the_maps_are_filled_again() {
    let mut world = established(NORTH, 1, 2);
    let maps = std::mem::take(&mut world.maps);
    world.crash();
    assert_eq!(world.maps, maps);
}

#[test]
fn a_location_that_was_rewired_is_asked_on_its_new_line() {
    let mut world = established(NORTH, 1, 2);
    let rewired = INVENTORY.replace(",101,1002", ",101,2002");
    let file = std::path::Path::new("inventory.csv");
    let inventory = crate::inventory::Inventory::parse(file, &rewired, ports).expect("valid");
    world.inventory = std::sync::Arc::new(inventory);
    world.crash();
    assert_eq!(world.maps, crate::plan::Tables::default());
    world.advance(Duration::ZERO);
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    let (key, _) = world.maps.upstream_v4.iter().next().expect("a row");
    assert_eq!(key.line.c_vid, 2002);
}

#[test]
fn a_location_that_left_the_inventory_keeps_its_session() {
    let mut world = established(NORTH, 1, 2);
    let maps = world.maps.clone();
    let shorter: Vec<_> = INVENTORY
        .lines()
        .filter(|line| !line.contains("1002"))
        .collect();
    let file = std::path::Path::new("inventory.csv");
    let inventory = crate::inventory::Inventory::parse(file, &shorter.join("\n"), ports);
    world.inventory = std::sync::Arc::new(inventory.expect("valid"));
    world.crash();
    assert_eq!(world.maps, maps);
    let detail = world.sessions()[0].detail.clone();
    assert!(detail.is_some_and(|detail| detail.contains("not in the inventory any more")));
    let row = &world.journal.sessions[&session(NORTH, 1)];
    assert!(matches!(row.phase, Phase::Established(_)));
}

/// Each row: the line's number of tags, what the server asks for, what the line gets.
#[test]
fn packets_on_a_line_are_no_larger_than_its_port_carries_with_the_tags() {
    for (place, asked, expected) in [
        (2, 1400, 1400),
        (2, 1500, 1500),
        (2, 1501, 1500),
        (1, 1504, 1504),
        (1, 9000, 1504),
        (0, 9000, 1504),
    ] {
        let mut world = World::connected();
        let mut connect = connect(NORTH, 1, 1, place);
        connect.mtu = asked;
        world.connect(NORTH, connect);
        let (_, _, body) = read(&world.frames[0].1).expect("a request");
        let Message::Request(offer) = body.message else {
            panic!("a request");
        };
        assert_eq!(offer.mtu, u32::from(expected), "{place} {asked}");
        assert_eq!(world.terminals_accept(), 1);
        world.settle();
        for _ in 0..2 {
            let mut rows = world.maps.downstream_v4.values();
            assert_eq!(rows.next().map(|row| row.mtu), Some(expected));
            let detail = world.sessions().remove(0).detail;
            let told = (expected < asked)
                .then(|| format!("MTU {expected}, not {asked}: port access0 carries no more"));
            assert_eq!(detail, told);
            world.crash();
        }
    }
}
