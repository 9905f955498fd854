//! Rows that the journal does not know, because the state directory was lost.

use std::time::Duration;

use super::world::*;
use crate::engine::Event;
use crate::engine::message::{Held, HeldPhase, Instruction, Report};
use crate::plan::{Plan, Tables};

/// Sessions 1 and 2 of the one operator and 3 of the other flow, and nobody remembers.
fn forgotten() -> World {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 1));
    world.connect(NORTH, connect(NORTH, 2, 1, 2));
    world.connect(SOUTH, connect(SOUTH, 3, 1, 3));
    assert_eq!(world.terminals_accept(), 3);
    world.settle();
    let before = world.maps.clone();
    world.lose_state();
    assert_eq!(world.maps, before, "nothing is deleted");
    world.feed(Event::StreamUp { operator: NORTH });
    world.feed(Event::StreamUp { operator: SOUTH });
    assert_eq!(world.maps, before, "nothing is deleted");
    world.reports.clear();
    world
}

/// Numbers of the sessions that forward upstream.
fn flowing(world: &World) -> Vec<u8> {
    let rows = world.maps.upstream_v4.keys();
    let mut numbers: Vec<u8> = rows.map(|key| key.source_be[3] - 10).collect();
    numbers.sort_unstable();
    numbers
}

fn receipts(world: &mut World) -> Vec<(u64, u64)> {
    let reports = world.take_reports().into_iter();
    let receipts = reports.filter_map(|report| match report {
        Report::Receipt(receipt) => Some((receipt.number, receipt.generation)),
        _ => None,
    });
    receipts.collect()
}

#[test]
fn rows_that_nobody_knows_flow_until_their_operator_has_told_everything() {
    let mut world = forgotten();
    world.instruct(NORTH, Instruction::Synced);
    world.settle();
    assert_eq!(flowing(&world), [3], "only the operator's own are removed");
    world.instruct(SOUTH, Instruction::Synced);
    world.settle();
    assert_eq!(world.maps, Tables::default());
    world.instruct(SOUTH, Instruction::Synced);
    assert!(world.orders.is_empty(), "done once");
}

#[test]
fn what_the_server_still_wants_never_stops() {
    let mut world = forgotten();
    let slots = world.maps.slots();
    let counted = world.counters.clone();
    for number in [1, 2] {
        world.connect(NORTH, connect(NORTH, number, 1, number));
    }
    assert_eq!(flowing(&world), [1, 2, 3]);
    assert_eq!(world.terminals_accept(), 2);
    // One is being opened while the rest is swept.
    let first = world.order().expect("an opening");
    world.feed(first);
    world.instruct(NORTH, Instruction::Synced);
    assert_eq!(flowing(&world), [1, 2, 3]);
    while let Some(event) = world.order() {
        assert_eq!(flowing(&world), [1, 2, 3]);
        world.feed(event);
    }
    assert_eq!(flowing(&world), [1, 2, 3]);
    assert_eq!(world.maps.slots(), slots, "they count where they did");
    assert_eq!(world.counters, counted);
    world.disconnect(NORTH, 1, 2);
    world.settle();
    assert_eq!(
        receipts(&mut world),
        [(1, 2)],
        "nothing is left to wait for"
    );
}

#[test]
fn an_address_that_comes_to_another_line_leaves_the_old_one_at_once() {
    let mut world = forgotten();
    world.connect(NORTH, connect(NORTH, 1, 2, 0));
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    let mut lines = world.maps.upstream_v4.iter();
    let line = lines.find(|(key, _)| key.source_be == address(NORTH, 1).octets());
    let (key, row) = line.expect("flows");
    assert_eq!((key.line.c_vid, row.generation), (0, 2));
    assert_eq!(flowing(&world), [1, 2, 3], "the others flow on");
    world.instruct(NORTH, Instruction::Synced);
    world.settle();
    assert_eq!(flowing(&world), [1, 3]);
}

/// Each row: whether the session is asked for anew before, and whether its terminal has answered.
#[test]
fn no_receipt_before_all_that_might_be_the_sessions_is_gone() {
    for (asked, answered) in [(false, false), (true, false), (true, true)] {
        let mut world = forgotten();
        if asked {
            world.connect(NORTH, connect(NORTH, 1, 2, 1));
        }
        if answered {
            assert_eq!(world.terminals_accept(), 1);
            world.settle();
        }
        world.disconnect(NORTH, 1, 3);
        world.settle();
        world.advance(Duration::from_secs(20));
        world.disconnect(NORTH, 1, 3);
        let reports = world.take_reports();
        let acks = reports.iter().filter(
            |report| matches!(report, Report::Ack { session, generation: 3, .. } if *session == id(1)),
        );
        assert_eq!(acks.count(), 2, "recorded, and recorded already");
        let receipts = |reports: &[Report]| {
            let is_receipt = |report: &&Report| matches!(report, Report::Receipt(_));
            reports.iter().filter(is_receipt).count()
        };
        assert_eq!(receipts(&reports), 0, "{asked} {answered}: {reports:?}");
        // A new stream learns that it is to come.
        world.feed(Event::StreamDown { operator: NORTH });
        world.feed(Event::StreamUp { operator: NORTH });
        let Report::Hello { held } = world.take_reports().remove(0) else {
            panic!("a Hello");
        };
        let expected = Held {
            session: id(1),
            generation: 3,
            revision: 0,
            phase: HeldPhase::Disconnected,
        };
        assert_eq!(held, [expected]);
        world.instruct(NORTH, Instruction::Synced);
        assert_eq!(receipts(&world.take_reports()), 0);
        world.settle();
        assert_eq!(flowing(&world), [3]);
        assert_eq!(receipts(&world.take_reports()), 1, "{asked} {answered}");
        assert!(world.sessions().is_empty());
    }
}

#[test]
fn a_receipt_that_waits_survives_a_crash() {
    for asked in [false, true] {
        let mut world = forgotten();
        if asked {
            world.connect(NORTH, connect(NORTH, 1, 2, 1));
        }
        world.disconnect(NORTH, 1, 3);
        world.crash();
        world.feed(Event::StreamUp { operator: NORTH });
        world.disconnect(NORTH, 1, 3);
        assert_eq!(receipts(&mut world), []);
        world.instruct(NORTH, Instruction::Synced);
        world.settle();
        assert_eq!(flowing(&world), [3]);
        assert_eq!(receipts(&mut world), [(1, 3)]);
    }
}

#[test]
fn a_removal_that_fails_is_tried_again() {
    let mut world = forgotten();
    world.disconnect(NORTH, 9, 1);
    world.failures = 2;
    world.instruct(NORTH, Instruction::Synced);
    world.settle();
    assert_eq!(flowing(&world), [1, 2, 3]);
    for _ in 0..2 {
        assert_eq!(receipts(&mut world), []);
        world.advance(Duration::from_secs(1));
        world.settle();
    }
    assert_eq!(flowing(&world), [3]);
    assert_eq!(receipts(&mut world), [(1, 1)]);
}

/// The opening fails halfway; what was there before is removed all the same.
#[test]
fn what_a_failed_opening_leaves_is_swept() {
    let mut world = forgotten();
    world.connect(NORTH, connect(NORTH, 1, 2, 1));
    assert_eq!(world.terminals_accept(), 1);
    world.instruct(NORTH, Instruction::Synced);
    world.failures = 1;
    world.settle();
    assert_eq!(flowing(&world), [3]);
    assert!(world.sessions().is_empty());
    world.disconnect(NORTH, 1, 3);
    assert_eq!(receipts(&mut world), [(1, 3)]);
}

#[test]
fn slots_of_what_nobody_knows_are_not_given_away() {
    let mut world = forgotten();
    let before = world.maps.slots();
    world.connect(SOUTH, connect(SOUTH, 5, 1, 0));
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    let given = &world.journal.sessions[&session(SOUTH, 5)].slot;
    assert!(!before.contains(given));
    world.instruct(NORTH, Instruction::Synced);
    world.instruct(SOUTH, Instruction::Synced);
    world.settle();
    assert_eq!(flowing(&world), [5]);
    world.advance(Duration::from_secs(11));
    assert_eq!(
        world.engine.summary().slots_used,
        4,
        "until they are asked for"
    );
    for number in [0, 1, 2, 4, 6, 7] {
        world.connect(NORTH, connect(NORTH, number, 9, number % 4));
    }
    assert_eq!(world.engine.summary().slots_used, 7);
}

/// An operator that is not configured has nobody who could claim its rows.
#[test]
fn rows_of_an_operator_that_is_gone_are_removed_at_start() {
    let mut world = forgotten();
    let stranger = Tables {
        upstream_v4: world
            .maps
            .upstream_v4
            .iter()
            .map(|(key, row)| {
                let (mut key, mut row) = (*key, *row);
                key.line.c_vid = 7;
                row.operator = 9;
                (key, row)
            })
            .collect(),
        ..Tables::default()
    };
    let before = world.maps.clone();
    for change in Plan::diff(&stranger, &Tables::default()).changes {
        world.maps.apply(&change);
    }
    assert_ne!(world.maps, before);
    world.crash();
    assert_eq!(world.maps, before);
}
