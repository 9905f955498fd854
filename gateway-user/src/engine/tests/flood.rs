//! While Connects come faster than in everyday life.

use std::time::Duration;

use super::world::*;
use crate::engine::message::Report;

/// As if a thousand more sessions had just been recorded.
fn flood(world: &mut World) {
    for _ in 0..1000 {
        world.engine.flood.note(world.now.at);
    }
}

#[test]
fn a_terminal_is_asked_at_once_without_a_flood() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 0, 1, 0));
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_terminal_is_asked_when_the_flood_is_over() {
    let mut world = World::connected();
    flood(&mut world);
    world.connect(NORTH, connect(NORTH, 0, 1, 0));
    let reports = world.take_reports();
    assert!(matches!(reports[..], [Report::Ack { .. }]), "{reports:?}");
    assert!(world.said().is_empty(), "it waits");
    let due = world.engine.next_deadline().expect("it is to be asked");
    assert!(due > world.now.at, "nothing is to be done before");
    world.advance(due - world.now.at);
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_terminal_is_asked_though_the_flood_goes_on() {
    const STEP: Duration = Duration::from_millis(10);
    let mut world = World::connected();
    flood(&mut world);
    world.connect(NORTH, connect(NORTH, 0, 1, 0));
    let start = world.now.at;
    while world.said().is_empty() {
        flood(&mut world);
        world.advance(STEP);
        assert!(world.now.at - start <= Duration::from_secs(1));
    }
    assert_eq!(world.now.at - start, Duration::from_secs(1));
}
