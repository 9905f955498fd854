//! Without the servers, for hours and days.

use std::time::Duration;

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{HeldPhase, Instruction, Report};
use crate::engine::row::Phase;

const HOMES: u8 = 3;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: u32 = 24 * 60;

/// Sessions of one operator, established, on lines of their own.
fn street() -> World {
    let mut world = World::connected();
    for number in 0..HOMES {
        world.connect(NORTH, connect(NORTH, number, 1, number));
        world.terminals_accept();
        world.settle();
    }
    world.reports.clear();
    world
}

#[test]
fn a_day_without_a_server_changes_no_row_and_no_binding() {
    let mut world = street();
    let (maps, sessions) = (world.maps.clone(), world.journal.sessions.clone());
    assert_eq!(sessions.len(), usize::from(HOMES));
    let rows = sessions.values();
    assert!(
        rows.clone()
            .all(|row| matches!(row.phase, Phase::Established(_)))
    );
    world.feed(Event::StreamDown { operator: NORTH });
    for minute in 0..DAY {
        world.advance(MINUTE);
        // The daemon starts again once an hour.
        if minute % 60 == 59 {
            world.crash();
            world.settle();
        }
        assert_eq!(world.maps, maps, "after {minute} minutes");
        assert_eq!(world.journal.sessions, sessions, "after {minute} minutes");
    }
    assert!(world.take_reports().is_empty(), "nothing is kept for it");
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    let Some(Report::Hello { held }) = reports.first() else {
        panic!("a Hello first, not {reports:?}");
    };
    assert_eq!(held.len(), usize::from(HOMES));
    assert!(held.iter().all(|held| held.phase == HeldPhase::Established));
}

#[test]
fn what_a_server_disconnected_meanwhile_is_gone_before_its_address_is_anothers() {
    let mut world = street();
    world.feed(Event::StreamDown { operator: NORTH });
    for _ in 0..3 * DAY {
        world.advance(MINUTE);
    }
    world.feed(Event::StreamUp { operator: NORTH });
    world.reports.clear();
    let before = world.maps.clone();
    // In the order in which the server sends them, and without waiting for the fast path.
    world.disconnect(NORTH, 0, 2);
    let moved = crate::engine::message::Connect {
        ipv4: Some(address(NORTH, 0)),
        ..connect(NORTH, 3, 1, 3)
    };
    world.connect(NORTH, moved.clone());
    assert_eq!(world.maps, before, "nothing of the newer one is open yet");
    assert!(
        world
            .take_reports()
            .iter()
            .any(|report| matches!(report, Report::Nack(_))),
        "an address that is still forwarded for is not given away"
    );
    world.settle();
    let receipts = world.take_reports();
    assert!(
        receipts
            .iter()
            .any(|report| matches!(report, Report::Receipt(receipt) if receipt.generation == 2))
    );
    let mut keys = world.maps.downstream_v4.keys();
    let freed = keys.all(|key| key.destination_be != address(NORTH, 0).octets());
    assert!(freed, "its rows are gone before its receipt");
    world.connect(NORTH, moved);
    assert!(matches!(world.take_reports()[..], [Report::Ack { .. }]));
    world.instruct(NORTH, Instruction::Synced);
    // The former binding's instruction, late: of a generation that has been seen.
    let held = world.maps.clone();
    world.connect(NORTH, connect(NORTH, 0, 1, 0));
    world.settle();
    assert_eq!(world.maps, held, "a stale generation is refused");
}
