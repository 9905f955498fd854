//! Next hops out of the kernel's tables, and uplinks that change under traffic.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{Netns, cable, run};
use doorstep_tests::lab::street::{Gateway, Plan, Street};
use doorstep_tests::lab::traffic::{self, Pinger};
use doorstep_tests::lab::witness::Witness;
use doorstep_tests::suite::CaseResult;
use serde::Deserialize;

use crate::operators::{Strays, received};
use crate::support::{connect, counted, flows, needs_vlan_links, silent};

/// What `status` says of uplinks.
#[derive(Deserialize)]
pub struct Status {
    pub ports: Vec<Port>,
    pub operators: Vec<Operator>,
}

#[derive(Deserialize)]
pub struct Port {
    pub name: String,
    pub mac: String,
    pub mtu: u32,
    pub state: String,
}

#[derive(Deserialize)]
pub struct Operator {
    pub routing_table: Option<u32>,
    pub next_hop_v4: Option<NextHop>,
    pub next_hop_v6: Option<NextHop>,
}

#[derive(Deserialize)]
pub struct NextHop {
    pub address: IpAddr,
    pub mac: Option<String>,
}

fn status(gateway: &Gateway) -> Result<Status> {
    gateway.daemon.ask_json(&["status"])
}

/// How soon the daemon must have followed.
pub const SOON: Duration = Duration::from_secs(1);
/// How soon it must have started anew.
pub const ANEW: Duration = Duration::from_secs(40);

/// Waits until the daemon says what is expected of it. While it starts anew it says nothing.
///
/// What it says when it is asked after that time must be so; how long the answer takes on its way is
/// another matter, and so is the time in which this machine did something else.
pub fn wait_until(
    gateway: &Gateway,
    what: &str,
    patience: Duration,
    holds: impl Fn(&Status) -> bool,
) -> Result<()> {
    let witness = Witness::start();
    loop {
        let asked = witness.awake();
        if status(gateway).is_ok_and(|status| holds(&status)) {
            return Ok(());
        }
        ensure!(
            asked <= patience,
            "{what}: not within {patience:?}, and {:?} held up\n{}",
            witness.held_up(),
            gateway.daemon.log_tail()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until an operator's next hops are resolved, or both are not.
pub fn wait_for_hops(gateway: &Gateway, operator: usize, resolved: bool) -> Result<()> {
    let what = if resolved { "resolved" } else { "unresolved" };
    wait_until(gateway, what, ANEW, |status| {
        let operator = &status.operators[operator];
        let hops = [&operator.next_hop_v4, &operator.next_hop_v6];
        let is_resolved =
            |hop: &&Option<NextHop>| hop.as_ref().is_some_and(|hop| hop.mac.is_some());
        hops.iter().all(|hop| is_resolved(hop) == resolved)
    })
}

/// Waits until the daemon has heard that an operator's router for IPv4 is not resolved any more.
pub fn wait_for_loss_of_v4(gateway: &Gateway, operator: usize) -> Result<()> {
    wait_until(gateway, "unresolved", ANEW, |status| {
        let hop = status.operators[operator].next_hop_v4.as_ref();
        hop.is_none_or(|hop| hop.mac.is_none())
    })
}

/// Waits until an operator's IPv4 goes by this next hop, in XDP.
fn wait_for_v4(gateway: &Gateway, operator: usize, address: &str) -> Result<()> {
    let wanted: IpAddr = address.parse()?;
    wait_until(gateway, address, SOON, |status| {
        let hop = status.operators[operator].next_hop_v4.as_ref();
        hop.is_some_and(|hop| hop.address == wanted && hop.mac.is_some())
    })
}

pub fn port<'s>(status: &'s Status, name: &str) -> Option<&'s Port> {
    status.ports.iter().find(|port| port.name == name)
}

/// A street whose gateway takes the next hops of each operator from a table of the kernel's.
fn street(plan: Plan, tables: &[u32], change: impl Fn(String) -> String) -> Result<Street> {
    let mut street = Street::new(plan)?;
    let gateway = &street.gateways[0];
    gateway.daemon.stop()?;
    let mut tables = tables.iter();
    let mut lines = Vec::new();
    for line in std::fs::read_to_string(&gateway.config)?.lines() {
        match line.starts_with("next_hops") {
            true => {
                let table = tables.next().context("a table for each operator")?;
                lines.push(format!("routing_table = {table}"));
            }
            false => lines.push(line.to_owned()),
        }
    }
    std::fs::write(&gateway.config, change(lines.join("\n")))?;
    street.restart_gateway(0)?;
    Ok(street)
}

fn as_it_is(config: String) -> String {
    config
}

/// Gives the first operator's uplink two routers, with a MAC address each: `r1` is the street's
/// own, 192.0.2.5; `r2` is 192.0.2.129.
fn two_routers(street: &Street) -> Result<()> {
    let (inet, gateway) = (&street.inet, &street.gateways[0].netns);
    inet.ip("link add seg type bridge mcast_snooping 0")?;
    inet.ip("link set seg up")?;
    inet.ip("addr flush dev gw1 scope global")?;
    for (sysctl, value) in [("arp_ignore", "1"), ("rp_filter", "0")] {
        inet.sysctl(&format!("net/ipv4/conf/all/{sysctl}"), value)?;
    }
    for router in ["r1", "r2"] {
        cable((inet, router), (inet, &format!("{router}p")))?;
        inet.ip(&format!("link set {router}p master seg"))?;
        inet.offload(router, "tx off")?;
        inet.sysctl(&format!("net/ipv4/conf/{router}/rp_filter"), "0")?;
        inet.sysctl(&format!("net/ipv4/conf/{router}/arp_notify"), "1")?;
    }
    inet.ip("link set gw1 master seg")?;
    inet.ip("addr add 192.0.2.5/30 dev r1")?;
    inet.ip("addr add 2001:db8:ff1::1/64 dev r1 nodad")?;
    inet.ip("addr add 192.0.2.129/30 dev r2")?;
    inet.ip("route replace 100.64.1.0/24 via 192.0.2.6 dev r1")?;
    inet.ip("route replace 2001:db8:1100::/40 via 2001:db8:ff1::2 dev r1")?;
    gateway.ip("addr add 192.0.2.130/30 dev uplink0")?;
    gateway.ip("neigh flush dev uplink0")?;
    Ok(())
}

/// The routing daemon chooses another router while traffic flows; later that router gets another
/// MAC address.
pub fn default_route_replaced() -> CaseResult {
    let street = street(Plan::default(), &[100], as_it_is)?;
    two_routers(&street)?;
    let gateway = &street.gateways[0];
    gateway
        .netns
        .ip("route add default via 192.0.2.5 dev uplink0 table 100")?;
    gateway
        .netns
        .ip("route add default via 2001:db8:ff1::1 dev uplink0 table 100")?;
    wait_for_v4(gateway, 0, "192.0.2.5")?;
    let session = connect(&street, 0)?;

    let home = &street.homes[0].netns;
    let pinger = Pinger::start(home, street.echo(false), Duration::from_millis(2))?;
    let started = Instant::now();
    pinger.wait_for_answer(started, ANEW)?;
    gateway
        .netns
        .ip("route replace default via 192.0.2.129 dev uplink0 table 100")?;
    wait_for_v4(gateway, 0, "192.0.2.129")?;
    let before = received(&street.inet, "r2")?;
    let forwarded = counted(gateway, "forwarded_upstream", || {
        let (since, end) = (Instant::now(), Instant::now() + ANEW);
        let answered = || {
            let echoes = pinger.echoes().into_iter();
            let later = echoes.filter(|echo| echo.sent >= since);
            later.filter(|echo| echo.answered.is_some()).count()
        };
        while answered() < 100 {
            ensure!(Instant::now() < end, "{} are answered", answered());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    })?;
    let by_second = received(&street.inet, "r2")? - before;
    ensure!(
        forwarded > 50 && by_second > 50,
        "{forwarded} forwarded, {by_second} came by the second router"
    );

    // What has no resolved next hop goes by the kernel, which loses nothing.
    let sent = pinger.echoes().len();
    pinger.settle();
    let echoes = &pinger.echoes()[..sent];
    let lost = echoes.iter().filter(|echo| echo.answered.is_none()).count();
    ensure!(lost == 0, "{lost} of {sent} lost");

    street.inet.ip("link set r2 address 02:00:00:00:00:99")?;
    let resolved_to = |mac: &'static str| {
        move |status: &Status| {
            let hop = status.operators[0].next_hop_v4.as_ref();
            hop.and_then(|hop| hop.mac.as_deref()) == Some(mac)
        }
    };
    wait_until(
        gateway,
        "the router's new MAC address",
        SOON,
        resolved_to("02:00:00:00:00:99"),
    )?;
    pinger.wait_for_answer(Instant::now(), ANEW)?;
    pinger.stop()?;
    flows(&street, &street.homes[0], &session)
}

/// Each operator by its own table; and never by another's uplink, whatever its table says.
pub fn a_table_for_each_operator() -> CaseResult {
    let plan = Plan {
        operators: 2,
        homes: 2,
        ..Plan::default()
    };
    let street = street(plan, &[254, 101], as_it_is)?;
    let gateway = &street.gateways[0];
    let ip = |words: &str| gateway.netns.ip(words).map(drop);
    ip("route add default via 192.0.2.69 dev uplink1 table 101")?;
    ip("route add default via 2001:db8:fe1::1 dev uplink1 table 101")?;
    // The host's own table has the first operator's next hops already.
    for (operator, address) in [(0, "192.0.2.5"), (1, "192.0.2.69")] {
        wait_for_v4(gateway, operator, address)?;
    }
    let tables: Vec<_> = status(gateway)?
        .operators
        .iter()
        .map(|operator| operator.routing_table)
        .collect();
    ensure!(tables == [Some(254), Some(101)], "{tables:?}");
    let sessions = [connect(&street, 0)?, connect(&street, 1)?];
    let said = run(gateway
        .netns
        .command(bin_dir()?.join("doorstep-gateway"))?
        .arg("check")
        .arg("--config")
        .arg(&gateway.config))?;
    ensure!(
        said.contains("192.0.2.69, 2001:db8:fe1::1, by table 101"),
        "{said}"
    );

    ip("route replace default via 192.0.2.5 dev uplink0 table 101")?;
    wait_until(gateway, "no next hop over the own uplink", SOON, |status| {
        status.operators[1].next_hop_v4.is_none()
    })?;
    let strays = Strays::watch(&street, "gw1")?;
    let unresolved = counted(gateway, "kernel_unresolved", || {
        for _ in 0..3 {
            silent(
                &street.homes[1].netns,
                sessions[1].v4()?,
                street.echo(false).ip(),
            )?;
        }
        Ok(())
    })?;
    ensure!(unresolved >= 3, "{unresolved} took the kernel's path");
    strays.none_of(&sessions[1])?;
    flows(&street, &street.homes[0], &sessions[0])?;

    ip("route replace default via 192.0.2.69 dev uplink1 table 101")?;
    wait_for_v4(gateway, 1, "192.0.2.69")?;
    flows(&street, &street.homes[1], &sessions[1])
}

/// So much changes at once that the kernel cannot tell all of it.
pub fn events_are_lost() -> CaseResult {
    let street = street(Plan::default(), &[100], as_it_is)?;
    two_routers(&street)?;
    let gateway = &street.gateways[0];
    let ip = |words: &str| gateway.netns.ip(words).map(drop);
    ip("route add default via 192.0.2.5 dev uplink0 table 100")?;
    ip("route add default via 2001:db8:ff1::1 dev uplink0 table 100")?;
    wait_for_v4(gateway, 0, "192.0.2.5")?;
    gateway.daemon.freeze(true)?;
    let mut batch = String::new();
    for number in 0..5000 {
        let (high, low) = (number / 256, number % 256);
        writeln!(
            batch,
            "route add 10.{high}.{low}.0/24 via 192.0.2.5 dev uplink0 table 7"
        )?;
    }
    let file = street.dir().join("batch");
    std::fs::write(&file, batch)?;
    ip(&format!("-batch {}", file.display()))?;
    ip("route replace default via 192.0.2.129 dev uplink0 table 100")?;
    gateway.daemon.freeze(false)?;
    let wanted: IpAddr = "192.0.2.129".parse()?;
    wait_until(gateway, "all listed anew", ANEW, |status| {
        let hop = status.operators[0].next_hop_v4.as_ref();
        hop.is_some_and(|hop| hop.address == wanted && hop.mac.is_some())
    })?;
    ensure!(
        gateway
            .daemon
            .log()
            .contains("events of the kernel's were lost"),
        "no event was lost"
    );
    connect(&street, 0).map(drop)
}

/// The forms that a default route may have.
pub fn forms_of_routes() -> CaseResult {
    let street = street(Plan::default(), &[100], as_it_is)?;
    let gateway = &street.gateways[0];
    let ip = |words: &str| gateway.netns.ip(words).map(drop);
    ip("route add default via 2001:db8:ff1::1 dev uplink0 table 100")?;
    ip("-4 route add default via inet6 2001:db8:ff1::1 dev uplink0 table 100")?;
    wait_for_v4(gateway, 0, "2001:db8:ff1::1")?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0];
    let by_xdp = |what: &str| -> Result<()> {
        wait_for_hops(gateway, 0, true)?;
        let slow = counted(gateway, "kernel_unresolved", || {
            flows(&street, home, &session)
        })
        .with_context(|| what.to_owned())?;
        ensure!(slow == 0, "{what}: {slow} packets took the kernel's path");
        Ok(())
    };
    by_xdp("IPv4 by IPv6")?;
    // While its router is not resolved, the kernel carries IPv4 by IPv6, too.
    let own = session.v4()?;
    let kernel = counted(gateway, "kernel_unresolved", || {
        // It says nothing for a moment, in which the kernel holds what it is given.
        street.inet.ip("-6 addr del 2001:db8:ff1::1/64 dev gw1")?;
        ip("neigh del 2001:db8:ff1::1 dev uplink0")?;
        wait_for_hops(gateway, 0, false)?;
        std::thread::scope(|scope| -> Result<()> {
            let world = street.echo(false).ip();
            let pinging = scope.spawn(move || traffic::ping(&home.netns, Some(own), world, 3));
            std::thread::sleep(Duration::from_millis(300));
            street
                .inet
                .ip("-6 addr add 2001:db8:ff1::1/64 dev gw1 nodad")?;
            pinging.join().expect("no panic")
        })
    })?;
    ensure!(kernel > 0, "the neighbour was never unresolved");

    cable((&gateway.netns, "other0"), (&street.street, "other0"))?;
    ip("addr add 198.51.100.1/24 dev other0")?;
    ip("route replace default table 100 \
        nexthop via 198.51.100.9 dev other0 nexthop via 192.0.2.5 dev uplink0")?;
    wait_for_v4(gateway, 0, "192.0.2.5")?;
    by_xdp("multipath")?;

    ip("-4 route del default table 100")?;
    ip("nexthop add id 7 via 192.0.2.5 dev uplink0")?;
    ip("-4 route add default nhid 7 table 100")?;
    wait_for_v4(gateway, 0, "192.0.2.5")?;
    by_xdp("a next-hop object")
}

/// The uplink is a VLAN, with a link of the kernel's that goes away and comes back.
pub fn on_a_vlan() -> CaseResult {
    needs_vlan_links()?;
    let change = |config: String| {
        config.replace(
            "uplink = \"uplink0\"",
            "uplink = \"uplink0\"\nuplink_vlan = 7",
        )
    };
    let street = street(Plan::default(), &[100], change)?;
    let (gateway, inet) = (&street.gateways[0], &street.inet);
    inet.offload("gw1", "txvlan off")?;
    inet.ip("addr flush dev gw1 scope global")?;
    gateway.netns.ip("addr flush dev uplink0 scope global")?;
    vlan(inet, "gw1", ["192.0.2.5/30", "2001:db8:ff1::1/64"])?;
    inet.ip("route replace 100.64.1.0/24 via 192.0.2.6 dev gw1.7")?;
    inet.ip("route replace 2001:db8:1100::/40 via 2001:db8:ff1::2 dev gw1.7")?;
    let near = || -> Result<()> {
        vlan(
            &gateway.netns,
            "uplink0",
            ["192.0.2.6/30", "2001:db8:ff1::2/64"],
        )?;
        for router in ["192.0.2.5", "2001:db8:ff1::1"] {
            let words = format!("route add default via {router} dev uplink0.7 table 100");
            gateway.netns.ip(&words)?;
        }
        wait_for_v4(gateway, 0, "192.0.2.5")
    };
    near()?;
    let session = connect(&street, 0)?;
    gateway.netns.ip("link del uplink0.7")?;
    wait_until(gateway, "no next hop", SOON, |status| {
        let operator = &status.operators[0];
        operator.next_hop_v4.is_none() && operator.next_hop_v6.is_none()
    })?;
    silent(
        &street.homes[0].netns,
        session.v4()?,
        street.echo(false).ip(),
    )?;
    near()?;
    flows(&street, &street.homes[0], &session)
}

fn vlan(netns: &Netns, port: &str, addresses: [&str; 2]) -> Result<()> {
    let name = format!("{port}.7");
    netns.ip(&format!("link add link {port} name {name} type vlan id 7"))?;
    netns.ip(&format!("link set {name} up"))?;
    let [v4, v6] = addresses;
    netns.ip(&format!("addr add {v4} dev {name}"))?;
    netns.ip(&format!("addr add {v6} dev {name} nodad"))?;
    Ok(())
}
