//! How sessions end, and what comes in their place.

use std::time::Duration;

use doorstep_establish::Message;

use super::cases::{established, phase};
use super::world::*;
use crate::engine::message::{Instruction, RefusalReason, Report};
use crate::session::Counters;

#[test]
fn a_disconnect_is_receipted_once_nothing_forwards() {
    let mut world = established(NORTH, 1, 2);
    world.reports.clear();
    world.frames.clear();
    world.disconnect(NORTH, 1, 2);
    assert!(matches!(world.take_reports()[..], [Report::Ack { .. }]));
    world.settle();
    assert_eq!(world.maps, crate::plan::Tables::default());
    assert_eq!(world.said(), [Message::Release]);
    let reports = world.take_reports();
    let [Report::Receipt(receipt)] = &reports[..] else {
        panic!("a receipt, not {reports:?}");
    };
    assert_eq!((receipt.number, receipt.generation), (1, 2));
    assert_eq!(receipt.final_counters.upstream_packets, 1);
    assert!(world.journal.sessions.is_empty());
    assert_eq!(world.journal.receipts.len(), 1);

    world.advance(Duration::from_secs(5));
    assert_eq!(world.take_reports(), reports, "repeated");
    world.disconnect(NORTH, 1, 2);
    let again = world.take_reports();
    assert!(matches!(again[0], Report::Ack { .. }));
    assert_eq!(again[1..], reports, "the same, not another");
    world.instruct(NORTH, Instruction::ReceiptAck { number: 1 });
    assert!(world.journal.receipts.is_empty());
    world.advance(Duration::from_secs(60));
    assert!(world.take_reports().is_empty());
    world.disconnect(NORTH, 1, 2);
    assert_eq!(
        world.take_reports()[1..],
        reports,
        "after the row is gone too"
    );

    world.connect(NORTH, connect(NORTH, 1, 2, 2));
    assert_eq!(world.refusals()[0].reason, RefusalReason::StaleGeneration);
    world.disconnect(NORTH, 1, 1);
    assert_eq!(world.refusals()[0].reason, RefusalReason::StaleGeneration);
    world.connect(NORTH, connect(NORTH, 1, 3, 2));
    assert_eq!(world.refusals(), []);
}

#[test]
fn a_disconnect_must_be_newer_than_the_connect() {
    let mut world = established(NORTH, 1, 2);
    world.reports.clear();
    world.disconnect(NORTH, 1, 1);
    assert_eq!(world.refusals()[0].reason, RefusalReason::StaleGeneration);
    assert_eq!(phase(&world, 1), Some("established"));
}

#[test]
fn a_disconnect_before_the_terminal_has_answered_and_while_the_fast_path_opens() {
    for opening in [false, true] {
        let mut world = World::connected();
        world.connect(NORTH, connect(NORTH, 1, 1, 2));
        if opening {
            world.terminals_accept();
        }
        world.disconnect(NORTH, 1, 2);
        world.settle();
        assert_eq!(world.maps, crate::plan::Tables::default());
        assert_eq!(world.sessions(), []);
        let receipt = world.take_reports().pop();
        assert!(matches!(receipt, Some(Report::Receipt(_))), "{receipt:?}");
        world.frames.clear();
        world.advance(Duration::from_secs(9));
        assert_eq!(world.terminals_accept(), 0, "no longer asked");
    }
}

#[test]
fn a_disconnect_of_an_unknown_session_is_receipted_and_fenced() {
    let mut world = World::connected();
    world.disconnect(SOUTH, 4, 9);
    let reports = world.take_reports();
    let [Report::Ack { .. }, Report::Receipt(receipt)] = &reports[..] else {
        panic!("acknowledged and receipted, not {reports:?}");
    };
    assert_eq!(receipt.final_counters, Counters::default());
    world.connect(SOUTH, connect(SOUTH, 4, 9, 2));
    assert_eq!(world.refusals()[0].reason, RefusalReason::StaleGeneration);
}

#[test]
fn operators_do_not_see_each_other() {
    let mut world = established(NORTH, 1, 2);
    // The same id, the same line, another operator.
    world.connect(SOUTH, connect(SOUTH, 1, 1, 2));
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    assert_eq!(world.maps.upstream_v4.len(), 2);
    world.disconnect(SOUTH, 1, 7);
    world.settle();
    let rows: Vec<_> = world.maps.upstream_v4.values().collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].operator, NORTH);
    world.reports.clear();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    assert!(matches!(
        world.take_reports()[..],
        [Report::Ack { .. }, Report::Established { .. }]
    ));
}

#[test]
fn a_newer_connect_closes_the_old_one_first() {
    for (place, releases) in [(2, 0), (3, 1)] {
        let mut world = established(NORTH, 1, 2);
        world.reports.clear();
        world.frames.clear();
        world.connect(NORTH, connect(NORTH, 1, 2, place));
        assert!(matches!(
            world.take_reports()[..],
            [Report::Ack { generation: 2, .. }]
        ));
        assert_eq!(phase(&world, 1), Some("closing"));
        world.settle();
        let requests = world.frames.clone();
        let released = world
            .said()
            .iter()
            .filter(|said| **said == Message::Release)
            .count();
        assert_eq!(released, releases, "released where it goes to another line");
        world.frames = requests;
        assert_eq!(world.maps, crate::plan::Tables::default());
        assert_eq!(world.terminals_accept(), 1);
        world.settle();
        assert_eq!(phase(&world, 1), Some("established"));
        let row = world.maps.upstream_v4.iter().next().expect("a row");
        assert_eq!(row.0.line.c_vid, 1000 + u16::from(place));
        assert_eq!(row.1.generation, 2);
    }
}

#[test]
fn a_connect_that_waits_for_a_close_can_be_disconnected_or_replaced() {
    let mut world = established(NORTH, 1, 2);
    world.connect(NORTH, connect(NORTH, 1, 2, 3));
    world.connect(NORTH, connect(NORTH, 1, 3, 1));
    world.disconnect(NORTH, 1, 4);
    world.connect(NORTH, connect(NORTH, 1, 5, 0));
    assert_eq!(world.orders.len(), 1, "one close");
    world.reports.clear();
    world.settle();
    let receipt = world.take_reports();
    assert!(
        matches!(&receipt[..], [Report::Receipt(receipt)] if receipt.generation == 4),
        "the promised receipt: {receipt:?}"
    );
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    assert_eq!(
        world
            .maps
            .upstream_v4
            .values()
            .next()
            .expect("a row")
            .generation,
        5
    );
}

#[test]
fn the_fast_path_refuses_a_session() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    world.terminals_accept();
    world.failures = 1;
    world.reports.clear();
    world.settle();
    let refusals = world.refusals();
    assert_eq!(refusals[0].reason, RefusalReason::Dataplane);
    assert!(refusals[0].detail.contains("no space"));
    assert_eq!(
        world.maps,
        crate::plan::Tables::default(),
        "halves are removed"
    );
    assert_eq!(world.sessions(), []);
    assert_eq!(world.said().last(), Some(&Message::Release));
    // The server may try the same again.
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    world.terminals_accept();
    world.settle();
    assert_eq!(phase(&world, 1), Some("established"));
}

#[test]
fn a_close_that_fails_is_tried_again_before_any_receipt() {
    let mut world = established(NORTH, 1, 2);
    world.disconnect(NORTH, 1, 2);
    world.failures = 3;
    world.reports.clear();
    for _ in 0..3 {
        world.settle();
        assert!(world.take_reports().is_empty());
        let detail = world.sessions()[0].detail.clone();
        assert!(detail.is_some_and(|detail| detail.contains("no space")));
        world.advance(Duration::from_secs(5));
    }
    world.settle();
    assert!(matches!(world.take_reports()[..], [Report::Receipt(_)]));
}
