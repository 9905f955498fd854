//! Rooms of one home that use sessions of different operators.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::capture::Capture;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Home, Plan, Session, Street};
use doorstep_tests::lab::traffic::{answers, ping};
use doorstep_tests::suite::CaseResult;
use ipnet::Ipv6Net;
use serde_json::Value;

use crate::rooms::{self, PATIENCE, by_advertisement, needs_dnsmasq, reaches_the_world};

/// Where the world hears each operator's subscribers.
const UPLINKS: [&str; 2] = ["gw1", "gw1-1"];
/// The rooms' own networks.
const NETWORKS: [[u8; 3]; 2] = [[192, 168, 77], [192, 168, 78]];

fn street() -> Result<Street> {
    Street::new(Plan {
        operators: 2,
        choice: true,
        rooms: 2,
        ..Plan::default()
    })
}

/// A session of each operator, which the rooms use: the first room, on the home's bridge, the first
/// one's.
fn divided(street: &Street) -> Result<Vec<Session>> {
    let home = &street.homes[0];
    let mut sessions = Vec::new();
    for operator in &street.operators {
        home.register_at(operator.name)?;
        sessions.push(ask(street, home, sessions.len())?);
    }
    let text = std::fs::read_to_string(&home.config)?;
    let joined = "room_ports = [\"room0\", \"room1\"]";
    ensure!(text.contains(joined), "{text}");
    let [north, south] = [0, 1].map(|number| street.operators[number].name);
    let apart = format!("room_ports = [\"room0\"]\nsession = \"{north}\"");
    let own = format!("\n[home.rooms.room1]\nsession = \"{south}\"\nipv4 = \"192.168.78.1/24\"\n");
    std::fs::write(&home.config, text.replace(joined, &apart) + &own)?;
    home.terminal.ask(&["apply"])?;
    Ok(sessions)
}

fn ask(street: &Street, home: &Home, operator: usize) -> Result<Session> {
    let operator = &street.operators[operator];
    let sealed = operator.seal(&street.location(0, 0))?;
    home.request_of(operator.name, &sealed)
}

/// The n-th room's part of its session's prefix: the home bridge has the first.
fn network(number: usize, session: &Session) -> Result<u128> {
    let prefix = session.ipv6_prefix.as_deref().context("no prefix")?;
    let prefix: Ipv6Net = prefix.parse()?;
    Ok(prefix.network().to_bits() | (number as u128) << 64)
}

/// A device's address in a room.
fn own_v4(number: usize) -> IpAddr {
    let [a, b, c] = NETWORKS[number];
    Ipv4Addr::new(a, b, c, 10).into()
}

fn own_v6(number: usize, session: &Session) -> Result<Ipv6Addr> {
    Ok(Ipv6Addr::from_bits(network(number, session)? | 0x10))
}

/// Gives the room's device its addresses and routes by hand.
fn set_up(room: &Netns, number: usize, session: &Session) -> Result<()> {
    let [a, b, c] = NETWORKS[number];
    let router = Ipv6Addr::from_bits(network(number, session)? | 1);
    let own = own_v6(number, session)?;
    room.ip(&format!("addr add {}/24 dev eth0", own_v4(number)))?;
    room.ip(&format!("addr add {own}/64 dev eth0 nodad"))?;
    room.ip(&format!("route add default via {a}.{b}.{c}.1"))?;
    // The kernel may have heard of the router already.
    room.ip(&format!("route replace default via {router} dev eth0"))?;
    Ok(())
}

/// Each room by its own operator, and by no other one; not even while its own one's session is away.
pub fn each_by_its_operator() -> CaseResult {
    let street = street()?;
    let sessions = divided(&street)?;
    let home = &street.homes[0];
    for (number, room) in home.rooms.iter().enumerate() {
        set_up(room, number, &sessions[number])?;
    }
    for (number, room) in home.rooms.iter().enumerate() {
        let v6 = own_v6(number, &sessions[number])?;
        by_its_uplink(&street, number, || {
            reaches_the_world(&street, room)?;
            ping(&street.inet, None, v6.into(), 3)
        })?;
    }
    // From room to room, by the terminal.
    ping(&home.rooms[0], None, own_v4(1), 3)?;

    // A device that was in the other room before, and still has its address.
    let former = Ipv6Addr::from_bits(network(0, &sessions[0])? | 0x99);
    home.rooms[1].ip(&format!("addr add {former}/128 dev eth0 nodad"))?;
    let wire = Capture::start(&street.inet, UPLINKS[0])?;
    no_way(&street, &home.rooms[1], &wire, true, Some(former.into()))?;
    home.rooms[1].ip(&format!("addr del {former}/128 dev eth0"))?;

    // A room without its session has no way out, and the other one goes on.
    home.release(&sessions[1].session_id)?;
    shut_off(&street, home, 1)?;
    ping(&home.rooms[1], None, own_v4(0), 3)?;
    let status: Value = home.terminal.ask_json(&["status"])?;
    let told = status["rooms"]["detail"].as_str().unwrap_or_default();
    ensure!(told.contains("room1 has no way out"), "{told}");
    let again = ask(&street, home, 1)?;
    by_its_uplink(&street, 1, || goes_on(&street, &home.rooms[1]))?;

    home.release(&sessions[0].session_id)?;
    shut_off(&street, home, 0)?;
    home.release(&again.session_id)?;
    let left = home.netns.ip("rule")? + &home.netns.ip("-6 rule")?;
    ensure!(!left.contains("br-"), "{left}");
    Ok(())
}

/// One room has no way out; the other one has.
fn shut_off(street: &Street, home: &Home, number: usize) -> Result<()> {
    let line = Capture::start(&home.netns, "wan0")?;
    for v6 in [false, true] {
        no_way(street, &home.rooms[number], &line, v6, None)
            .with_context(|| format!("room {number}"))?;
    }
    goes_on(street, &home.rooms[1 - number])
}

/// The room has no answer from the world, and nothing of what it says passes there.
fn no_way(
    street: &Street,
    room: &Netns,
    wire: &Capture,
    v6: bool,
    source: Option<IpAddr>,
) -> Result<()> {
    let answered = answers(room, source, street.echo(v6).ip())?;
    ensure!(!answered, "there is a way, IPv6: {v6}");
    let passed = wire.so_far(|frame| worldly(street, frame))?;
    ensure!(passed.is_empty(), "passed: {passed:?}");
    Ok(())
}

fn goes_on(street: &Street, room: &Netns) -> Result<()> {
    ping(room, None, street.echo(false).ip(), 3)
}

/// What the room does meanwhile is heard at its own operator's uplink, and nothing of it at the other
/// one's.
fn by_its_uplink(
    street: &Street,
    number: usize,
    action: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let own = Capture::start(&street.inet, UPLINKS[number])?;
    let other = Capture::start(&street.inet, UPLINKS[1 - number])?;
    action().with_context(|| format!("room {number}"))?;
    let heard = own.so_far(|frame| worldly(street, frame))?;
    ensure!(!heard.is_empty(), "room {number}: nothing at its uplink");
    let leaked = other.so_far(|frame| worldly(street, frame))?;
    ensure!(leaked.is_empty(), "room {number} leaks: {leaked:?}");
    Ok(())
}

/// Source and destination of a packet to or from the world.
fn worldly(street: &Street, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = addresses(frame)?;
    let world = [false, true].map(|v6| [street.echo(v6).ip(), street.http(v6).ip()]);
    let world = world.as_flattened();
    let is_of_it = world.contains(&source) || world.contains(&destination);
    is_of_it.then_some((source, destination))
}

/// Source and destination of an untagged IP packet.
pub fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    let v4 = |at: usize| {
        Some(IpAddr::from(
            <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?,
        ))
    };
    let v6 = |at: usize| {
        Some(IpAddr::from(
            <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?,
        ))
    };
    match ethernet[12..] {
        [0x08, 0x00] => Some((v4(12)?, v4(16)?)),
        [0x86, 0xdd] => Some((v6(8)?, v6(24)?)),
        _ => None,
    }
}

/// Ordinary devices get addresses of their own room's network and session.
pub fn get_addresses() -> CaseResult {
    needs_dnsmasq()?;
    let street = street()?;
    let home = &street.homes[0];
    // The device is plugged in once the room is one of its own: nothing there tells it of the end of
    // what it may have heard on the home's bridge.
    let apart = &home.rooms[1];
    apart.ip("link set eth0 down")?;
    let sessions = divided(&street)?;
    apart.ip("link set eth0 up")?;
    let devices = rooms::devices(&street)?;
    for (number, (device, room)) in devices.iter().zip(&home.rooms).enumerate() {
        let is_own = |own: Ipv4Addr| own.octets()[..3] == NETWORKS[number];
        device
            .wait_until(PATIENCE, |own| own.is_some_and(is_own))
            .with_context(|| home.terminal.log_tail())?;
        let v6 =
            by_advertisement(room, &sessions[number]).with_context(|| home.terminal.log_tail())?;
        by_its_uplink(&street, number, || {
            reaches_the_world(&street, room)?;
            ping(&street.inet, None, v6.into(), 3)
        })?;
    }
    Ok(())
}
