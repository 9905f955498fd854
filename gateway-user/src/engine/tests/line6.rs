//! IPv6 of sessions that come up by DHCP.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::world::*;
use crate::engine::message::Connect;

const PLACE: u8 = 2;
const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const RENEW: u8 = 5;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
/// Three intervals of a third of the lease, and no longer than it.
const LIFETIME_S: u16 = LEASE_S as u16;

fn router(to_all: bool, lifetime_s: u16) -> Told6 {
    Told6::Router { to_all, lifetime_s }
}

/// A world with a session that a router holds, and that has been told of.
fn held() -> World {
    let mut world = World::connected();
    world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
    let ask = Ask::Select {
        address: address(NORTH, 1),
        server: Ipv4Addr::new(100, 64, 1, 1),
    };
    world.ask(PLACE, ROUTER, ask);
    world.settle();
    assert_eq!(world.told6(), [router(true, LIFETIME_S)], "once it flows");
    world.advance(Duration::from_secs(1));
    world.frames.clear();
    world
}

fn asked(world: &mut World, mac: doorstep_establish::Mac, ask: Ask6) -> Vec<Told6> {
    world.frames.clear();
    world.ask6(PLACE, mac, &ask);
    world.told6()
}

#[test]
fn the_line_is_told_again_and_again_and_who_asks_at_once() {
    let mut world = held();
    let told = asked(&mut world, ROUTER, Ask6::Solicit);
    assert_eq!(told, [router(false, LIFETIME_S)]);
    world.advance(Duration::from_secs(16));
    world.advance(Duration::from_secs(16));
    assert_eq!(world.told6(), [router(true, LIFETIME_S); 2]);
    world.advance(Duration::from_secs(600));
    assert_eq!(world.told6(), [router(true, LIFETIME_S)]);
}

#[test]
fn only_who_has_the_session_is_told_anything() {
    let mut world = World::connected();
    assert_eq!(asked(&mut world, ROUTER, Ask6::Solicit), []);
    world.connect(NORTH, by_dhcp(NORTH, 1, 1, PLACE));
    let mut before = world;
    assert_eq!(asked(&mut before, ROUTER, Ask6::Solicit), []);
    assert_eq!(asked(&mut before, ROUTER, Ask6::Prefix(SOLICIT, None)), []);

    let mut world = held();
    assert_eq!(asked(&mut world, OTHER_ROUTER, Ask6::Solicit), []);
    let told = asked(&mut world, OTHER_ROUTER, Ask6::Prefix(SOLICIT, None));
    assert_eq!(told, []);

    // A session without IPv6, and a terminal's.
    let without = Connect {
        ipv6: None,
        ipv6_line: None,
        ..by_dhcp(NORTH, 1, 1, PLACE)
    };
    for connect in [without, connect(NORTH, 1, 1, PLACE)] {
        let mut world = World::connected();
        world.connect(NORTH, connect);
        world.terminals_accept();
        world.settle();
        assert_eq!(asked(&mut world, ROUTER, Ask6::Solicit), []);
    }
}

#[test]
fn the_delegated_prefix_is_the_sessions_and_outlives_the_daemon() {
    let mut world = held();
    let own = Some(prefix(NORTH, 1));
    let told = asked(&mut world, ROUTER, Ask6::Prefix(SOLICIT, None));
    assert_eq!(told, [Told6::Prefix(ADVERTISE, own)]);
    let told = asked(&mut world, ROUTER, Ask6::Prefix(REQUEST, own));
    assert_eq!(told, [Told6::Prefix(REPLY, own)]);
    world.crash();
    assert_eq!(world.told6(), [], "not before something is to be done");
    world.advance(Duration::ZERO);
    let told = asked(&mut world, ROUTER, Ask6::Prefix(RENEW, own));
    assert_eq!(told, [Told6::Prefix(REPLY, own)]);
    let foreign = Some(prefix(NORTH, 5));
    let told = asked(&mut world, ROUTER, Ask6::Prefix(RENEW, foreign));
    assert!(!told.contains(&Told6::Prefix(REPLY, foreign)), "{told:?}");
    let told = asked(&mut world, ROUTER, Ask6::Prefix(RELEASE, own));
    assert_eq!(told, [Told6::Prefix(REPLY, None)]);
}

#[test]
fn the_line_is_told_of_the_end() {
    let mut world = held();
    let own = Some(prefix(NORTH, 1));
    world.disconnect(NORTH, 1, 2);
    world.settle();
    assert_eq!(world.told6(), [router(true, 0)]);
    world.advance(Duration::from_secs(600));
    assert_eq!(world.told6(), []);
    let told = asked(&mut world, ROUTER, Ask6::Prefix(RENEW, own));
    assert_eq!(told, [Told6::Prefix(REPLY, None)], "it is no more");
}

#[test]
fn another_router_is_told_anew() {
    let mut world = held();
    let ask = Ask::Select {
        address: address(NORTH, 1),
        server: Ipv4Addr::new(100, 64, 1, 1),
    };
    world.ask(PLACE, OTHER_ROUTER, ask);
    world.settle();
    world.advance(Duration::from_secs(3));
    assert_eq!(world.told6(), [router(true, LIFETIME_S)]);
    assert_eq!(asked(&mut world, ROUTER, Ask6::Solicit), []);
    let told = asked(&mut world, OTHER_ROUTER, Ask6::Solicit);
    assert_eq!(told, [router(false, LIFETIME_S)]);
}
