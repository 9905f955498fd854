//! Two operators at one gateway, each with its own server, uplink and addresses.

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;
use doorstep_tests::switching::Rig;

use crate::kernel_path::ping_once;
use crate::support::{at_server, connect, counted, flows, silent};

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

/// Each operator's packets leave by its own uplink, on the fast path and on the kernel's.
pub fn each_by_its_own_uplink() -> CaseResult {
    let street = street()?;
    let routers = ["gw1", "gw1-1"];
    for home in 0..2 {
        let session = connect(&street, home)?;
        let before = [
            received(&street.inet, routers[0])?,
            received(&street.inet, routers[1])?,
        ];
        flows(&street, &street.homes[home], &session)?;
        let after = [
            received(&street.inet, routers[0])?,
            received(&street.inet, routers[1])?,
        ];
        let other = 1 - home;
        ensure!(
            after[home] - before[home] > 50,
            "home {home}: {before:?} {after:?}"
        );
        // A neighbour may be confirmed meanwhile.
        ensure!(
            after[other] - before[other] < 10,
            "home {home}: {before:?} {after:?}"
        );
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
    let before = received(&street.inet, "gw1")?;
    let unresolved = counted(gateway, "kernel_unresolved", || {
        silent(
            &street.homes[1].netns,
            sessions[1].v4()?,
            street.echo(false).ip(),
        )
    })?;
    ensure!(unresolved > 0, "nothing took the kernel's path");
    ensure!(
        received(&street.inet, "gw1")? - before < 5,
        "the other operator's router was given the packets"
    );
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
    let before = received(&street.inet, "gw1")?;
    flows(street, home, &rig.session)?;
    ensure!(
        received(&street.inet, "gw1")? - before < 10,
        "still by the former operator's uplink"
    );
    let renewed = rig.leave_and_come()?;
    ensure!(
        switched.lost < renewed.lost && switched.longest < renewed.longest,
        "{switched:?}, and by an end and a beginning {renewed:?}"
    );
    Ok(())
}
