//! Services: taken, acknowledged when they are in force, fenced by generation and revision.

use std::collections::HashSet;
use std::time::Duration;

use super::world::*;
use crate::engine::message::{Connect, Held, HeldPhase, RefusalReason, Report};
use crate::engine::{Action, Event};
use crate::plan::{Rates, Tables};
use crate::session::Service;

fn ack(generation: u64, revision: u64) -> Report {
    Report::Ack {
        session: id(1),
        generation,
        revision,
    }
}

fn connected(revision: u64) -> World {
    let mut world = World::connected();
    world.connect(NORTH, served(connect(NORTH, 1, 1, 2), revision));
    assert_eq!(world.take_reports(), [ack(1, revision)]);
    world
}

/// A world with a session that flows with the service of revision 3.
fn established() -> World {
    let mut world = connected(3);
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    world.take_reports();
    world.frames.clear();
    world
}

fn service_now(world: &World) -> Option<Service> {
    world.service_of(session(NORTH, 1))
}

fn hello(world: &mut World) -> Vec<Held> {
    world.feed(Event::StreamDown { operator: NORTH });
    world.feed(Event::StreamUp { operator: NORTH });
    let mut reports = world.take_reports();
    match reports.remove(0) {
        Report::Hello { held } => held,
        other => panic!("a Hello first, not {other:?}"),
    }
}

#[test]
fn a_session_is_opened_with_its_service() {
    let world = established();
    assert_eq!(service_now(&world), Some(service(3)));
    assert_eq!(world.sessions()[0].connect.service, service(3));
}

#[test]
fn an_open_session_changes_and_is_acknowledged_once_the_fast_path_has_it() {
    let mut world = established();
    let (maps, before) = (world.maps.clone(), world.sessions());
    world.change_service(NORTH, 1, 1, 4);
    assert!(world.take_reports().is_empty(), "not in force yet");
    let row = &world.journal.sessions[&session(NORTH, 1)];
    assert_eq!(row.connect.service_revision, 4, "durable before it acts");
    world.settle();
    assert_eq!(world.take_reports(), [ack(1, 4)]);
    assert_eq!(service_now(&world), Some(service(4)));

    let after = world.sessions();
    assert_eq!(after[0].steps, before[0].steps, "no step of its life");
    assert_eq!(after[0].phase, "established");
    let keys = |maps: &Tables| {
        let up: HashSet<_> = maps.upstream_v4.keys().copied().collect();
        let down: HashSet<_> = maps.downstream_v4.keys().copied().collect();
        (up, down)
    };
    assert_eq!(keys(&world.maps), keys(&maps), "the rows stay");
    let slot = world.journal.sessions[&session(NORTH, 1)].slot;
    assert_eq!(world.maps.rates[&slot], Rates::of(&service(4), true));
    assert!(world.said().is_empty(), "the terminal is not told");

    world.change_service(NORTH, 1, 1, 4);
    assert_eq!(world.take_reports(), [ack(1, 4)], "again");
    assert!(world.orders.is_empty());
}

#[test]
fn before_it_is_open_a_session_takes_its_newest_service_at_once() {
    let mut world = connected(3);
    world.change_service(NORTH, 1, 1, 4);
    assert_eq!(world.take_reports(), [ack(1, 4)]);
    world.terminals_accept();
    // The entry is on its way to the fast path.
    world.change_service(NORTH, 1, 1, 5);
    assert!(world.take_reports().is_empty());
    world.settle();
    let reports = world.take_reports();
    assert!(
        matches!(&reports[..], [Report::Established { .. }, last] if *last == ack(1, 5)),
        "{reports:?}"
    );
    assert_eq!(service_now(&world), Some(service(5)));
}

#[test]
fn changes_that_follow_each_other_fast_are_made_as_one() {
    let mut world = established();
    for revision in 4..9 {
        world.change_service(NORTH, 1, 1, revision);
    }
    world.settle();
    assert_eq!(world.take_reports(), [ack(1, 8)]);
    assert_eq!(service_now(&world), Some(service(8)));
}

#[test]
fn a_connect_that_waits_for_a_close_takes_its_service_along() {
    let mut world = established();
    world.connect(NORTH, served(connect(NORTH, 1, 2, 3), 4));
    world.change_service(NORTH, 1, 2, 5);
    assert_eq!(world.take_reports(), [ack(2, 4), ack(2, 5)]);
    world.settle();
    world.terminals_accept();
    world.settle();
    assert_eq!(service_now(&world), Some(service(5)));
}

/// Each row: generation, revision, service, reason, and what is said.
#[test]
fn changes_that_are_refused() {
    let mut world = established();
    world.change_service(NORTH, 1, 1, 4);
    world.settle();
    world.take_reports();
    let wrong = |change: fn(&mut Service)| {
        let mut service = service(9);
        change(&mut service);
        service
    };
    #[rustfmt::skip]
    let rows = [
        (1, 1, 3, service(3), RefusalReason::StaleGeneration, "service revision 4 has been seen"),
        (1, 1, 4, service(9), RefusalReason::Malformed, "service revision 4 is held with other values"),
        (1, 0, 9, service(9), RefusalReason::StaleGeneration, "generation 1 is held"),
        (1, 2, 9, service(9), RefusalReason::NotHeld, "only generation 1 is held"),
        (2, 1, 9, service(9), RefusalReason::NotHeld, ""),
        (1, 1, 9, wrong(|s| s.priority = 8), RefusalReason::Malformed, "service.priority: 8 is beyond 7"),
        (1, 1, 9, wrong(|s| s.upstream_bps = 63_999), RefusalReason::Malformed, "service.upstream_bps: 63999"),
        (1, 1, 9, wrong(|s| s.downstream_bps = 1), RefusalReason::Malformed, "nor in 64000..=1000000000000"),
        (1, 1, 9, wrong(|s| s.downstream_bps = u64::MAX), RefusalReason::Malformed, "service.downstream_bps: 18446744073709551615"),
    ];
    let sessions = world.journal.sessions.clone();
    for (number, generation, revision, service, reason, expected) in rows {
        let change = crate::engine::message::ChangeService {
            session: id(number),
            generation,
            revision,
            service,
        };
        let instruction = crate::engine::message::Instruction::ChangeService(change);
        world.instruct(NORTH, instruction);
        let refusals = world.refusals();
        let [refusal] = &refusals[..] else {
            panic!("{expected}: one refusal, not {refusals:?}");
        };
        assert_eq!(refusal.reason, reason, "{expected}");
        assert_eq!(
            (refusal.generation, refusal.revision),
            (generation, revision)
        );
        assert!(refusal.detail.contains(expected), "{}", refusal.detail);
    }
    assert_eq!(world.journal.sessions, sessions, "nothing was disturbed");
    assert_eq!(service_now(&world), Some(service(4)));
    // The other operator's session of the same id is another one.
    world.change_service(SOUTH, 1, 1, 9);
    assert_eq!(world.refusals()[0].reason, RefusalReason::NotHeld);
}

/// The bounds themselves are good.
#[test]
fn the_slowest_and_the_fastest_service() {
    let mut world = established();
    for (revision, bps) in [(4, 64_000), (5, 1_000_000_000_000), (6, 0)] {
        let service = Service {
            upstream_bps: bps,
            downstream_bps: bps,
            ..Service::default()
        };
        let mut connect = served(connect(NORTH, 1, 1, 2), revision);
        connect.service = service;
        world.connect(NORTH, connect);
        assert_eq!(world.refusals(), []);
        let orders: Vec<_> = world.orders.drain(..).collect();
        let [Action::Change { session, entry }] = &orders[..] else {
            panic!("{bps}: a change, not {orders:?}");
        };
        assert_eq!(entry.service, service);
        world.feed(Event::Changed {
            session: *session,
            generation: 1,
            result: Err("not this time".into()),
        });
        world.take_reports();
    }
}

#[test]
fn of_two_connects_of_one_generation_the_newer_revision_counts() {
    let mut world = established();
    let again = |revision| served(connect(NORTH, 1, 1, 2), revision);
    world.connect(NORTH, again(4));
    let reports = world.take_reports();
    assert!(
        matches!(&reports[..], [first, Report::Established { .. }] if *first == ack(1, 3)),
        "held, and not in force yet: {reports:?}"
    );
    world.settle();
    assert_eq!(world.take_reports(), [ack(1, 4)]);
    world.connect(NORTH, again(2));
    assert_eq!(world.take_reports()[0], ack(1, 4), "an older one is late");
    assert_eq!(service_now(&world), Some(service(4)));
    let mut other = again(4);
    other.service.priority = 0;
    world.connect(NORTH, other);
    let refusals = world.refusals();
    assert!(
        refusals[0]
            .detail
            .contains("service revision 4 is held with other values")
    );
    // Anything else still needs a newer generation.
    let mut other = again(5);
    other.dns.clear();
    world.connect(NORTH, other);
    let refusals = world.refusals();
    assert!(refusals[0].detail.contains("held with other values"));
    assert_eq!(service_now(&world), Some(service(4)));
}

#[test]
fn a_change_that_fails_is_told_shown_and_tried_again() {
    let mut world = established();
    world.failures = 3;
    world.change_service(NORTH, 1, 1, 4);
    for _ in 0..3 {
        world.settle();
        let refusals = world.refusals();
        assert_eq!(refusals.len(), 1);
        assert_eq!(refusals[0].reason, RefusalReason::Dataplane);
        assert_eq!(refusals[0].revision, 4);
        let detail = world.sessions()[0].detail.clone();
        let expected = "cannot change the service: no space; trying again";
        assert_eq!(detail.as_deref(), Some(expected));
        assert_eq!(service_now(&world), Some(service(3)));
        // Until it is in force it is not acknowledged, whoever asks.
        world.change_service(NORTH, 1, 1, 4);
        assert!(world.take_reports().is_empty());
        assert_eq!(hello(&mut world)[0].revision, 3);
        world.advance(Duration::from_secs(5));
    }
    world.settle();
    assert_eq!(world.take_reports(), [ack(1, 4)]);
    assert_eq!(world.sessions()[0].detail, None);
    assert_eq!(service_now(&world), Some(service(4)));
}

#[test]
fn a_newer_change_does_not_wait_for_the_failed_one() {
    let mut world = established();
    world.failures = 1;
    world.change_service(NORTH, 1, 1, 4);
    world.settle();
    world.change_service(NORTH, 1, 1, 5);
    world.settle();
    assert_eq!(service_now(&world), Some(service(5)));
    world.advance(Duration::from_secs(5));
    assert!(world.orders.is_empty(), "nothing is left to try");
}

#[test]
fn a_session_that_ends_while_it_changes_ends() {
    for fails in [false, true] {
        let mut world = established();
        world.failures = u32::from(fails);
        world.change_service(NORTH, 1, 1, 4);
        world.disconnect(NORTH, 1, 2);
        assert_eq!(world.take_reports(), [ack(2, 0)]);
        world.settle();
        let reports = world.take_reports();
        assert!(matches!(reports[..], [Report::Receipt(_)]), "{reports:?}");
        assert_eq!(world.sessions(), []);
    }
}

#[test]
fn after_a_crash_the_recorded_service_is_in_force() {
    let mut world = established();
    world.change_service(NORTH, 1, 1, 4);
    world.crash();
    assert_eq!(service_now(&world), Some(service(4)));
    world.feed(Event::StreamUp { operator: NORTH });
    let reports = world.take_reports();
    let held = Held {
        session: id(1),
        generation: 1,
        phase: HeldPhase::Established,
        revision: 4,
    };
    assert_eq!(reports[0], Report::Hello { held: vec![held] });
    world.change_service(NORTH, 1, 1, 4);
    assert_eq!(world.take_reports(), [ack(1, 4)]);
    assert!(world.orders.is_empty());
}

/// A Connect as an older server sends it stands for no limits.
#[test]
fn a_connect_without_a_service_is_unlimited() {
    let mut world = World::connected();
    let plain: Connect = connect(NORTH, 1, 1, 2);
    world.connect(NORTH, plain);
    world.terminals_accept();
    world.settle();
    assert_eq!(service_now(&world), Some(Service::default()));
}
