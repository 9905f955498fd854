//! Homes without our terminal: their routers ask by DHCP, through QinQ and the real gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cpe::{Client, Cpe};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::{Pinger, answers, download, ping};
use doorstep_tests::lab::witness::Witness;
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{at_server, counted, packets};

/// Clients wait for seconds between their questions, and after a refusal.
const PATIENCE: Duration = Duration::from_secs(60);
const PORT: &str = "wan0";

/// A street whose first home has no terminal, and its subscriber, whom only the operator knows.
fn street() -> Result<(Street, String)> {
    let street = Street::new(Plan {
        gateways: 2,
        line_prefixes: true,
        ..Plan::default()
    })?;
    street.homes[0].terminal.stop()?;
    for gateway in 0..2 {
        street.hear_answers(gateway)?;
    }
    let file = street.dir().join("subscribers.csv");
    std::fs::write(&file, format!("phone\n{}\n", street.homes[0].phone()))?;
    let file = file.to_string_lossy();
    street.server().ask(&["subscribers", "import", &file])?;
    let all: Value = street.server().ask_json(&["subscribers"])?;
    let first = all["subscribers"].get(0).context("nobody is known")?;
    let subscriber = text(first, "subscriber_id");
    Ok((street, subscriber))
}

pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Has the operator open a session in a building; its id.
fn open(street: &Street, subscriber: &str, building: usize) -> Result<String> {
    let location = street.location(building, 0);
    let words = ["sessions", "connect", &location, "--subscriber", subscriber];
    let words = [&words[..], &["--establishment", "dhcp"]].concat();
    let opened: Value = street.server().ask_json(&words)?;
    Ok(text(&opened, "session_id"))
}

fn cpe(street: &Street, client: Client) -> Result<Cpe> {
    let dir = street.dir().join(client.name());
    Cpe::start(client, &street.homes[0].netns, &dir)
}

/// The address that the server has given to a session.
fn given(street: &Street, session: &str) -> Result<IpAddr> {
    let detail = at_server(street.server(), session)?;
    Ok(text(&detail, "ipv4_address").parse()?)
}

fn reaches(street: &Street, session: &str, state: &str) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let detail = at_server(street.server(), session)?;
        if detail["state"] == state {
            return Ok(detail);
        }
        ensure!(Instant::now() < end, "not {state}: {detail}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What gateways and the home say, for error messages.
pub(crate) fn explain(street: &Street) -> String {
    let counted: Vec<_> = street.gateways.iter().map(packets).collect();
    let home = ["-4 addr show", "-4 route show", "neigh show"];
    let home = home.map(|words| street.homes[0].netns.ip(words));
    format!("{counted:?} {home:?}")
}

/// Traffic both ways, begun by either side.
fn flows(street: &Street, own: IpAddr) -> Result<()> {
    let home = &street.homes[0].netns;
    ping(home, Some(own), street.echo(false).ip(), 3).with_context(|| explain(street))?;
    download(home, street.http(false), Some(own), 1_000_000, |_| {})?;
    ping(&street.inet, None, own, 3)
}

fn silent(street: &Street) -> Result<()> {
    let home = &street.homes[0].netns;
    let answered = answers(home, None, street.echo(false).ip())?;
    ensure!(!answered, "the world answers");
    Ok(())
}

/// An address of the home's port in the prefix of its line, made by its kernel.
fn own_v6(street: &Street, session: &str) -> Result<Option<IpAddr>> {
    let detail = at_server(street.server(), session)?;
    let line: ipnet::Ipv6Net = text(&detail, "ipv6_line_prefix").parse()?;
    let words = format!("-6 -o addr show dev {PORT} scope global -tentative -deprecated");
    let shown = street.homes[0].netns.ip(&words)?;
    let mut addresses = shown.split_whitespace().filter_map(|word| {
        let address: Ipv6Addr = word.split_once('/')?.0.parse().ok()?;
        line.contains(&address).then_some(IpAddr::V6(address))
    });
    Ok(addresses.next_back())
}

/// IPv6 by what the router makes of the line's prefix, both ways.
fn flows_v6(street: &Street, session: &str) -> Result<IpAddr> {
    until(|| Ok(own_v6(street, session)?.is_some())).with_context(|| explain(street))?;
    let own = own_v6(street, session)?.context("it is gone")?;
    let home = &street.homes[0].netns;
    ping(home, Some(own), street.echo(true).ip(), 3).with_context(|| explain(street))?;
    download(home, street.http(true), Some(own), 1_000_000, |_| {})?;
    ping(&street.inet, None, own, 3)?;
    Ok(own)
}

/// Opens a session, starts a router, and sees it served.
pub(crate) fn served(client: Client) -> Result<(Street, String, Cpe)> {
    let (street, subscriber) = street()?;
    let session = open(&street, &subscriber, 0)?;
    let cpe = cpe(&street, client)?;
    let own = given(&street, &session)?;
    cpe.wait_for(own, PATIENCE)?;
    let view = reaches(&street, &session, "established")?;
    ensure!(view["establishment"] == "dhcp", "{view}");
    flows(&street, own)?;
    flows_v6(&street, &session)?;
    let packets = packets(&street.gateways[0])?;
    for reason in ["forwarded_upstream", "forwarded_downstream", "punt_dhcp"] {
        ensure!(packets[reason] >= 2, "{reason}: {packets:?}");
    }
    Ok((street, session, cpe))
}

/// Moves the home: the operator says so, and somebody carries the router over.
fn relocate(street: &mut Street, session: &str) -> Result<IpAddr> {
    let former = given(street, session)?;
    street.set_cable(0, false)?;
    let location = street.location(1, 0);
    street
        .server()
        .ask(&["sessions", "move", session, &location])?;
    street.plug(0, 1)?;
    street.set_cable(0, true)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let own = given(street, session)?;
        if own != former {
            return Ok(own);
        }
        ensure!(Instant::now() < end, "the session does not move");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pings from the first home.
fn pinger(street: &Street) -> Result<Pinger> {
    let every = Duration::from_millis(2);
    Pinger::start(&street.homes[0].netns, street.echo(false), every)
}

/// The whole life of a session with the client that most routers have.
pub fn udhcpc() -> CaseResult {
    let (mut street, session, cpe) = served(Client::Udhcpc)?;
    let pinger = pinger(&street)?;
    let moving = Instant::now();
    let own = relocate(&mut street, &session)?;
    cpe.wait_for(own, PATIENCE)?;
    reaches(&street, &session, "established")?;
    pinger.wait_for_answer(moving, PATIENCE)?;
    pinger.stop()?;
    flows(&street, own)?;
    let own_v6 = flows_v6(&street, &session)?;

    // The lease outlives the daemon.
    street.gateways[1].daemon.kill()?;
    street.restart_gateway(1)?;
    let renewed = counted(&street.gateways[1], "punt_dhcp", || {
        let renewals = cpe.log().matches("script: renew").count();
        cpe.renew()?;
        until(|| Ok(cpe.log().matches("script: renew").count() > renewals))
            .with_context(|| cpe.log())
    })?;
    ensure!(renewed >= 1, "nothing was asked");
    flows(&street, own)?;

    // What has ended at the gateway ends at the router when it renews.
    street.server().ask(&["sessions", "disconnect", &session])?;
    reaches(&street, &session, "released")?;
    silent(&street)?;
    cpe.renew()?;
    cpe.wait_until(PATIENCE, |address| address.is_none())?;
    // Of IPv6 the line was told at once.
    let words = format!("-6 -o addr show dev {PORT} to {own_v6} -deprecated");
    let left = street.homes[0].netns.ip(&words)?;
    ensure!(left.is_empty(), "not deprecated: {left}");
    let routes = street.homes[0].netns.ip("-6 route show default")?;
    ensure!(routes.is_empty(), "a router is left: {routes}");
    ensure!(cpe.log().contains("script: nak"), "{}", cpe.log());
    Ok(())
}

pub(crate) fn until(mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A router with another address takes over at once, and one that asks too early is served later.
pub fn routers_come_and_go() -> CaseResult {
    let (street, session, mut cpe) = served(Client::Udhcpc)?;
    let own = given(&street, &session)?;
    cpe.kill();
    let netns = &street.homes[0].netns;
    netns.ip(&format!("-4 addr flush dev {PORT}"))?;
    netns.ip(&format!("link set {PORT} address 02:00:00:00:77:01"))?;
    let cpe = self::cpe(&street, Client::Udhcpc)?;
    cpe.wait_for(own, PATIENCE)?;
    until(|| {
        let shown = at_server(street.server(), &session)?;
        Ok(shown["terminal_mac"] == "02:00:00:00:77:01")
    })?;
    flows(&street, own)?;
    drop(cpe);

    street.server().ask(&["sessions", "disconnect", &session])?;
    let ended = reaches(&street, &session, "released")?;
    netns.ip(&format!("-4 addr flush dev {PORT}"))?;
    let early = self::cpe(&street, Client::Udhcpc)?;
    until(|| {
        Ok(
            street.gateways[0].daemon.ask_json::<Value>(&["status"])?["dhcp"]["no_session"]
                != Value::Null,
        )
    })?;
    let again = open(&street, &text(&ended, "subscriber_id"), 0)?;
    let own = given(&street, &again)?;
    early.wait_for(own, PATIENCE)?;
    flows(&street, own)
}

/// The longest that a home may be without traffic once the gateway that it has come to is told of it.
/// It is the protocol that this bound is about: a client that was not heard asks again after three
/// seconds, and one that is not refused at once waits for longer still. Nothing on the way takes more
/// than some ten milliseconds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A home whose router asks at the new building before the server has moved its session has traffic
/// as soon as it has. Nothing is done to the router but that its cable is carried over.
pub fn moved_at_once() -> CaseResult {
    let (mut street, session, cpe) = served(Client::Udhcpc)?;
    let pinger = pinger(&street)?;
    street.set_cable(0, false)?;
    street.plug(0, 1)?;
    street.set_cable(0, true)?;
    until(|| {
        let status: Value = street.gateways[1].daemon.ask_json(&["status"])?;
        Ok(status["dhcp"]["no_session"].as_u64() >= Some(1))
    })
    .with_context(|| cpe.log())?;
    // Before the second gateway's connect: disconnect and receipt of the first one come first.
    let (moving, witness) = (Instant::now(), Witness::start());
    let location = street.location(1, 0);
    street
        .server()
        .ask(&["sessions", "move", &session, &location])?;
    let answered = pinger
        .wait_for_answer(moving, PATIENCE)
        .with_context(|| format!("{}\n{:?}", cpe.log(), explain(&street)))?;
    // Not the time in which this machine did something else.
    let (took, held_up) = (answered - moving, witness.held_up());
    ensure!(
        took.saturating_sub(held_up) <= AT_ONCE,
        "traffic again only after {took:?}, {held_up:?} of it held up: {}",
        cpe.log()
    );
    pinger.stop()?;
    reaches(&street, &session, "established")?;
    let own = given(&street, &session)?;
    cpe.wait_for(own, PATIENCE)?;
    flows(&street, own)
}

/// A client that was told how a FORCERENEW is signed hears of the end of its session at once, long
/// before it would renew.
pub fn forced_to_renew() -> CaseResult {
    let (street, session, cpe) = served(Client::Dhcpcd)?;
    street.server().ask(&["sessions", "disconnect", &session])?;
    reaches(&street, &session, "released")?;
    cpe.wait_until(PATIENCE, |address| address.is_none())?;
    let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
    for what in ["forced_to_renew", "refused"] {
        ensure!(status["dhcp"][what].as_u64() >= Some(1), "{what}: {status}");
    }
    ensure!(cpe.log().contains("Force Renew from"), "{}", cpe.log());
    silent(&street)
}

/// A client that comes from the other gateway is served at once, and refused the lease that it had if
/// it asks for that.
fn reboots(client: Client, refusal: Option<&str>) -> CaseResult {
    let (mut street, session, mut cpe) = served(client)?;
    let former = given(&street, &session)?;
    if client == Client::Dhclient {
        // It does not look at its port: somebody turns it off and on.
        cpe.kill();
    }
    let own = relocate(&mut street, &session)?;
    let cpe = match client {
        // Nobody else asks before it does.
        Client::Dhclient => {
            reaches(&street, &session, "establishing")?;
            self::cpe(&street, client)?
        }
        Client::Udhcpc | Client::Dhclient6 | Client::Dhcp6c | Client::Dhcpcd => cpe,
    };
    cpe.wait_for(own, PATIENCE)?;
    reaches(&street, &session, "established")?;
    let IpAddr::V4(former) = former else {
        anyhow::bail!("not IPv4");
    };
    ensure!(holds(&street)? != Some(former), "it has {former} still");
    flows(&street, own)?;
    if let Some(refusal) = refusal {
        let (log, gateway) = (cpe.log(), &street.gateways[1]);
        ensure!(log.contains(refusal), "not refused: {log}");
        let status: Value = gateway.daemon.ask_json(&["status"])?;
        ensure!(status["dhcp"]["refused"].as_u64() >= Some(1), "{status}");
    }
    Ok(())
}

fn holds(street: &Street) -> Result<Option<Ipv4Addr>> {
    let text = street.homes[0]
        .netns
        .ip(&format!("-4 -o addr show dev {PORT}"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
    let net = words.nth(1).and_then(|net| net.split('/').next());
    Ok(net.map(str::parse).transpose()?)
}

pub fn dhclient() -> CaseResult {
    reboots(Client::Dhclient, Some("DHCPNAK from"))
}

/// It does not go on with a lease that has a nonce, and starts anew by itself.
pub fn dhcpcd() -> CaseResult {
    reboots(Client::Dhcpcd, None)
}

/// What a router gives back the session keeps, for another one to take.
pub fn released() -> CaseResult {
    let (street, session, mut cpe) = served(Client::Dhclient)?;
    cpe.release()?;
    until(|| {
        let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
        Ok(status["dhcp"]["released"] == 1)
    })?;
    let own = given(&street, &session)?;
    drop(cpe);
    let cpe = self::cpe(&street, Client::Udhcpc)?;
    cpe.wait_for(own, PATIENCE)?;
    flows(&street, own)
}
