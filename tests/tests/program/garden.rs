//! A line without a session reaches its operator's server, and the server it; nobody else.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_gateway_common::{Direction, Reason};
use doorstep_tests::frames::{
    Ether, GATEWAY_MAC, GATEWAY_V4, HOME_MAC, NEXT_HOP_MAC, WORLD_V4, WORLD_V6, arp_request,
    between, echo_v4, tags, udp_v6_to,
};
use doorstep_tests::programs::{Fate, Loaded, Side, XDP_DROP, XDP_REDIRECT, XDP_TX, model};
use doorstep_tests::suite::CaseResult;

use crate::fixture::{self, FROM_WORLD, GARDEN_HOME, SERVER_PORT, SERVER_V4, SERVER_V6};

const OWN_PORT: u16 = 40_000;
const TCP: bool = true;
const UDP: bool = false;

fn v4(address: [u8; 4], port: u16) -> SocketAddr {
    (address, port).into()
}

fn v6(address: [u8; 16], port: u16) -> SocketAddr {
    (address, port).into()
}

/// A packet of the home's to that address.
fn up(tcp: bool, to: SocketAddr) -> Vec<u8> {
    let own = match to {
        SocketAddr::V4(_) => v4(GARDEN_HOME.v4, OWN_PORT),
        SocketAddr::V6(_) => v6(GARDEN_HOME.v6, OWN_PORT),
    };
    between(GARDEN_HOME.up(), tcp, own, to)
}

/// A packet to the home from that address.
fn down(tcp: bool, from: SocketAddr) -> Vec<u8> {
    let own = match from {
        SocketAddr::V4(_) => v4(GARDEN_HOME.v4, OWN_PORT),
        SocketAddr::V6(_) => v6(GARDEN_HOME.v6, OWN_PORT),
    };
    between(FROM_WORLD, tcp, from, own)
}

/// Where the IP header of a frame begins.
fn network(frame: &[u8]) -> usize {
    14 + 4 * tags(frame).len()
}

/// The same IPv4 packet with its fragment field set.
fn fragment(mut frame: Vec<u8>, field: u16) -> Vec<u8> {
    let at = network(&frame) + 6;
    frame[at..at + 2].copy_from_slice(&field.to_be_bytes());
    frame
}

/// The same IPv6 packet with another next header.
fn next_header(mut frame: Vec<u8>, next: u8) -> Vec<u8> {
    let at = network(&frame) + 6;
    frame[at] = next;
    frame
}

/// Runs a frame, checks its reason, and that the host's model agrees.
fn run(loaded: &mut Loaded, side: Side, bytes: &[u8], reason: Reason) -> anyhow::Result<Fate> {
    let before = loaded.count(reason)?;
    let fate = loaded.run(side, bytes)?;
    let (expected, _, said) = model(&fixture::model_with_garden(), side, bytes);
    ensure!(said == reason, "the model says {}", said.name());
    ensure!(
        loaded.count(reason)? == before + 1,
        "not counted as {}",
        reason.name()
    );
    ensure!(fate == expected, "{fate:?}, not {expected:?}");
    Ok(fate)
}

fn all_dropped(side: Side, rows: &[(&'static str, Vec<u8>, Reason)]) -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model_with_garden())?;
    for (name, bytes, reason) in rows {
        let fate = run(&mut loaded, side, bytes, *reason).context(*name)?;
        ensure!(fate.action == XDP_DROP, "{name}: {}", fate.action);
    }
    let direction = match side {
        Side::Access => Direction::Upstream,
        Side::Uplink => Direction::Downstream,
    };
    let tally = loaded.tally(GARDEN_HOME.slot, direction)?;
    ensure!(tally.packets == 0, "what was dropped counts: {tally:?}");
    Ok(())
}

pub fn servers_are_reached() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model_with_garden())?;
    for server in [v4(SERVER_V4, SERVER_PORT), v6(SERVER_V6, SERVER_PORT)] {
        let bytes = up(TCP, server);
        let fate = run(&mut loaded, Side::Access, &bytes, Reason::ForwardedUpstream)?;
        ensure!(fate.action == XDP_REDIRECT && tags(&fate.frame).is_empty());
        ensure!(fate.frame[..6] == NEXT_HOP_MAC);
        let bytes = down(TCP, server);
        let fate = run(
            &mut loaded,
            Side::Uplink,
            &bytes,
            Reason::ForwardedDownstream,
        )?;
        ensure!(fate.action == XDP_REDIRECT && tags(&fate.frame) == GARDEN_HOME.tags);
        ensure!(fate.frame[..6] == HOME_MAC && fate.frame[6..12] == GATEWAY_MAC);
    }
    for direction in [Direction::Upstream, Direction::Downstream] {
        let tally = loaded.tally(GARDEN_HOME.slot, direction)?;
        ensure!(tally.packets == 2, "{direction:?}: {tally:?}");
    }
    // It finds its way by ARP too.
    let everyone = Ether {
        destination: [0xff; 6],
        ..GARDEN_HOME.up()
    };
    let request = arp_request(everyone, GARDEN_HOME.v4, SERVER_V4);
    let fate = run(&mut loaded, Side::Access, &request, Reason::ArpAnswered)?;
    ensure!(fate.action == XDP_TX);
    Ok(())
}

pub fn nothing_else_is_reached() -> CaseResult {
    let [_, neighbour, _] = fixture::homes();
    let server = v4(SERVER_V4, SERVER_PORT);
    let outside = Reason::OutsideGarden;
    let from = |mac, source| {
        let ether = Ether {
            source: mac,
            ..GARDEN_HOME.up()
        };
        between(ether, TCP, source, server)
    };
    let mut other_lease = GARDEN_HOME.v6;
    other_lease[7] += 1;
    let mut aligned = GARDEN_HOME.v6;
    aligned[7] = 0;
    let v6_server = v6(SERVER_V6, SERVER_PORT);
    let from_v6 = |source| between(GARDEN_HOME.up(), TCP, v6(source, OWN_PORT), v6_server);
    let good = up(TCP, server);
    let start = network(&good);
    let mut cut = good[..start + 22].to_vec();
    // The header says so too.
    let at = start + 2;
    cut[at..at + 2].copy_from_slice(&22u16.to_be_bytes());
    #[rustfmt::skip]
    let rows = [
        ("another port", up(TCP, v4(SERVER_V4, 22)), outside),
        ("another protocol", up(UDP, server), outside),
        ("another address", up(TCP, v4(WORLD_V4, SERVER_PORT)), outside),
        ("IPv6, another port", up(TCP, v6(SERVER_V6, 22)), outside),
        ("IPv6, another address", up(TCP, v6(WORLD_V6, SERVER_PORT)), outside),
        ("a neighbour", up(TCP, v4(neighbour.v4, SERVER_PORT)), outside),
        ("the gateway", up(TCP, v4(GATEWAY_V4, SERVER_PORT)), outside),
        ("an echo request", echo_v4(GARDEN_HOME.up(), GARDEN_HOME.v4, SERVER_V4, 8), outside),
        ("an echo request for the gateway", echo_v4(GARDEN_HOME.up(), GARDEN_HOME.v4, GATEWAY_V4, 8), outside),
        ("the first fragment", fragment(up(TCP, server), 0x2000), outside),
        ("a later fragment", fragment(up(TCP, server), 0x0007), outside),
        ("an IPv6 fragment", next_header(up(TCP, v6_server), 44), outside),
        ("an extension header", next_header(up(TCP, v6_server), 0), outside),
        ("cut within the ports", cut, outside),
        ("multicast", up(UDP, v4([224, 0, 0, 5], SERVER_PORT)), Reason::Multicast),
        ("another source", from(HOME_MAC, v4([100, 127, 0, 10], OWN_PORT)), Reason::SourceNotBound),
        ("a neighbour's source", from(HOME_MAC, v4(neighbour.v4, OWN_PORT)), Reason::SourceNotBound),
        ("another lease's prefix", from_v6(other_lease), Reason::SourceNotBound),
        ("the prefix that all leases lie in", from_v6(aligned), Reason::SourceNotBound),
        ("another station's frame", from([2, 0, 0, 0, 0, 0x66], v4(GARDEN_HOME.v4, OWN_PORT)), Reason::MacNotBound),
    ];
    all_dropped(Side::Access, &rows)?;
    // Its address is worth nothing on another line.
    let elsewhere = between(neighbour.up(), TCP, v4(GARDEN_HOME.v4, OWN_PORT), server);
    all_dropped(
        Side::Access,
        &[("on another line", elsewhere, Reason::SourceNotBound)],
    )
}

pub fn only_servers_answer() -> CaseResult {
    let server = v4(SERVER_V4, SERVER_PORT);
    let v6_server = v6(SERVER_V6, SERVER_PORT);
    let outside = Reason::OutsideGarden;
    #[rustfmt::skip]
    let rows = [
        ("another port", down(TCP, v4(SERVER_V4, 22)), outside),
        ("another protocol", down(UDP, server), outside),
        ("another address", down(TCP, v4(WORLD_V4, SERVER_PORT)), outside),
        ("IPv6, another port", down(TCP, v6(SERVER_V6, 22)), outside),
        ("IPv6, another address", down(TCP, v6(WORLD_V6, SERVER_PORT)), outside),
        ("an echo request", echo_v4(FROM_WORLD, SERVER_V4, GARDEN_HOME.v4, 8), outside),
        ("the first fragment", fragment(down(TCP, server), 0x2000), outside),
        ("a later fragment", fragment(down(TCP, server), 0x0007), outside),
        ("an IPv6 fragment", next_header(down(TCP, v6_server), 44), outside),
        ("the home's own address", down(TCP, v4(GARDEN_HOME.v4, SERVER_PORT)), Reason::BadSource),
    ];
    all_dropped(Side::Uplink, &rows)
}

/// A terminal that knows no gateway yet asks all routers; whatever else is for all is dropped.
pub fn asked_for_by_multicast() -> CaseResult {
    const PORT: u16 = 52_525;
    const OWN: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
    let group = |last| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xff, 2]);
        address[15] = last;
        address
    };
    let ether = |last| Ether {
        destination: [0x33, 0x33, 0, 0, 0, last],
        ..GARDEN_HOME.up()
    };
    let mut loaded = Loaded::new(&fixture::model_with_garden())?;
    let ask = udp_v6_to(ether(2), OWN, group(2), 255, PORT);
    run(&mut loaded, Side::Access, &ask, Reason::PuntEstablish)?;
    let record = loaded.next_punt().context("no record in the ring")?;
    let header = size_of::<PuntHeader>();
    ensure!(record[header..header + ask.len()] == ask, "another frame");
    let unknown = Ether {
        tags: &[(0x8100, 999)],
        ..ether(2)
    };
    let gateway = doorstep_datapath::nd::GATEWAY_LINK_LOCAL;
    #[rustfmt::skip]
    let rows = [
        ("all nodes", udp_v6_to(ether(1), OWN, group(1), 255, PORT), Reason::Multicast),
        ("the gateway, to all", udp_v6_to(ether(2), OWN, gateway, 255, PORT), Reason::Multicast),
        ("all routers, to one", udp_v6_to(GARDEN_HOME.up(), OWN, group(2), 255, PORT), Reason::LinkLocal),
        ("another port", udp_v6_to(ether(2), OWN, group(2), 255, 53), Reason::Multicast),
        ("through a router", udp_v6_to(ether(2), OWN, group(2), 254, PORT), Reason::Multicast),
        ("an unknown line", udp_v6_to(unknown, OWN, group(2), 255, PORT), Reason::UnknownLine),
    ];
    all_dropped(Side::Access, &rows)?;
    ensure!(loaded.next_punt().is_none(), "more was punted");
    Ok(())
}
