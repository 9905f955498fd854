//! Lines that are blocked by hand or by the inventory, and the sessions on them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorstep_gateway_common::{LineValue, flag};

use super::world::*;
use crate::engine::BlockRefusal;
use crate::engine::LineList;
use crate::engine::row::Blocks;
use crate::inventory::Inventory;
use crate::plan::Tables;

/// The place of the session under test, and of another one's.
const HERE: u8 = 2;
const ELSEWHERE: u8 = 3;

/// A world with a session at both places.
fn established() -> World {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, HERE));
    world.connect(NORTH, connect(NORTH, 2, 1, ELSEWHERE));
    assert_eq!(world.terminals_accept(), 2);
    world.settle();
    world.take_reports();
    world.frames.clear();
    world
}

/// Whether the rows of a session, all of them, are blocked; there must be some.
fn is_blocked(maps: &Tables, number: u8) -> bool {
    let v4 = address(NORTH, number).octets();
    let v6 = prefix(NORTH, number).addr().octets();
    let up_v4 = maps.upstream_v4.iter();
    let up_v4 = up_v4.filter(|(key, _)| key.source_be == v4);
    let up_v6 = maps.upstream_v6.iter();
    let up_v6 = up_v6.filter(|(key, _)| v6.starts_with(&key.prefix_be));
    let down_v4 = maps.downstream_v4.iter();
    let down_v4 = down_v4.filter(|(key, _)| key.destination_be == v4);
    let down_v6 = maps.downstream_v6.iter();
    let down_v6 = down_v6.filter(|(key, _)| v6.starts_with(&key.prefix_be));
    let upstream = up_v4.map(|(_, row)| row.flags);
    let upstream = upstream.chain(up_v6.map(|(_, row)| row.flags));
    let downstream = down_v4.map(|(_, row)| row.flags);
    let downstream = downstream.chain(down_v6.map(|(_, row)| row.flags));
    let flags: Vec<bool> = upstream
        .chain(downstream)
        .map(|flags| flags & flag::BLOCKED != 0)
        .collect();
    assert_eq!(flags.len(), 4, "both ways, both families");
    assert!(
        flags.iter().all(|blocked| *blocked == flags[0]),
        "{flags:?}"
    );
    flags[0]
}

fn detail(world: &World, number: u8) -> Option<String> {
    let views = world.sessions();
    let view = views
        .into_iter()
        .find(|view| view.connect.session == id(number));
    view.expect("a session").detail
}

fn blocked_lines(world: &World) -> usize {
    let lines = world.lines.values();
    lines
        .filter(|line| line.flags & LineValue::BLOCKED != 0)
        .count()
}

#[test]
fn a_blocked_line_and_its_sessions_pass_nothing_until_it_is_unblocked() {
    let mut world = established();
    for blocked in [true, false] {
        let view = world.set_blocked(HERE, blocked).expect("known");
        assert_eq!((view.blocked.is_some(), view.sessions), (blocked, 1));
        assert_eq!(blocked_lines(&world), usize::from(blocked));
        world.settle();
        assert_eq!(is_blocked(&world.maps, 1), blocked);
        assert!(!is_blocked(&world.maps, 2), "on another line");
        let expected = blocked.then(|| "the line is blocked".to_owned());
        assert_eq!(detail(&world, 1), expected);
        assert_eq!(detail(&world, 2), None);
        assert_eq!(world.engine.summary().lines_blocked, u64::from(blocked));
        // Doing it again changes nothing.
        world.lines.clear();
        let again = world.set_blocked(HERE, blocked).expect("known");
        assert_eq!(again, view);
        assert!(world.lines.is_empty() && world.orders.is_empty());
    }
    assert!(world.take_reports().is_empty(), "no server's business");
    assert!(world.frames.is_empty(), "nor the terminal's");
}

#[test]
fn it_stays_so_over_a_crash() {
    let mut world = established();
    world.set_blocked(HERE, true).expect("known");
    // The fast path has not got to it.
    assert!(!is_blocked(&world.maps, 1));
    world.crash();
    assert!(is_blocked(&world.maps, 1));
    assert!(!is_blocked(&world.maps, 2));
    let rows = world.inventory.map_rows(&world.journal.blocks);
    let blocked = rows
        .iter()
        .filter(|(_, row)| row.flags & LineValue::BLOCKED != 0);
    assert_eq!(blocked.count(), 1);
    world.set_blocked(HERE, false).expect("known");
    world.crash();
    assert!(!is_blocked(&world.maps, 1));
    assert_eq!(world.journal.blocks, Blocks::new());
}

#[test]
fn a_session_that_is_being_opened_or_changed_is_blocked_afterwards() {
    let mut world = World::connected();
    world.connect(NORTH, connect(NORTH, 1, 1, HERE));
    assert_eq!(world.terminals_accept(), 1);
    world.set_blocked(HERE, true).expect("known");
    world.settle();
    assert!(is_blocked(&world.maps, 1));

    world.set_blocked(HERE, false).expect("known");
    world.change_service(NORTH, 1, 1, 3);
    world.set_blocked(HERE, true).expect("known");
    world.settle();
    assert!(is_blocked(&world.maps, 1));
    assert_eq!(world.service_of(session(NORTH, 1)), Some(service(3)));
}

#[test]
fn what_the_fast_path_refuses_is_tried_again() {
    let mut world = established();
    world.failures = 1;
    world.set_blocked(HERE, true).expect("known");
    world.settle();
    assert!(!is_blocked(&world.maps, 1));
    world.advance(Duration::from_secs(5));
    world.settle();
    assert!(is_blocked(&world.maps, 1));
    assert!(world.take_reports().is_empty(), "no server's business");
}

#[test]
fn a_session_that_begins_waits_until_the_line_is_unblocked() {
    let mut world = World::connected();
    world.set_blocked(HERE, true).expect("known");
    world.connect(NORTH, connect(NORTH, 1, 1, HERE));
    world.advance(Duration::from_secs(60));
    world.crash();
    world.advance(Duration::from_secs(60));
    assert!(world.frames.is_empty(), "the terminal is asked");
    assert_eq!(detail(&world, 1).as_deref(), Some("the line is blocked"));
    world.set_blocked(HERE, false).expect("known");
    world.advance(Duration::ZERO);
    assert_eq!(world.terminals_accept(), 1);
    world.settle();
    assert!(!is_blocked(&world.maps, 1));
    assert_eq!(detail(&world, 1), None);
}

#[test]
fn the_inventory_blocks_too() {
    let mut world = established();
    let text: String = INVENTORY
        .lines()
        .zip(["blocked", "", "", "yes", "no"])
        .map(|(line, blocked)| format!("{line},{blocked}\n"))
        .collect();
    let inventory = Inventory::parse(Path::new("inventory.csv"), &text, ports);
    world.inventory = Arc::new(inventory.expect("valid"));
    world.crash();
    assert!(is_blocked(&world.maps, 1));
    assert!(!is_blocked(&world.maps, 2));
    let here = location(HERE).parse().expect("a location");
    assert_eq!(
        world.set_blocked(HERE, false),
        Err(BlockRefusal::ByInventory(here))
    );
    // By hand as well, and then no more: the inventory still says so.
    world.set_blocked(HERE, true).expect("known");
    let view = world.set_blocked(HERE, false).expect("known");
    assert!(view.blocked_by_inventory && view.blocked.is_none());
    world.settle();
    assert!(is_blocked(&world.maps, 1));
    let lines = world.engine.lines(&LineList::default());
    let blocked = lines.iter().filter(|line| line.blocked_by_inventory);
    assert_eq!((lines.len(), blocked.count()), (4, 1));
    assert_eq!(world.engine.summary().lines_blocked, 1);
}

#[test]
fn only_what_is_known_is_blocked() {
    let mut world = World::connected();
    let nowhere = location(9).parse().expect("a location");
    let refusal = world.set_blocked(9, true).expect_err("unknown");
    assert_eq!(refusal, BlockRefusal::Unknown(nowhere));
    assert_eq!(world.journal.blocks, Blocks::new());
}
