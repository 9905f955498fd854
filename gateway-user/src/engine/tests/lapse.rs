//! Sessions with a time to live, while their server is away and after.

use std::time::Duration;

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{Connect, Instruction, Report};
use crate::engine::row::Phase;
use crate::session::Service;

const TIME_TO_LIVE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn mortal(connect: Connect) -> Connect {
    Connect {
        service: Service {
            time_to_live_s: 60,
            ..Service::default()
        },
        ..connect
    }
}

/// Two sessions of one operator that flow, and the first has a time to live.
fn two() -> World {
    let mut world = World::connected();
    for (number, connect) in [
        (0, mortal(connect(NORTH, 0, 1, 0))),
        (1, connect(NORTH, 1, 1, 1)),
    ] {
        world.connect(NORTH, connect);
        assert_eq!(world.terminals_accept(), 1, "{number}");
        world.settle();
    }
    world.instruct(NORTH, Instruction::Synced);
    world.reports.clear();
    world.frames.clear();
    world
}

fn flows(world: &World, number: u8) -> bool {
    let mut keys = world.maps.downstream_v4.keys();
    keys.any(|key| key.destination_be == address(NORTH, number).octets())
}

fn down(world: &mut World) {
    world.feed(Event::StreamDown { operator: NORTH });
}

fn up(world: &mut World) -> Vec<u8> {
    world.reports.clear();
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    let Some(Report::Hello { held }) = reports.first() else {
        panic!("a Hello first, not {reports:?}");
    };
    let numbers = 0..=1;
    numbers
        .filter(|number| held.iter().any(|held| held.session == id(*number)))
        .collect()
}

#[test]
fn without_its_server_for_longer_it_ends_and_only_it() {
    let mut world = two();
    down(&mut world);
    world.advance(TIME_TO_LIVE - SECOND);
    world.settle();
    assert!(flows(&world, 0));
    world.advance(SECOND);
    world.settle();
    assert!(!flows(&world, 0) && flows(&world, 1));
    assert_eq!(world.journal.sessions.len(), 1);
    assert!(world.journal.receipts.is_empty(), "nobody asked for one");
    // The server finds it missing, and may have it again.
    assert_eq!(up(&mut world), [1]);
    world.connect(NORTH, mortal(connect(NORTH, 0, 1, 0)));
    let acknowledged = matches!(world.take_reports()[..], [Report::Ack { .. }]);
    assert!(acknowledged);
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    assert!(flows(&world, 0));
}

#[test]
fn contact_in_time_begins_the_time_anew() {
    let mut world = two();
    for _ in 0..5 {
        down(&mut world);
        world.advance(TIME_TO_LIVE - SECOND);
        assert_eq!(up(&mut world), [0, 1]);
        world.instruct(NORTH, Instruction::Synced);
        world.advance(TIME_TO_LIVE * 3);
        world.settle();
        assert!(flows(&world, 0));
    }
}

#[test]
fn a_stream_that_tells_nothing_is_no_contact() {
    let mut world = two();
    down(&mut world);
    for _ in 0..3 {
        world.advance(SECOND * 25);
        world.feed(Event::StreamUp { operator: NORTH });
        world.feed(Event::StreamDown { operator: NORTH });
    }
    world.settle();
    assert!(!flows(&world, 0) && flows(&world, 1));
}

#[test]
fn a_restart_does_not_begin_the_time_anew() {
    let mut world = two();
    // Contact is recorded while it lasts: the daemon may die at any time.
    world.advance(TIME_TO_LIVE * 2);
    world.crash();
    world.settle();
    assert!(flows(&world, 0));
    world.advance(TIME_TO_LIVE / 2);
    world.crash();
    world.settle();
    assert!(flows(&world, 0));
    world.advance(TIME_TO_LIVE / 2);
    world.settle();
    assert!(!flows(&world, 0) && flows(&world, 1));
}

#[test]
fn before_the_first_sync_the_time_counts_from_the_connect() {
    let mut world = World::connected();
    world.connect(NORTH, mortal(connect(NORTH, 0, 1, 0)));
    world.terminals_accept();
    world.settle();
    for _ in 0..2 {
        assert!(flows(&world, 0));
        world.now.at += TIME_TO_LIVE / 2;
        world.now.unix_ms += 30_000;
        world.crash();
        world.settle();
    }
    assert!(!flows(&world, 0));
}

/// While nothing depended on it, contact was not recorded.
#[test]
fn a_first_connect_before_the_sync_makes_the_former_contact_durable() {
    let mut world = World::connected();
    world.instruct(NORTH, Instruction::Synced);
    down(&mut world);
    world.advance(SECOND);
    up(&mut world);
    world.connect(NORTH, mortal(connect(NORTH, 0, 1, 0)));
    world.terminals_accept();
    world.settle();
    down(&mut world);
    for _ in 0..2 {
        assert!(flows(&world, 0));
        world.advance(TIME_TO_LIVE / 2);
        world.crash();
        world.settle();
    }
    assert!(!flows(&world, 0));
}

#[test]
fn what_lapsed_while_the_daemon_was_away_never_flows_again() {
    let mut world = two();
    down(&mut world);
    world.now.at += TIME_TO_LIVE;
    world.now.unix_ms += 60_000;
    // As after a reboot: nothing is in the fast path but what the engine puts there.
    world.maps = crate::plan::Tables::default();
    world.crash();
    assert!(!flows(&world, 0) && flows(&world, 1));
    world.settle();
    assert_eq!(up(&mut world), [1]);
}

#[test]
fn one_that_waits_for_its_terminal_ends_too() {
    let mut world = World::connected();
    world.connect(NORTH, mortal(connect(NORTH, 0, 1, 0)));
    down(&mut world);
    world.advance(TIME_TO_LIVE);
    world.settle();
    world.frames.clear();
    world.advance(TIME_TO_LIVE);
    assert_eq!(world.terminals_accept(), 0);
    assert!(world.journal.sessions.is_empty());
}

#[test]
fn a_disconnect_that_comes_while_it_ends_is_answered() {
    let mut world = two();
    down(&mut world);
    world.advance(TIME_TO_LIVE);
    let row = &world.journal.sessions[&session(NORTH, 0)];
    assert!(matches!(row.phase, Phase::Closing { .. }));
    world.feed(Event::StreamUp { operator: NORTH });
    world.disconnect(NORTH, 0, 2);
    world.settle();
    let reports = world.take_reports();
    let receipts = reports
        .iter()
        .filter(|report| matches!(report, Report::Receipt(receipt) if receipt.generation == 2));
    assert_eq!(receipts.count(), 1, "{reports:?}");
}
