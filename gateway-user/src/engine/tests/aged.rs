//! Fences go when nothing older can come any more, and not before.

use std::time::Duration;

use doorstep_gateway_common::OperatorIndex;

use super::world::*;
use crate::engine::aged::{BATCH, KEPT, PAUSE};
use crate::engine::message::{Instruction, RefusalReason, Report};
use crate::engine::row::{Fence, FenceKind, SessionRef};

/// A receipt of a session that ended, acknowledged or not.
fn end(world: &mut World, operator: OperatorIndex, number: u8, acknowledged: bool) {
    world.disconnect(operator, number, 2);
    world.settle();
    let receipt = world.take_reports().into_iter().find_map(|report| {
        let Report::Receipt(receipt) = report else {
            return None;
        };
        Some(receipt.number)
    });
    if let Some(number) = receipt.filter(|_| acknowledged) {
        world.instruct(operator, Instruction::ReceiptAck { number });
    }
}

fn established(number: u8) -> World {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, number, 1, number));
    world.terminals_accept();
    world.settle();
    world.reports.clear();
    world
}

fn fence(world: &World, number: u8) -> Option<&Fence> {
    world.journal.fences.get(&session(NORTH, number))
}

/// Time passes, with whatever is due meanwhile.
fn wait(world: &mut World, pause: Duration) {
    let end = world.now.at + pause;
    while let Some(due) = world.engine.next_deadline().filter(|due| *due <= end) {
        let step = due.saturating_duration_since(world.now.at);
        world.advance(step.max(Duration::from_secs(10)));
    }
    let rest = end.saturating_duration_since(world.now.at);
    world.advance(rest);
    world.reports.clear();
}

fn is_stale(world: &mut World, number: u8) -> bool {
    world.connect(NORTH, connect(NORTH, number, 1, number));
    world.settle();
    let refusals = world.refusals();
    world.reports.clear();
    refusals
        .iter()
        .any(|refusal| refusal.reason == RefusalReason::StaleGeneration)
}

/// Without accounting, whose timer would come every ten seconds.
fn alone(world: &mut World) {
    for operator in [NORTH, SOUTH] {
        world.feed(crate::engine::Event::StreamDown { operator });
    }
}

fn back(world: &mut World) {
    for operator in [NORTH, SOUTH] {
        world.feed(crate::engine::Event::StreamUp { operator });
    }
    world.reports.clear();
}

#[test]
fn an_acknowledged_end_is_remembered_for_months_and_then_forgotten() {
    for crash in [false, true] {
        let mut world = established(1);
        end(&mut world, NORTH, 1, true);
        alone(&mut world);
        wait(&mut world, KEPT - Duration::from_secs(60));
        if crash {
            world.crash();
        }
        back(&mut world);
        assert!(is_stale(&mut world, 1));
        alone(&mut world);
        wait(&mut world, 3 * PAUSE);
        assert_eq!(fence(&world, 1), None, "crash: {crash}");
        // In memory as well.
        back(&mut world);
        assert!(!is_stale(&mut world, 1));
    }
}

#[test]
fn what_the_server_has_not_acknowledged_stays() {
    let mut world = established(1);
    end(&mut world, NORTH, 1, false);
    alone(&mut world);
    for _ in 0..3 {
        wait(&mut world, KEPT);
        assert!(fence(&world, 1).is_some());
        world.crash();
    }
    // Told at last: it ended long ago, and is forgotten after two looks.
    back(&mut world);
    let number = *world.journal.last_numbers.get(&NORTH).expect("a receipt");
    world.instruct(NORTH, Instruction::ReceiptAck { number });
    alone(&mut world);
    assert!(fence(&world, 1).is_some());
    wait(&mut world, 3 * PAUSE);
    assert_eq!(fence(&world, 1), None);
}

#[test]
fn a_session_that_is_held_or_came_back_keeps_its_fence() {
    let mut world = established(1);
    alone(&mut world);
    wait(&mut world, 3 * KEPT);
    assert!(fence(&world, 1).is_some(), "it is held");
    back(&mut world);
    end(&mut world, NORTH, 1, true);
    alone(&mut world);
    // Old at the first look, and back before the second one.
    wait(&mut world, KEPT);
    assert!(fence(&world, 1).is_some());
    back(&mut world);
    world.connect(NORTH, connect(NORTH, 1, 3, 1));
    world.settle();
    alone(&mut world);
    wait(&mut world, KEPT);
    let kept = fence(&world, 1).expect("it is held again");
    assert_eq!((kept.generation, kept.kind), (3, FenceKind::Connect));
    back(&mut world);
    assert!(is_stale(&mut world, 1), "also what came before it was away");
}

#[test]
fn a_clock_that_jumps_forgets_nothing_that_may_be_under_way() {
    let mut world = established(1);
    end(&mut world, NORTH, 1, true);
    alone(&mut world);
    let set = |world: &mut World, forward: bool| {
        let by = 2 * KEPT.as_millis() as i64;
        world.now.unix_ms += if forward { by } else { -by };
    };
    set(&mut world, true);
    wait(&mut world, PAUSE + Duration::from_secs(20));
    assert!(fence(&world, 1).is_some(), "only one look so far");
    // Set right again before the next one.
    set(&mut world, false);
    wait(&mut world, 3 * PAUSE);
    assert!(fence(&world, 1).is_some());
    back(&mut world);
    assert!(is_stale(&mut world, 1));
}

#[test]
fn a_look_removes_so_many_and_operators_that_are_not_configured_keep_theirs() {
    const ALL: usize = 2 * BATCH + 10;
    const STRANGER: OperatorIndex = 9;
    let mut world = established(1);
    end(&mut world, NORTH, 1, true);
    let one = fence(&world, 1).expect("it has ended").clone();
    for number in 0..ALL {
        let session = uuid::Uuid::from_u128(1_000 + number as u128);
        for operator in [NORTH, STRANGER] {
            let of = SessionRef { operator, session };
            world.journal.fences.insert(of, one.clone());
        }
    }
    world.now.unix_ms += KEPT.as_millis() as i64 + 1;
    world.crash();
    let left = |world: &World, of: OperatorIndex| {
        let fences = world.journal.fences.keys();
        fences.filter(|session| session.operator == of).count()
    };
    let mut before = left(&world, NORTH);
    assert_eq!(before, ALL + 1);
    while before > 0 {
        world.advance(PAUSE);
        let now = left(&world, NORTH);
        assert!(before - now <= BATCH, "{before} and then {now}");
        assert!(
            world.now.unix_ms < 3 * KEPT.as_millis() as i64,
            "{now} stay"
        );
        before = now;
    }
    assert_eq!(left(&world, STRANGER), ALL);
    assert_eq!(world.engine.next_deadline(), None, "nothing is left to do");
}
