//! Prefixes that routers are delegated, by clients as they are in Debian.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cpe::{Client, Cpe, LAN};
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::dhcp::{explain, served, text, until};
use crate::support::at_server;

/// A router is delegated the session's prefix by DHCPv6, whose clients are as they are in Debian.
pub fn delegated() -> CaseResult {
    let (street, session, cpe) = served(Client::Udhcpc)?;
    let dir = street.dir().join("dhclient6");
    let client = Cpe::start(Client::Dhclient6, &street.homes[0].netns, &dir)?;
    let detail = at_server(street.server(), &session)?;
    let wanted = text(&detail, "ipv6_prefix");
    let prefix: ipnet::Ipv6Net = wanted.parse()?;
    until(|| Ok(client.leases().contains(&wanted))).with_context(|| client.log())?;
    // As a router that uses it: an address of it inside, known to be behind the home's port.
    let home = &street.homes[0].netns;
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
