//! A /64 of the line's own, beside the delegated prefix.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::lab::traffic::{download, mac, ping, reaches};
use doorstep_tests::suite::CaseResult;

use crate::support::{at_server, connect, counted, flows, logs, silent};

pub fn beside_the_delegated() -> CaseResult {
    let mut street = Street::new(Plan {
        homes: 2,
        line_prefixes: true,
        ..Plan::default()
    })?;
    let own = connect(&street, 0)?;
    let neighbours = connect(&street, 1)?;
    let line = own.line_v6()?;
    ensure!(line != neighbours.line_v6()?, "{line} is both lines'");
    both_ways(&street, 0, &own)?;
    both_ways(&street, 1, &neighbours)?;
    let shown = at_server(street.server(), &own.session_id)?;
    let given = own.ipv6_line_prefix.as_deref();
    ensure!(shown["ipv6_line_prefix"].as_str() == given, "{shown}");
    let shown: Vec<serde_json::Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    let found = |row: &serde_json::Value| row["ipv6_line_prefix"].as_str() == given;
    ensure!(shown.iter().any(found), "{shown:?}");
    // What the home sends by itself comes from there.
    let route = format!("-6 route get {}", street.echo(true).ip());
    let route = street.homes[0].netns.ip(&route)?;
    ensure!(route.contains(&format!("src {line}")), "{route}");

    // Nobody else sends from it, and nobody from what it begins like.
    let IpAddr::V6(address) = line else {
        anyhow::bail!("{line} is not IPv6")
    };
    let first = Ipv6Addr::from_bits(address.to_bits() & !(0xff << 64));
    let last = Ipv6Addr::from_bits(address.to_bits() | 0xff << 64);
    not_bound(&street, 1, line)?;
    for unowned in [first, last] {
        not_bound(&street, 0, unowned.into())?;
    }

    // It outlives the gateway's daemon, as the journal has it.
    street.gateways[0].daemon.kill()?;
    both_ways(&street, 0, &own)?;
    street.restart_gateway(0)?;
    both_ways(&street, 0, &own)?;

    street.homes[0].release(&own.session_id)?;
    silent(&street.inet, street.echo(true).ip(), line)?;
    let gone = street.homes[0].netns.ip("-6 -o addr show wan0")?;
    ensure!(!gone.contains(&line.to_string()), "{gone}");
    // Without a session it has no neighbour either.
    let [a, b, c, d, e, f] = mac(&street.gateways[0].netns, "access0")?;
    street.homes[0].netns.ip(&format!(
        "neigh replace fe80::1 lladdr {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} dev wan0"
    ))?;
    not_bound(&street, 0, line).context("after the session")?;
    both_ways(&street, 1, &neighbours)?;
    // It is free again, and the next session's.
    let next = street.homes[0].request(&street.seal(0, 0)?)?;
    ensure!(next.ipv6_line_prefix == own.ipv6_line_prefix, "{next:?}");
    both_ways(&street, 0, &next)
}

/// The home reaches the world, and the world the home, by both prefixes and by IPv4.
fn both_ways(street: &Street, home: usize, session: &Session) -> Result<()> {
    let home = &street.homes[home];
    flows(street, home, session)?;
    let line = session.line_v6()?;
    ping(&home.netns, Some(line), street.echo(true).ip(), 3).with_context(|| logs(street, home))?;
    let from = Some(line);
    download(&home.netns, street.http(true), from, 1_000_000, |_| {})
        .with_context(|| format!("from {line}"))?;
    for address in [line, session.v6()?] {
        ping(&street.inet, None, address, 3)?;
    }
    Ok(())
}

fn not_bound(street: &Street, home: usize, source: IpAddr) -> Result<()> {
    let netns = &street.homes[home].netns;
    // However the home's own routes are.
    let via = "via fe80::1 dev wan0 metric 1 onlink";
    netns.ip(&format!(
        "-6 route add {}/128 {via}",
        street.echo(true).ip()
    ))?;
    netns.ip(&format!("addr add {source}/128 dev lo nodad"))?;
    let dropped = counted(&street.gateways[0], "source_not_bound", || {
        let answered = reaches(netns, source, street.echo(true))?;
        ensure!(!answered, "{source} is answered");
        Ok(())
    });
    netns.ip(&format!("addr del {source}/128 dev lo"))?;
    netns.ip(&format!(
        "-6 route del {}/128 {via}",
        street.echo(true).ip()
    ))?;
    let dropped = dropped?;
    ensure!(dropped >= 1, "{source}: {dropped} dropped");
    Ok(())
}
