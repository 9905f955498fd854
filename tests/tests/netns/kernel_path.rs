//! What only the kernel can answer, through tags and back.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, counted, flows, silent};

pub fn gateway_answers() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0].netns;
    let egress = counted(&street.gateways[0], "egress_to_line", || {
        ping(home, Some(session.v4()?), "100.64.1.1".parse()?, 5)
    })?;
    ensure!(egress == 5, "{egress} answers went through TC");
    Ok(())
}

pub fn time_exceeded() -> CaseResult {
    let street = Street::new(Plan::default())?;
    connect(&street, 0)?;
    for (v6, text) in [(false, "Time to live exceeded"), (true, "Hop limit")] {
        let said = ping_once(&street.homes[0].netns, &street.echo(v6).ip().to_string())?;
        ensure!(said.contains(text), "{said}");
    }
    let [from_home, to_home] = ["kernel_upstream", "egress_to_line"];
    let home = &street.homes[0].netns;
    for reason in [from_home, to_home] {
        let packets = counted(&street.gateways[0], reason, || {
            ping_once(home, &street.echo(false).ip().to_string()).map(drop)
        })?;
        ensure!(packets == 1, "{packets} under {reason}");
    }
    Ok(())
}

/// A packet whose TTL expires at the gateway gets an error, never a service of the gateway's host.
pub fn no_service_of_the_host() -> CaseResult {
    let street = Street::new(Plan::default())?;
    connect(&street, 0)?;
    let gateway = &street.gateways[0].netns;
    for (address, reason) in [
        ("198.18.0.10", "host_address"),
        ("192.0.2.6", "host_address"),
        ("100.64.1.1", "gateway_service"),
    ] {
        let address: SocketAddr = format!("{address}:2222").parse()?;
        let _service = gateway.run(move || TcpListener::bind(address))??;
        let home = &street.homes[0].netns;
        // The home's own management network would be the shorter way.
        home.ip(&format!(
            "route replace {}/32 via 100.64.1.1 dev wan0 onlink",
            address.ip()
        ))?;
        for ttl in [1, 64] {
            let dropped = counted(&street.gateways[0], reason, || {
                let connected = home.run(move || try_connect(address, ttl))??;
                ensure!(!connected, "{address} is reached with TTL {ttl}");
                Ok(())
            })?;
            let passes_by = ttl == 64 && reason == "host_address";
            ensure!(
                passes_by || dropped > 0,
                "{address}, TTL {ttl}: nothing under {reason}"
            );
        }
        home.ip(&format!(
            "route del {}/32 via 100.64.1.1 dev wan0",
            address.ip()
        ))?;
    }
    Ok(())
}

fn try_connect(address: SocketAddr, ttl: u32) -> anyhow::Result<bool> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_ttl_v4(ttl)?;
    Ok(socket
        .connect_timeout(&address.into(), Duration::from_millis(300))
        .is_ok())
}

/// While the next hop is not resolved the kernel forwards, to it and to nobody else.
pub fn unresolved_next_hop() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let neighbour = connect(&street, 1)?;
    let (gateway, home) = (&street.gateways[0], &street.homes[0].netns);
    street.inet.ip("link set gw1 arp off")?;
    gateway.netns.ip("neigh del 192.0.2.5 dev uplink0")?;
    let own = session.v4()?;
    let unresolved = counted(gateway, "kernel_unresolved", || {
        // The world, the neighbour, and a host of the management network.
        for target in [
            street.echo(false).ip(),
            neighbour.v4()?,
            "198.18.0.1".parse()?,
        ] {
            home.ip(&format!(
                "route replace {target}/32 via 100.64.1.1 dev wan0 onlink"
            ))?;
            let silent = silent(home, own, target);
            home.ip(&format!("route del {target}/32 via 100.64.1.1 dev wan0"))?;
            silent?;
        }
        Ok(())
    })?;
    ensure!(
        unresolved >= 3,
        "{unresolved} packets took the kernel's path"
    );
    street.inet.ip("link set gw1 arp on")?;
    let end = Instant::now() + Duration::from_secs(20);
    while ping(home, Some(own), street.echo(false).ip(), 1).is_err() {
        ensure!(Instant::now() < end, "the next hop is not found again");
    }
    flows(&street, &street.homes[0], &session)
}

/// One ping that dies at the gateway; what `ping` says of it.
pub fn ping_once(netns: &Netns, target: &str) -> anyhow::Result<String> {
    let mut command: Command = netns.command("ping")?;
    let output = command
        .args(["-n", "-c", "1", "-W", "2", "-t", "1", target])
        .output()?;
    ensure!(!output.status.success(), "it was answered");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
