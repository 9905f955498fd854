//! Devices behind the terminal's room ports.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cpe::{Client, Cpe};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Home, Plan, Session, Street};
use doorstep_tests::lab::traffic::{answers, download, ping};
use doorstep_tests::suite::{CaseResult, Skip};
use ipnet::Ipv6Net;
use serde_json::Value;

use crate::support::{at_server, connect};

/// Devices ask every few seconds, and a server looks whether an address is free before it gives it.
pub const PATIENCE: Duration = Duration::from_secs(60);

fn street(gateways: usize) -> Result<Street> {
    Street::new(Plan {
        gateways,
        rooms: 2,
        ..Plan::default()
    })
}

pub fn reach_the_world() -> CaseResult {
    let street = street(1)?;
    let session = connect(&street, 0)?;
    let prefix: ipnet::Ipv6Net = session
        .ipv6_prefix
        .as_deref()
        .context("a prefix")?
        .parse()?;
    let home_lan = u128::from(prefix.network());
    let mut addresses = Vec::new();
    for (number, room) in street.homes[0].rooms.iter().enumerate() {
        let v4 = format!("192.168.77.{}", 10 + number);
        let v6 = std::net::Ipv6Addr::from(home_lan + 0x10 + number as u128);
        let router = std::net::Ipv6Addr::from(home_lan + 1);
        room.ip(&format!("addr add {v4}/24 dev eth0"))?;
        room.ip(&format!("addr add {v6}/64 dev eth0 nodad"))?;
        room.ip("route add default via 192.168.77.1")?;
        // The kernel may have heard of the router already.
        room.ip(&format!("route replace default via {router}"))?;
        addresses.push((v4, v6));
    }
    for (number, room) in street.homes[0].rooms.iter().enumerate() {
        for v6 in [false, true] {
            download(room, street.http(v6), None, 2_000_000, |_| {})
                .with_context(|| format!("room {number}, IPv6: {v6}"))?;
            ping(room, None, street.echo(v6).ip(), 3)?;
        }
    }
    // From room to room, through the bridge.
    ping(&street.homes[0].rooms[0], None, addresses[1].0.parse()?, 3)?;
    // What the world sees of IPv6 is the room's own address.
    ping(&street.inet, None, addresses[1].1.into(), 3)?;
    street.homes[0].release(&session.session_id)?;
    ensure!(
        !answers(&street.homes[0].rooms[0], None, street.echo(false).ip())?,
        "a room reaches the world without a session"
    );
    let links = street.homes[0].netns.ip("-o link show")?;
    ensure!(
        links.contains("room0") && !links.contains("br-home"),
        "{links}"
    );
    Ok(())
}

/// One in each room of the first home, that asks for addresses of both families.
pub fn devices(street: &Street) -> Result<Vec<Cpe>> {
    let rooms = street.homes[0].rooms.iter().enumerate();
    let device = |(number, room): (usize, &Netns)| {
        room.sysctl("net/ipv6/conf/eth0/accept_ra", "1")?;
        let dir = street.dir().join(format!("room{number}"));
        Cpe::start_in_room(Client::Udhcpc, room, &dir)
    };
    rooms.map(device).collect()
}

/// Devices as they are bought, behind a terminal that routes: they get an IPv4 address by DHCP and
/// make an IPv6 address of what the terminal advertises, and they follow when the home moves.
pub fn get_addresses() -> CaseResult {
    needs_dnsmasq()?;
    let mut street = street(2)?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0];
    let devices = devices(&street)?;
    let mut own = Vec::new();
    for (device, room) in devices.iter().zip(&home.rooms) {
        let v4 = device
            .wait_until(PATIENCE, |address| address.is_some())
            .with_context(|| home.terminal.log_tail())?
            .context("an address")?;
        ensure!(v4.octets()[..3] == [192, 168, 77], "{v4}");
        ensure!(!own.contains(&v4), "{v4} is given twice");
        own.push(v4);
        let v6 = by_advertisement(room, &session)?;
        reaches_the_world(&street, room)?;
        // What the world sees of IPv6 is the device itself.
        ping(&street.inet, None, IpAddr::V6(v6), 3)?;
    }
    // From room to room.
    ping(&home.rooms[0], None, own[1].into(), 3)?;

    // The home moves: another prefix, which the devices are told of, and the same IPv4 addresses.
    let sealed = street.seal(1, 0)?;
    street.plug(0, 1)?;
    let home = &street.homes[0];
    let moved = home.relocate(&sealed, None)?;
    ensure!(moved.ipv6_prefix != session.ipv6_prefix, "the same prefix");
    for (room, device) in home.rooms.iter().zip(&devices) {
        let v6 = by_advertisement(room, &moved)?;
        reaches_the_world(&street, room)?;
        ping(&street.inet, None, IpAddr::V6(v6), 3)?;
        let v4 = device.address()?;
        ensure!(
            own.iter().any(|own| Some(*own) == v4),
            "{v4:?} is not as it was"
        );
    }
    Ok(())
}

/// Behind a terminal that is a switch a device has its address from the operator, as if it were
/// plugged into the line itself.
pub fn bridged() -> CaseResult {
    let street = street(1)?;
    street.hear_answers(0)?;
    let home = &street.homes[0];
    let file = street.dir().join("subscribers.csv");
    std::fs::write(&file, format!("phone\n{}\n", home.phone()))?;
    let file = file.to_string_lossy();
    street.server().ask(&["subscribers", "import", &file])?;
    let all: Value = street.server().ask_json(&["subscribers"])?;
    let subscriber = &all["subscribers"][0]["subscriber_id"];
    let subscriber = subscriber.as_str().context("nobody")?;
    let location = street.location(0, 0);
    let words = ["sessions", "connect", &location, "--subscriber", subscriber];
    let words = [&words[..], &["--establishment", "dhcp"]].concat();
    let opened: Value = street.server().ask_json(&words)?;
    let session = opened["session_id"].as_str().context("no session")?;

    as_a_switch(home)?;
    let dir = street.dir().join("room");
    let device = Cpe::start_in_room(Client::Udhcpc, &home.rooms[0], &dir)?;
    let given = at_server(street.server(), session)?;
    let given: IpAddr = given["ipv4_address"].as_str().unwrap_or_default().parse()?;
    device
        .wait_for(given, PATIENCE)
        .with_context(|| home.terminal.log_tail())?;
    for (from, to) in [
        (&home.rooms[0], street.echo(false).ip()),
        (&street.inet, given),
    ] {
        ping(from, None, to, 3)?;
    }
    download(&home.rooms[0], street.http(false), None, 1_000_000, |_| {})?;
    let refused = home.request(&street.seal(0, 0)?).err();
    let refused = format!("{:#}", refused.context("a switch has got a session")?);
    ensure!(refused.contains("mode = \"bridge\""), "{refused}");

    // A router again, by the daemon's own file: the line is not a port of the bridge any more.
    home.terminal.ask(&["apply"])?;
    let links = home.netns.ip("-o link show")?;
    ensure!(!links.contains("br-home"), "{links}");
    Ok(())
}

/// Makes the terminal a switch while it runs.
fn as_a_switch(home: &Home) -> Result<()> {
    let text = std::fs::read_to_string(&home.config)?;
    let own = "ipv4 = \"192.168.77.1/24\"\n";
    ensure!(text.contains(own), "{text}");
    let file = home.config.with_file_name("switch.toml");
    std::fs::write(&file, text.replace(own, "mode = \"bridge\"\n"))?;
    let file = file.to_string_lossy();
    home.terminal.ask(&["apply", &file]).map(drop)
}

pub fn needs_dnsmasq() -> Result<()> {
    if std::path::Path::new("/usr/sbin/dnsmasq").exists() {
        return Ok(());
    }
    Err(Skip("there is no dnsmasq on this host".to_owned()).into())
}

pub fn reaches_the_world(street: &Street, room: &Netns) -> Result<()> {
    for v6 in [false, true] {
        ping(room, None, street.echo(v6).ip(), 3)?;
        download(room, street.http(v6), None, 1_000_000, |_| {})
            .with_context(|| format!("IPv6: {v6}"))?;
    }
    Ok(())
}

/// The address that a device has made of the session's prefix and prefers.
pub fn by_advertisement(room: &Netns, session: &Session) -> Result<Ipv6Addr> {
    let prefix: Ipv6Net = session
        .ipv6_prefix
        .as_deref()
        .context("a prefix")?
        .parse()?;
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = room.ip("-6 -o addr show dev eth0 scope global -tentative -deprecated")?;
        let own = shown.split_whitespace().find_map(|word| {
            let address: Ipv6Addr = word.split_once('/')?.0.parse().ok()?;
            prefix.contains(&address).then_some(address)
        });
        // Until it has heard of a former prefix's end it may still speak by that.
        let others = shown.lines().count() > 1;
        if let Some(own) = own.filter(|_| !others) {
            return Ok(own);
        }
        ensure!(Instant::now() < end, "no address of {prefix}: {shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
