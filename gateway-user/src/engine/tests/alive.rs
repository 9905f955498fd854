//! Whom the fast path answers that asks whether its session is alive.

use doorstep_establish::{Message, ProbeKey};
use doorstep_gateway_common::{LineKey, Slot};

use super::world::*;
use crate::engine::row::Phase;

/// Slot, line and key as the journal's only session has them.
fn of_journal(world: &World) -> (Slot, (LineKey, ProbeKey)) {
    let (session, row) = world.journal.sessions.iter().next().expect("a session");
    assert!(
        matches!(row.phase, Phase::Established(_)),
        "{:?}",
        row.phase
    );
    let connect = &row.connect;
    let key = ProbeKey::derive(&connect.key, session.session, connect.generation, row.nonce);
    (row.slot, (LINE, key))
}

/// Of place 2.
const LINE: LineKey = LineKey {
    ifindex: 7,
    s_vid: 101,
    c_vid: 1002,
};

#[test]
fn the_terminal_of_an_open_session_may_ask_before_it_is_told_so() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    assert_eq!(world.terminals_accept(), 1);
    assert!(world.expected.is_empty(), "nothing flows yet");
    world.settle();
    let (slot, expected) = of_journal(&world);
    assert_eq!(world.expected.get(&slot), Some(&expected));
    assert_eq!(world.said(), [Message::Confirm { slot: Some(slot) }]);
}

#[test]
fn a_daemon_that_starts_again_says_the_same() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    world.terminals_accept();
    world.settle();
    let before = std::mem::take(&mut world.expected);
    world.crash();
    assert_eq!(world.expected, before);
    assert!(world.said().is_empty(), "the terminal is left alone");
}

#[test]
fn another_generation_has_another_key() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, 2));
    world.terminals_accept();
    world.settle();
    let (_, (_, first)) = of_journal(&world);
    world.connect(NORTH, connect(NORTH, 1, 2, 2));
    world.settle();
    world.terminals_accept();
    world.settle();
    let (slot, expected) = of_journal(&world);
    assert_ne!(expected.1, first);
    assert_eq!(world.expected.get(&slot), Some(&expected));
}
