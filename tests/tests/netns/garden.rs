//! Homes that have no other way to the server than their own line.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::frames::{Ether, between};
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::street::{DNS_PORT, Plan, SERVICE_V6, Street};
use doorstep_tests::lab::traffic::{answers, download, mac, send_frames};
use doorstep_tests::suite::CaseResult;
use serde::Deserialize;

use crate::support::{connect, counted, counted_by_and_by, flows, logs, packets, unnoticed};

/// The first operator's server.
const SERVER: [u8; 4] = [198, 18, 0, 1];

fn street() -> Result<Street> {
    Street::new(Plan {
        homes: 2,
        garden: true,
        ..Plan::default()
    })
}

/// A line of the gateway's `garden`.
#[derive(Debug, Deserialize)]
struct Line {
    addresses: Vec<String>,
    counters: Counters,
}

#[derive(Debug, Deserialize)]
struct Counters {
    upstream_packets: u64,
    downstream_packets: u64,
    upstream_policed: u64,
}

fn lines(street: &Street) -> Result<Vec<Line>> {
    street.gateways[0].daemon.ask_json(&["garden"])
}

/// The own addresses in the garden: IPv4, IPv6.
fn own(street: &Street, home: usize) -> Result<(IpAddr, IpAddr)> {
    let own = street.homes[home].in_garden()?;
    let find = |v4: bool| own.iter().copied().find(|own| own.is_ipv4() == v4);
    Some((find(true), find(false)))
        .and_then(|(v4, v6)| Some((v4?, v6?)))
        .with_context(|| format!("not one address of each family: {own:?}"))
}

/// Pages from beside the server, which the garden lets through.
fn visits(street: &Street, home: usize, own: IpAddr) -> Result<()> {
    let home = &street.homes[home];
    download(&home.netns, SERVICE_V6, Some(own), 50_000, |_| {})
        .map(drop)
        .with_context(|| logs(street, home))
}

/// What a home may not, dropped by name.
fn only_the_server(street: &Street, own: IpAddr, own_v6: IpAddr) -> CaseResult {
    let home = &street.homes[0].netns;
    let gateway = &street.gateways[0];
    let ether = Ether {
        source: mac(home, "wan0")?,
        destination: mac(&gateway.netns, "access0")?,
        tags: &[],
    };
    let server = SocketAddr::from((SERVER, 7443));
    let world = street.http(false);
    let stranger = SocketAddr::from(([100, 127, 1, 200], 40_000));
    let from = |port| SocketAddr::new(own, port);
    let from_v6 = SocketAddr::new(own_v6, 40_000);
    #[rustfmt::skip]
    let rows = [
        ("the world", "outside_garden", true, from(40_000), world),
        ("the world by IPv6", "outside_garden", true, from_v6, street.http(true)),
        ("another port", "outside_garden", true, from(40_000), SocketAddr::from((SERVER, 22))),
        ("another protocol", "outside_garden", false, from(40_000), server),
        ("a neighbour", "outside_garden", true, from(40_000), SocketAddr::from(([100, 64, 1, 2], 7443))),
        ("another source", "source_not_bound", true, stranger, server),
    ];
    for (name, reason, tcp, source, destination) in rows {
        let dropped = counted_by_and_by(gateway, reason, 5, || {
            let frames = vec![between(ether, tcp, source, destination); 5];
            send_frames(home, "wan0", frames)
        })?;
        ensure!(dropped == 5, "{name}: {dropped} dropped as {reason}");
    }
    // The same with a route, as somebody who knows what to do would try.
    let target = world.ip();
    let gateway_mac = ether
        .destination
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    home.ip(&format!("route add default dev wan0 src {own}"))?;
    home.ip(&format!(
        "neigh replace {target} lladdr {gateway_mac} dev wan0"
    ))?;
    let dropped = counted(gateway, "outside_garden", || {
        ensure!(!answers(home, Some(own), target)?, "the world answers");
        Ok(())
    })?;
    home.ip("route del default dev wan0")?;
    ensure!(dropped >= 1, "the ping never came to the gateway");
    // Whoever floods is stopped at the rate of its line.
    let sent = 400;
    let dns = SocketAddr::from((SERVER, DNS_PORT));
    let before = packets(gateway)?;
    let mut frame = between(ether, false, from(40_000), dns);
    enlarge(&mut frame);
    send_frames(home, "wan0", vec![frame; sent])?;
    // All of them are judged before it is said how many were stopped.
    let end = Instant::now() + Duration::from_secs(10);
    let policed = loop {
        let now = packets(gateway)?;
        let [policed, passed] =
            ["policed_upstream", "forwarded_upstream"].map(|reason| now[reason] - before[reason]);
        if policed + passed >= sent as u64 || Instant::now() > end {
            break policed;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    ensure!(policed > 0 && policed < sent as u64, "{policed} policed");
    Ok(())
}

/// Makes an untagged IPv4 packet 1500 bytes long. Nobody reads its payload.
fn enlarge(frame: &mut Vec<u8>) {
    const LEN: u16 = 1500;
    frame.resize(14 + usize::from(LEN), 0);
    frame[16..18].copy_from_slice(&LEN.to_be_bytes());
}

pub fn first_request() -> CaseResult {
    let street = street()?;
    // One home is a subscriber, by nothing but its line.
    let neighbour = {
        street.homes[1].in_garden()?;
        connect(&street, 1).with_context(|| logs(&street, &street.homes[1]))?
    };
    let (v4, v6) = own(&street, 0)?;
    visits(&street, 0, v6)?;
    only_the_server(&street, v4, v6)?;
    flows(&street, &street.homes[1], &neighbour)?;

    let held = lines(&street)?;
    ensure!(held.len() == 1, "the neighbour is in it still: {held:?}");
    let counters = &held[0].counters;
    ensure!(counters.upstream_packets > 10 && counters.downstream_packets > 10);
    ensure!(counters.upstream_policed > 0, "{held:?}");

    let session = connect(&street, 0)?;
    let left = street.homes[0].netns.ip("-o addr show wan0")?;
    ensure!(
        !left.contains(&v4.to_string()) && !left.contains(&v6.to_string()),
        "{left}"
    );
    ensure!(lines(&street)?.is_empty(), "{:?}", lines(&street)?);
    // It asks over the session as well, and is back in the garden once that is over.
    street.homes[0].release(&session.session_id)?;
    let (_, v6) = own(&street, 0)?;
    visits(&street, 0, v6)?;
    flows(&street, &street.homes[1], &neighbour)
}

/// A terminal that was off when its session ended finds out by its line, which leads nowhere else.
pub fn release_missed() -> CaseResult {
    let mut street = street()?;
    street.homes[0].in_garden()?;
    let session = connect(&street, 0)?;
    street.homes[0].terminal.kill()?;
    let server = street.server();
    server.ask(&["sessions", "disconnect", &session.session_id])?;
    let gateway = &street.gateways[0].daemon;
    until_none(gateway, |gateway| gateway.ask_json(&["sessions"]))?;
    street.restart_terminal(0)?;
    let home = &street.homes[0];
    home.in_garden()?;
    until_none(&home.terminal, |terminal| {
        let status: serde_json::Value = terminal.ask_json(&["status"])?;
        Ok(status["sessions"].as_array().cloned().unwrap_or_default())
    })?;
    let session = home.request(&street.seal(0, 0)?)?;
    flows(&street, home, &session)
}

/// Waits until a daemon knows no session any more.
fn until_none(
    daemon: &Daemon,
    sessions: impl Fn(&Daemon) -> Result<Vec<serde_json::Value>>,
) -> CaseResult {
    let end = Instant::now() + Duration::from_secs(60);
    while !sessions(daemon)?.is_empty() {
        ensure!(Instant::now() < end, "{}", daemon.log_tail());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub fn outlives_the_daemon() -> CaseResult {
    let mut street = street()?;
    street.homes[1].in_garden()?;
    let neighbour = connect(&street, 1)?;
    let (v4, v6) = own(&street, 0)?;
    let before = lines(&street)?;
    // Nobody asks again.
    street.homes[0].terminal.kill()?;
    street.gateways[0].daemon.kill()?;
    visits(&street, 0, v6)?;
    street.restart_gateway(0)?;
    visits(&street, 0, v6)?;
    let after = lines(&street)?;
    ensure!(
        after.len() == 1 && after[0].addresses == before[0].addresses,
        "{after:?}, not {before:?}"
    );
    // The terminal that comes after finds its way again, and the same addresses.
    street.restart_terminal(0)?;
    ensure!(own(&street, 0)? == (v4, v6), "another lease");
    let session = connect(&street, 0)?;
    ensure!(lines(&street)?.is_empty());
    unnoticed(&mut street, |street| {
        street.gateways[0].daemon.kill()?;
        street.restart_gateway(0)
    })?;
    flows(&street, &street.homes[0], &session)?;
    flows(&street, &street.homes[1], &neighbour)
}
