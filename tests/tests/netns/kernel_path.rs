//! What only the kernel can answer, through tags and back.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Street, WORLD_V4, WORLD_V6};
use doorstep_tests::lab::traffic::{answers, download, ping};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, counted, flows, silent};
use crate::uplinks::wait_for_loss_of_v4;

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
    wait_for_loss_of_v4(gateway, 0)?;
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
    while !answers(home, Some(own), street.echo(false).ip())? {
        ensure!(Instant::now() < end, "the next hop is not found again");
    }
    flows(&street, &street.homes[0], &session)
}

/// The sessions' MTU is smaller than what the world sends, and nobody has said so to the world's
/// TCP: the gateway's kernel does when it must.
pub fn too_big_for_the_line() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let config = street.operators[0].config.clone();
    let text = std::fs::read_to_string(&config)?;
    street.server().stop()?;
    let smaller = text.replace(
        "delegated_prefix_len = 56",
        "delegated_prefix_len = 56\nmtu = 1400",
    );
    ensure!(smaller != text, "no gateway in {text}");
    std::fs::write(&config, smaller)?;
    street.restart_server()?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0].netns;
    let expected = [
        (session.v4()?, ["mtu = 1400", "mtu=1400"]),
        (session.v6()?, ["mtu=1400", "mtu: 1400"]),
    ];
    for (address, texts) in expected {
        let said = big_ping(&street.inet, None, address, 1450)?;
        ensure!(texts.iter().any(|text| said.contains(text)), "{said}");
        let fits = big_ping(&street.inet, None, address, 1400)?;
        ensure!(fits.contains(" 0% packet loss"), "{fits}");
    }
    for (source, route) in [
        (
            session.v4()?,
            format!("{WORLD_V4}/32 via 100.64.1.1 dev wan0 onlink advmss 1460"),
        ),
        (
            session.v6()?,
            format!("{WORLD_V6}/128 via fe80::1 dev wan0 advmss 1440"),
        ),
    ] {
        let family = if source.is_ipv4() { "-4" } else { "-6" };
        street.inet.ip(&format!("{family} route flush cache"))?;
        home.ip(&format!("{family} route replace {route}"))?;
        let big = counted(&street.gateways[0], "kernel_downstream", || {
            let http = street.http(source.is_ipv6());
            download(home, http, Some(source), 2_000_000, |_| {}).map(drop)
        })?;
        ensure!(
            big > 0,
            "{source}: the world never sent more than the line takes"
        );
    }
    // A daemon that comes after knows it from the sessions that are open.
    street.gateways[0].daemon.stop()?;
    let route = || {
        street.gateways[0]
            .netns
            .ip("route show table 52001 100.64.1.0/24")
    };
    ensure!(route()?.contains("mtu lock 1400"), "{}", route()?);
    street.restart_gateway(0)?;
    let route = street.gateways[0]
        .netns
        .ip("route show table 52001 100.64.1.0/24")?;
    ensure!(route.contains("mtu lock 1400"), "{route}");
    Ok(())
}

/// One ping of so many bytes of IP that must not be fragmented; what `ping` says of it. What the
/// host has learned of the way's MTU before is forgotten.
pub fn big_ping(
    netns: &Netns,
    source: Option<IpAddr>,
    target: IpAddr,
    bytes: usize,
) -> anyhow::Result<String> {
    let family = if target.is_ipv4() { "-4" } else { "-6" };
    netns.ip(&format!("{family} route flush cache"))?;
    let headers = if target.is_ipv4() { 28 } else { 48 };
    let mut command: Command = netns.command("ping")?;
    command.args(["-n", "-c", "1", "-W", "2", "-M", "do"]);
    command.args(["-s", &(bytes - headers).to_string()]);
    if let Some(source) = source {
        command.args(["-I", &source.to_string()]);
    }
    let output = command.arg(target.to_string()).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).into_owned())
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
