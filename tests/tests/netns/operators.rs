//! Two operators at one gateway, each with its own server, uplink and addresses.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::capture::Capture;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;
use doorstep_tests::switching::Rig;

use crate::kernel_path::ping_once;
use crate::own_rooms::addresses;
use crate::support::{at_server, connect, counted, flows, silent};
use crate::uplinks::wait_for_loss_of_v4;

fn street() -> Result<Street> {
    Street::new(Plan {
        operators: 2,
        homes: 2,
        ..Plan::default()
    })
}

/// Packets that came in at an operator's router.
pub fn received(inet: &Netns, port: &str) -> Result<u64> {
    let text = inet.ip(&format!("-j -s link show {port}"))?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    links[0]["stats64"]["rx"]["packets"]
        .as_u64()
        .context("no counter")
}

/// Packets of subscribers at an operator's router, where there should be none.
pub struct Strays(Capture);

impl Strays {
    pub fn watch(street: &Street, port: &str) -> Result<Self> {
        Capture::start(&street.inet, port).map(Self)
    }

    /// None of a session has come. What routers say to each other does not count.
    pub fn none_of(&self, session: &Session) -> Result<()> {
        let own: [IpAddr; 2] = [session.v4()?, session.v6()?];
        let sent = self.0.so_far(|frame| {
            let (source, destination) = addresses(frame)?;
            own.contains(&source).then_some((source, destination))
        })?;
        ensure!(sent.is_empty(), "by another operator's uplink: {sent:?}");
        Ok(())
    }
}

/// Each operator's packets leave by its own uplink, on the fast path and on the kernel's.
pub fn each_by_its_own_uplink() -> CaseResult {
    let street = street()?;
    let routers = ["gw1", "gw1-1"];
    for home in 0..2 {
        let session = connect(&street, home)?;
        let strays = Strays::watch(&street, routers[1 - home])?;
        let before = received(&street.inet, routers[home])?;
        flows(&street, &street.homes[home], &session)?;
        let own = received(&street.inet, routers[home])? - before;
        ensure!(own > 50, "home {home}: {own} by its own operator's");
        strays
            .none_of(&session)
            .with_context(|| format!("home {home}"))?;
    }
    Ok(())
}

/// What the kernel answers comes from the operator's own address, and reaches the right line.
pub fn each_has_its_own_answers() -> CaseResult {
    let street = street()?;
    for (home, gateway) in [(0, "100.64.1.1"), (1, "100.65.1.1")] {
        let session = connect(&street, home)?;
        let netns = &street.homes[home].netns;
        let answered = counted(&street.gateways[0], "egress_to_line", || {
            ping(netns, Some(session.v4()?), gateway.parse()?, 3)
        })?;
        ensure!(answered == 3, "{answered} answers");
        let said = ping_once(netns, &street.echo(false).ip().to_string())?;
        ensure!(
            said.contains(&format!("From {gateway}")) && said.contains("Time to live exceeded"),
            "{said}"
        );
    }
    Ok(())
}

/// While an operator's router is away its subscribers go nowhere, and least of all by the other's.
pub fn a_router_away() -> CaseResult {
    let street = street()?;
    let sessions = [connect(&street, 0)?, connect(&street, 1)?];
    let gateway = &street.gateways[0];
    street.inet.ip("link set gw1-1 arp off")?;
    gateway.netns.ip("neigh del 192.0.2.69 dev uplink1")?;
    wait_for_loss_of_v4(gateway, 1)?;
    let strays = Strays::watch(&street, "gw1")?;
    let unresolved = counted(gateway, "kernel_unresolved", || {
        silent(
            &street.homes[1].netns,
            sessions[1].v4()?,
            street.echo(false).ip(),
        )
    })?;
    ensure!(unresolved > 0, "nothing took the kernel's path");
    strays.none_of(&sessions[1])?;
    flows(&street, &street.homes[0], &sessions[0])
}

/// A home goes from one operator to the other in one step, which it notices less than an end and a
/// beginning; the operator that it leaves is told, and its addresses go nowhere any more.
pub fn switched() -> CaseResult {
    let mut rig = Rig::new()?;
    let former = rig.session.clone();
    flows(&rig.street, &rig.street.homes[0], &former)?;
    let switched = rig.switch()?;
    let (street, home) = (&rig.street, &rig.street.homes[0]);
    flows(street, home, &rig.session)?;
    let [north, south] = &street.operators[..] else {
        anyhow::bail!("two operators");
    };
    let ended = at_server(&north.server, &former.session_id)?;
    ensure!(ended["state"] == "released", "{ended:#}");
    ensure!(
        ended.to_string().contains("replaced by the terminal"),
        "{ended:#}"
    );
    ensure!(!ended.to_string().contains(south.name), "{ended:#}");
    let own = at_server(&south.server, &rig.session.session_id)?;
    ensure!(own["state"] == "established", "{own:#}");
    let strays = Strays::watch(street, "gw1")?;
    flows(street, home, &rig.session)?;
    strays
        .none_of(&rig.session)
        .context("still by the former operator's uplink")?;
    let renewed = rig.leave_and_come()?;
    ensure!(
        switched.lost < renewed.lost && switched.most_at_once < renewed.most_at_once,
        "{switched:?}, and by an end and a beginning {renewed:?}"
    );
    Ok(())
}
