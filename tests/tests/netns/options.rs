//! What an operator may switch on at a gateway.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::frames::{offered_mss, priorities};
use doorstep_tests::lab::capture::Capture;
use doorstep_tests::lab::netns::run;
use doorstep_tests::lab::street::{Gateway, HTTP_PORT, Plan, Session, Street};
use doorstep_tests::lab::traffic::{download, mac, ping};
use doorstep_tests::suite::CaseResult;
use etherparse::{NetHeaders, PacketHeaders};
use serde_json::json;

use crate::rates::needs_fq;
use crate::service;
use crate::support::{connect, counted, flows, silent, unnoticed};
use crate::uplinks::{ANEW, SOON, port, wait_until};

/// The addresses of two sessions, by family.
fn pairs(from: &Session, to: &Session) -> Result<[(IpAddr, IpAddr); 2]> {
    Ok([(from.v4()?, to.v4()?), (from.v6()?, to.v6()?)])
}

/// Homes of one operator reach each other at the gateway where that is allowed, and nowhere else.
pub fn hairpin() -> CaseResult {
    let mut street = Street::new(Plan {
        homes: 2,
        options: "hairpin = false",
        ..Plan::default()
    })?;
    let (one, other) = (connect(&street, 0)?, connect(&street, 1)?);
    // The operator's router lets no subscriber's packet back.
    for (v4, v6) in [(one.v4()?, one.v6()?), (other.v4()?, other.v6()?)] {
        let rule = |to| format!("rule add iif gw1 to {to} blackhole");
        street.inet.ip(&rule(v4))?;
        street.inet.ip(&format!("-6 {}", rule(v6)))?;
    }
    for (from, to) in pairs(&one, &other)? {
        let home = &street.homes[0].netns;
        let up = counted(&street.gateways[0], "forwarded_upstream", || {
            silent(home, from, to)
        })?;
        ensure!(up >= 1, "{from} to {to} did not go to the router");
    }

    unnoticed(&mut street, |street| {
        street.gateways[0].daemon.kill()?;
        street.gateways[0].reconfigure("hairpin = false", "hairpin = true")?;
        street.restart_gateway(0)
    })?;
    let within = |street: &Street| -> Result<()> {
        for (from, to) in pairs(&one, &other)? {
            let home = &street.homes[0].netns;
            let round = counted(&street.gateways[0], "forwarded_hairpin", || {
                ping(home, Some(from), to, 5)
            })?;
            ensure!(round == 10, "{from} to {to}: {round} turned round");
        }
        Ok(())
    };
    within(&street)?;
    flows(&street, &street.homes[0], &one)?;
    // It takes neither the router nor the cable to it.
    street.inet.ip("link set gw1 down")?;
    wait_until(&street.gateways[0], "the uplink", SOON, |status| {
        port(status, "uplink0").is_some_and(|port| port.state == "down")
    })?;
    within(&street)
}

/// What the two ends of a TCP connection offer each other, as the other end sees it.
fn offers(street: &Street, session: &Session, v6: bool) -> Result<(u16, u16)> {
    let home = &street.homes[0].netns;
    let at_home = Capture::start(home, "wan0")?;
    let in_world = Capture::start(&street.inet, "gw1")?;
    let source = if v6 { session.v6()? } else { session.v4()? };
    download(home, street.http(v6), Some(source), 100_000, |_| {})?;
    // The world answers what the home has begun.
    let offers = |capture: &Capture| -> Result<(u16, u16)> {
        let of = |world: bool| {
            let wanted = |(mss, port)| ((port == HTTP_PORT) == world).then_some(mss);
            capture.first(|frame| offered_mss(frame).and_then(wanted))
        };
        Ok((of(false)?, of(true)?))
    };
    let (home_sent, home_got) = offers(&at_home)?;
    let (world_got, world_sent) = offers(&in_world)?;
    let most = if v6 { 1440 } else { 1460 };
    let sent = (home_sent, world_sent);
    ensure!(sent == (most, most), "before the gateway: {sent:?}");
    Ok((world_got, home_got))
}

/// Both ends of both families offer what fits an MTU.
fn clamped(street: &Street, session: &Session, mtu: u16) -> Result<()> {
    for (v6, headers) in [(false, 40), (true, 60)] {
        let most = mtu - headers;
        let offers = offers(street, session, v6)?;
        ensure!(offers == (most, most), "MTU {mtu}: {offers:?}");
    }
    Ok(())
}

/// Gives a port of the gateway another MTU and waits until its daemon knows.
fn set_mtu(gateway: &Gateway, name: &str, mtu: u32, patience: Duration) -> Result<()> {
    gateway.netns.ip(&format!("link set {name} mtu {mtu}"))?;
    wait_until(gateway, name, patience, |status| {
        port(status, name).is_some_and(|port| port.mtu == mtu)
    })
}

/// TCP connections are told what line and uplink take, so that no packet is too big.
pub fn clamp_mss() -> CaseResult {
    let street = Street::new(Plan {
        options: "clamp_mss = true",
        ..Plan::default()
    })?;
    let gateway = &street.gateways[0];
    let session = connect(&street, 0)?;
    clamped(&street, &session, 1500)?;
    // The router knows nothing of it: its full-sized packets would be lost on the cable.
    set_mtu(gateway, "uplink0", 1400, SOON)?;
    clamped(&street, &session, 1400)?;
    set_mtu(gateway, "uplink0", 1500, SOON)?;
    // Two tags, of which Ethernet carries one beside the MTU.
    set_mtu(gateway, "access0", 1404, ANEW)?;
    clamped(&street, &session, 1400)
}

/// Also those whose packets the kernel paces, which leave by another program.
pub fn clamp_mss_of_shaped() -> CaseResult {
    needs_fq()?;
    let street = Street::new(Plan {
        options: "clamp_mss = true",
        ..Plan::default()
    })?;
    let gateway = &street.gateways[0];
    let session = connect(&street, 0)?;
    let id = session.session_id.as_str();
    let words = ["sessions", "service", id, "--down", "300M", "--shape"];
    street.server().ask(&words)?;
    service::until(&street, id, &json!([0, 300_000_000, true, 0]))?;
    set_mtu(gateway, "uplink0", 1400, SOON)?;
    let shaped = counted(gateway, "kernel_shaped", || {
        clamped(&street, &session, 1400)
    })?;
    ensure!(shaped > 10, "{shaped} by the kernel");
    Ok(())
}

/// The priorities of the tags that answers to marked pings come with.
fn seen(street: &Street, session: &Session, dscp: u8) -> Result<[Vec<u8>; 2]> {
    let gateway = mac(&street.gateways[0].netns, "access0")?;
    let both = [(false, session.v4()?), (true, session.v6()?)].map(|(v6, own)| {
        let wire = Capture::start(&street.street, "trunk0")?;
        let mut command = street.homes[0].netns.command("ping")?;
        let (tos, target) = (dscp << 2, street.echo(v6).ip());
        command.args(["-n", "-c", "1", "-W", "2", "-Q", &tos.to_string()]);
        run(command
            .arg("-I")
            .arg(own.to_string())
            .arg(target.to_string()))?;
        wire.first(|frame| {
            let net = PacketHeaders::from_ethernet_slice(frame).ok()?.net?;
            let to: IpAddr = match net {
                NetHeaders::Ipv4(ip, _) => ip.destination.into(),
                NetHeaders::Ipv6(ip, _) => ip.destination.into(),
                NetHeaders::Arp(_) => return None,
            };
            (frame[6..12] == gateway && to == own).then(|| priorities(frame))
        })
    });
    let [v4, v6] = both;
    Ok([v4.context("IPv4")?, v6.context("IPv6")?])
}

/// The priority of a line's tags is the session's, or that of each packet's DSCP.
pub fn tag_priority() -> CaseResult {
    /// Expedited forwarding, class selector 5.
    const EF: u8 = 46;
    let mut street = Street::new(Plan {
        options: "tag_priority = \"session\"",
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let id = session.session_id.as_str();
    let words = ["sessions", "service", id, "--priority", "3"];
    street.server().ask(&words)?;
    service::until(&street, id, &json!([0, 0, false, 3]))?;
    for dscp in [0, EF] {
        let seen = seen(&street, &session, dscp)?;
        ensure!(seen == [[3, 3], [3, 3]], "DSCP {dscp}: {seen:?}");
    }
    unnoticed(&mut street, |street| {
        street.gateways[0].daemon.kill()?;
        street.gateways[0].reconfigure("\"session\"", "\"dscp\"")?;
        street.restart_gateway(0)
    })?;
    for (dscp, priority) in [(0, 0), (8, 1), (EF, 5)] {
        let seen = seen(&street, &session, dscp)?;
        ensure!(seen == [[priority; 2]; 2], "DSCP {dscp}: {seen:?}");
    }
    flows(&street, &street.homes[0], &session)
}
