//! Addresses that routers are given and prefixes that they are delegated, by clients as they are in Debian.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cpe::{Client, Cpe, LAN};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::dhcp::{explain, served, text, until};
use crate::support::at_server;

/// An address of the line that the router's client has been given and not made itself: it has no
/// network.
fn given(home: &Netns) -> Result<Option<Ipv6Addr>> {
    let shown = home.ip("-6 -o addr show dev wan0 scope global -tentative")?;
    let mut words = shown.split_whitespace();
    let address = words.find_map(|word| word.strip_suffix("/128")?.parse().ok());
    Ok(address)
}

/// A router that has its address by DHCPv4 from the same package is given one and delegated the session's
/// prefix by DHCPv6; then another client is.
pub fn delegated() -> CaseResult {
    let (street, session, cpe) = served(Client::Dhclient)?;
    let dir = street.dir().join("dhclient6");
    let client = Cpe::start(Client::Dhclient6, &street.homes[0].netns, &dir)?;
    let detail = at_server(street.server(), &session)?;
    let wanted = text(&detail, "ipv6_prefix");
    let prefix: ipnet::Ipv6Net = wanted.parse()?;
    until(|| Ok(client.leases().contains(&wanted))).with_context(|| client.log())?;
    let home = &street.homes[0].netns;
    until(|| Ok(given(home)?.is_some())).with_context(|| client.log())?;
    let own = given(home)?.context("it is gone")?;
    let line: ipnet::Ipv6Net = text(&detail, "ipv6_line_prefix").parse()?;
    ensure!(line.contains(&own), "{own} is not in {line}");
    ping(home, Some(own.into()), street.echo(true).ip(), 3).with_context(|| explain(&street))?;
    // As a router that uses it: an address of it inside, known to be behind the home's port.
    let inside = Ipv6Addr::from(u128::from(prefix.network()) | 0x77);
    home.ip(&format!("addr add {inside}/64 dev lo nodad"))?;
    ping(home, Some(inside.into()), street.echo(true).ip(), 3).with_context(|| explain(&street))?;
    ping(&street.inet, None, inside.into(), 3)?;
    drop(client);

    // Another one, which gives the home's own link its part of the prefix.
    home.ip(&format!("addr del {inside}/64 dev lo"))?;
    home.ip(&format!("link add {LAN} type bridge"))?;
    home.ip(&format!("link set {LAN} up"))?;
    let dir = street.dir().join("dhcp6c");
    let client = Cpe::start(Client::Dhcp6c, home, &dir)?;
    let network = Ipv6Addr::from(u128::from(prefix.network()) | 1 << 64);
    let of_home = || -> Result<Option<Ipv6Addr>> {
        let words = format!("-6 -o addr show dev {LAN} scope global to {network}/64");
        let shown = home.ip(&words)?;
        let mut words = shown.split_whitespace();
        let address = words.find_map(|word| word.split_once('/')?.0.parse().ok());
        Ok(address)
    };
    until(|| Ok(of_home()?.is_some())).with_context(|| client.log())?;
    let own = of_home()?.context("it is gone")?;
    ping(home, Some(own.into()), street.echo(true).ip(), 3).with_context(|| explain(&street))?;
    ping(&street.inet, None, own.into(), 3)?;
    let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
    ensure!(
        status["dhcp"]["dhcp6_bound"].as_u64() >= Some(2),
        "{status}"
    );
    drop((client, cpe));
    Ok(())
}
