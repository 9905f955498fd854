//! Routers that are told to renew when their session ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use doorstep_establish::Mac;

use super::world::*;
use crate::engine::Event;

const PLACE: u8 = 2;
/// Says that the router takes what a nonce signs (RFC 6704, 4.1).
const CAPABLE: &[u8] = &[145, 1, 1];

fn own() -> Ipv4Addr {
    address(NORTH, 1)
}

/// A world with a session that a router holds, which said this of itself.
fn held_by(router: Mac, said: &[u8]) -> World {
    let mut world = World::connected();
    world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
    says(&mut world, router, said);
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())]);
    world.advance(Duration::from_secs(2));
    world.settle();
    world
}

fn says(world: &mut World, router: Mac, said: &[u8]) {
    let ask = Ask::Select {
        address: own(),
        server: Ipv4Addr::new(100, 64, 1, 1),
    };
    world.frames.clear();
    world.feed(Event::Frame {
        line: line(PLACE),
        frame: frame_with(router, ask, said),
    });
}

/// What is told when the session ends, before and after the fast path is closed.
fn end(world: &mut World) -> (Vec<Told>, Vec<Told>) {
    world.frames.clear();
    world.disconnect(NORTH, 1, 2);
    let before = world.told();
    world.settle();
    (before, world.told())
}

#[test]
fn who_can_be_told_renews_once_nothing_flows_and_is_refused() {
    let mut world = held_by(ROUTER, CAPABLE);
    let (before, after) = end(&mut world);
    assert_eq!(before, []);
    assert_eq!(after, [Told::Forcerenew]);
    assert_eq!(world.asked(PLACE, ROUTER, Ask::Renew(own())), [Told::Nak]);
}

#[test]
fn a_session_that_is_set_up_anew_has_its_router_renew() {
    let mut world = held_by(ROUTER, CAPABLE);
    world.frames.clear();
    world.connect(NORTH, by_dhcp(NORTH, 1, 3, PLACE));
    world.settle();
    assert_eq!(world.told(), [Told::Forcerenew]);
    world.ask(PLACE, ROUTER, Ask::Renew(own()));
    world.settle();
    assert_eq!(world.told(), [Told::Ack(own())]);
}

#[test]
fn nobody_else_is_told() {
    let mut silent = held_by(ROUTER, &[]);
    assert_eq!(end(&mut silent).1, [], "it said nothing of it");

    let mut replaced = held_by(ROUTER, CAPABLE);
    says(&mut replaced, OTHER_ROUTER, &[]);
    replaced.settle();
    assert_eq!(replaced.told(), [Told::Ack(own())]);
    assert_eq!(end(&mut replaced).1, [], "the one that has it now did not");

    let mut given_back = held_by(ROUTER, CAPABLE);
    let release = Ask::Release {
        address: own(),
        server: Ipv4Addr::new(100, 64, 1, 1),
    };
    assert_eq!(given_back.asked(PLACE, ROUTER, release), []);
    assert_eq!(end(&mut given_back).1, [], "it has nothing any more");
}

#[test]
fn after_a_start_of_the_daemon_a_router_says_it_again_when_it_renews() {
    let mut world = held_by(ROUTER, CAPABLE);
    world.crash();
    assert_eq!(end(&mut world).1, []);

    let mut world = held_by(ROUTER, CAPABLE);
    world.crash();
    says(&mut world, ROUTER, CAPABLE);
    assert_eq!(world.told(), [Told::Ack(own())]);
    assert_eq!(end(&mut world).1, [Told::Forcerenew]);
}
