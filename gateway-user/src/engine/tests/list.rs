//! Lists of some of the sessions and lines.

use super::world::*;
use crate::engine::{LineList, SessionList};

/// Two established sessions of two operators, and one that is asked for.
fn world() -> World {
    let mut world = World::connected();
    world.connect(SOUTH, connect(SOUTH, 1, 1, 1));
    world.connect(NORTH, connect(NORTH, 2, 1, 2));
    assert_eq!(world.terminals_accept(), 2);
    world.settle();
    world.now.unix_ms = 2_000;
    world.connect(NORTH, connect(NORTH, 3, 1, 3));
    world
}

#[test]
fn sessions_that_are_asked_for_in_their_order() {
    let world = world();
    let all = SessionList::default;
    let phases = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (list, expected) in [
        (all(), &[2, 3, 1][..]),
        (
            SessionList {
                operator: Some(NORTH),
                ..all()
            },
            &[2, 3],
        ),
        (
            SessionList {
                location: location(3).parse().ok(),
                ..all()
            },
            &[3],
        ),
        (
            SessionList {
                location: "110103-xinjing".parse().ok(),
                ..all()
            },
            &[2, 3, 1],
        ),
        (
            SessionList {
                phases: phases(&["established"]),
                ..all()
            },
            &[2, 1],
        ),
        (
            SessionList {
                phases: phases(&["established", "establishing"]),
                ..all()
            },
            &[2, 3, 1],
        ),
        (
            SessionList {
                since_ms: Some(2_000),
                ..all()
            },
            &[3],
        ),
        (
            SessionList {
                after: Some(session(NORTH, 2)),
                ..all()
            },
            &[3, 1],
        ),
        (
            SessionList {
                after: Some(session(NORTH, 2)),
                limit: Some(1),
                ..all()
            },
            &[3],
        ),
    ] {
        let found = world.engine.sessions(&list);
        let found: Vec<_> = found.iter().map(|view| view.connect.session).collect();
        let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
        assert_eq!(found, expected, "{list:?}");
    }
}

#[test]
fn lines_that_are_asked_for_in_their_order() {
    let world = world();
    let all = LineList::default;
    for (list, expected) in [
        (all(), &[0, 1, 2, 3][..]),
        (
            LineList {
                location: location(3).parse().ok(),
                ..all()
            },
            &[3],
        ),
        (
            LineList {
                after: location(1).parse().ok(),
                limit: Some(1),
                ..all()
            },
            &[2],
        ),
        (
            LineList {
                blocked_only: true,
                ..all()
            },
            &[],
        ),
    ] {
        let found = world.engine.lines(&list);
        let found: Vec<_> = found.iter().map(|view| view.location.to_string()).collect();
        let expected: Vec<_> = expected.iter().map(|number| location(*number)).collect();
        assert_eq!(found, expected, "{list:?}");
    }
}
