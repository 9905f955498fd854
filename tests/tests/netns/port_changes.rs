//! Ports that change or go away under traffic.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorstep_establish::Mac;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic;
use doorstep_tests::lab::witness::Witness;
use doorstep_tests::suite::CaseResult;

use crate::kernel_path::big_ping;
use crate::support::{connect, counted, flows, silent};
use crate::uplinks::{ANEW, SOON, Status, port, wait_for_hops, wait_until};

/// The uplink's own MAC address and MTU.
pub fn mac_and_mtu() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let (gateway, home) = (&street.gateways[0], &street.homes[0]);
    let session = connect(&street, 0)?;
    let mac = "02:00:00:00:00:77";
    gateway
        .netns
        .ip(&format!("link set uplink0 address {mac}"))?;
    street.inet.ip("neigh flush dev gw1")?;
    wait_until(gateway, "the uplink's MAC address", SOON, |status| {
        port(status, "uplink0").is_some_and(|port| port.mac == mac)
    })?;
    let down = counted(gateway, "forwarded_downstream", || {
        flows(&street, home, &session)
    })?;
    ensure!(down > 50, "{down} packets of the world's by XDP");

    gateway.netns.ip("link set uplink0 mtu 1400")?;
    wait_until(gateway, "the uplink's MTU", SOON, |status| {
        port(status, "uplink0").is_some_and(|port| port.mtu == 1400)
    })?;
    let target = street.echo(false).ip();
    let said = big_ping(&home.netns, Some(session.v4()?), target, 1450)?;
    ensure!(
        said.contains("mtu = 1400") || said.contains("mtu=1400"),
        "{said}"
    );
    gateway.netns.ip("link set uplink0 mtu 1500")?;
    wait_until(gateway, "the uplink's MTU", SOON, |status| {
        port(status, "uplink0").is_some_and(|port| port.mtu == 1500)
    })?;
    flows(&street, home, &session)
}

/// A link that goes down takes the kernel's routes with it; they are there again when it is up.
pub fn link_down_and_up() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let gateway = &street.gateways[0];
    let session = connect(&street, 0)?;
    let tables = || -> Result<String> {
        let tables = ["52001", "52101"].map(|table| -> Result<String> {
            let v4 = gateway.netns.ip(&format!("route show table {table}"))?;
            Ok(v4 + &gateway.netns.ip(&format!("-6 route show table {table}"))?)
        });
        let [home, world] = tables;
        Ok(home? + &world?)
    };
    let before = tables()?;
    for name in ["uplink0", "access0"] {
        let addresses = gateway
            .netns
            .ip(&format!("-o -6 addr show dev {name} scope global"))?;
        let state = |wanted: &'static str| {
            move |status: &Status| port(status, name).is_some_and(|port| port.state == wanted)
        };
        gateway.netns.ip(&format!("link set {name} down"))?;
        wait_until(gateway, "down", SOON, state("down"))?;
        gateway.netns.ip(&format!("link set {name} up"))?;
        // IPv6 addresses go with the link; whoever has set them sets them again.
        for address in addresses
            .lines()
            .filter_map(|line| line.split_whitespace().nth(3))
        {
            gateway
                .netns
                .ip(&format!("-6 addr replace {address} dev {name} nodad"))?;
        }
        wait_until(gateway, "up", SOON, state("up"))?;
        let witness = Witness::start();
        loop {
            let asked = witness.awake();
            let now = tables()?;
            if now == before {
                break;
            }
            ensure!(asked <= SOON, "before:\n{before}now:\n{now}");
            std::thread::sleep(Duration::from_millis(20));
        }
        wait_for_hops(gateway, 0, true)?;
        flows(&street, &street.homes[0], &session).with_context(|| name)?;
    }
    Ok(())
}

/// Ports that are taken away and come back as other devices, under a daemon that runs on.
pub fn ports_come_back() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let gateway = &street.gateways[0];
    let session = connect(&street, 0)?;
    let target = street.echo(false).ip();
    let mac_of = |name| traffic::mac(&gateway.netns, name).map(|mac| Mac(mac).to_string());
    for name in ["uplink0", "access0"] {
        let mac = mac_of(name)?;
        gateway.netns.ip(&format!("link del {name}"))?;
        wait_until(gateway, "absent", SOON, |status| {
            port(status, name).is_some_and(|port| port.state == "absent")
        })?;
        silent(&street.homes[0].netns, session.v4()?, target)?;
        match name {
            "uplink0" => street.connect_uplink(0, 0)?,
            _ => street.connect_access(0)?,
        }
        // A card keeps its address, and the homes know the gateway by it.
        gateway
            .netns
            .ip(&format!("link set {name} address {mac}"))?;
        street.inet.ip("neigh flush dev gw1")?;
        wait_until(gateway, "up again", ANEW, |status| {
            let up = |name| port(status, name).is_some_and(|port| port.state == "up");
            let hop = &status.operators[0].next_hop_v6;
            let same = port(status, name).is_some_and(|port| port.mac == mac);
            same && up("uplink0")
                && up("access0")
                && hop.as_ref().is_some_and(|hop| hop.mac.is_some())
        })?;
        let forwarded = counted(gateway, "forwarded_upstream", || {
            flows(&street, &street.homes[0], &session)
        })
        .with_context(|| format!("{name}: {}", gateway.daemon.log_tail()))?;
        ensure!(forwarded > 50, "{name}: {forwarded} by XDP");
    }
    // It is still in the hands of its server.
    street.homes[0].release(&session.session_id)
}
