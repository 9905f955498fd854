//! Devices behind the terminal's room ports.

use anyhow::{Context as _, ensure};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::{download, ping};
use doorstep_tests::suite::CaseResult;

use crate::support::connect;

pub fn reach_the_world() -> CaseResult {
    let street = Street::new(Plan {
        rooms: 2,
        ..Plan::default()
    })?;
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
        room.ip(&format!("route add default via {router}"))?;
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
        ping(&street.homes[0].rooms[0], None, street.echo(false).ip(), 1).is_err(),
        "a room reaches the world without a session"
    );
    let links = street.homes[0].netns.ip("-o link show")?;
    ensure!(
        links.contains("room0") && !links.contains("br-home"),
        "{links}"
    );
    Ok(())
}
