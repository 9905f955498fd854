//! A gateway or a terminal that is silent: noticed, told, and nothing torn down.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{at_server, connect, flows, logs, packets, unnoticed};

/// Both ends promise less: the terminal notices within three seconds, the gateway within four. The
/// rest is for a busy machine.
const NOTICED: Duration = Duration::from_secs(10);
/// A gateway tells its server each ten seconds.
const TOLD: Duration = Duration::from_secs(30);
/// Coming back takes one question.
const HEARD: Duration = Duration::from_secs(20);

fn at_terminal(street: &Street) -> Result<Value> {
    let status: Value = street.homes[0].terminal.ask_json(&["status"])?;
    Ok(status["sessions"][0].clone())
}

fn at_gateway(street: &Street) -> Result<Value> {
    let mut sessions: Vec<Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    sessions.pop().context("the gateway has no session")
}

fn until(
    street: &Street,
    what: &str,
    patience: Duration,
    is_so: impl Fn(&Street) -> Result<bool>,
) -> Result<Duration> {
    let begin = Instant::now();
    while !is_so(street)? {
        ensure!(
            begin.elapsed() < patience,
            "not {what} after {patience:?}; {:?}:\n{}",
            packets(&street.gateways[0]).map(counted_only),
            logs(street, &street.homes[0])
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(begin.elapsed())
}

/// Reasons with packets.
fn counted_only(mut packets: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    packets.retain(|_, count| *count > 0);
    packets
}

fn terminal_says(street: &Street, state: &str, patience: Duration) -> Result<Duration> {
    until(street, state, patience, |street| {
        Ok(at_terminal(street)?["state"] == state)
    })
}

fn gateway_says_silent(street: &Street, silent: bool, patience: Duration) -> Result<Duration> {
    let what = if silent { "silent" } else { "heard" };
    until(street, what, patience, |street| {
        Ok(at_gateway(street)?["silent_since_unix_ms"].is_null() != silent)
    })
}

/// The server hears of it with the counters.
fn server_says(street: &Street, session: &Session, liveness: &str) -> Result<()> {
    let what = format!("{liveness} to the server");
    until(street, &what, TOLD, |street| {
        let view = at_server(street.server(), &session.session_id)?;
        Ok(view["liveness"] == liveness)
    })
    .map(drop)
}

fn set_access(street: &Street, state: &str) -> Result<()> {
    let gateway = &street.gateways[0].netns;
    gateway.ip(&format!("link set access0 {state}")).map(drop)
}

fn has_address(street: &Street, address: IpAddr) -> Result<()> {
    let addresses = street.homes[0].netns.ip("-o addr show")?;
    ensure!(addresses.contains(&address.to_string()), "{addresses}");
    Ok(())
}

/// The very session goes on: nobody has begun anything anew.
fn goes_on(street: &Street, session: &Session, steps: &Value) -> Result<()> {
    let now = at_terminal(street)?;
    ensure!(now["session_id"] == session.session_id.as_str(), "{now}");
    ensure!(&at_gateway(street)?["steps"] == steps, "{now}");
    flows(street, &street.homes[0], session)
}

/// A home that asks whether its session is alive answers nothing to the answers.
pub fn quiet() -> CaseResult {
    let street = Street::new(Plan::default())?;
    connect(&street, 0)?;
    let noise = || -> Result<u64> {
        let counted = packets(&street.gateways[0])?;
        counted.get("link_local").copied().context("no such reason")
    };
    let before = noise()?;
    // It asks each second.
    std::thread::sleep(Duration::from_secs(4));
    let more = noise()? - before;
    ensure!(more == 0, "{more} link-local packets in four seconds");
    Ok(())
}

/// The line is cut between gateway and building, and mended.
pub fn line_cut() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let steps = at_gateway(&street)?["steps"].clone();
    let before = at_terminal(&street)?;
    set_access(&street, "down")?;
    terminal_says(&street, "silent", NOTICED)?;
    let silent = at_terminal(&street)?;
    let detail = silent["detail"].as_str().unwrap_or_default();
    ensure!(
        detail.contains("does not answer on wan0") && detail.contains("cable"),
        "{silent}"
    );
    ensure!(silent["silent_since_unix_ms"].is_i64(), "{silent}");
    ensure!(silent["generation"] == before["generation"], "{silent}");
    has_address(&street, session.v4()?)?;
    until(&street, "asked about", HEARD, |street| {
        let log = street.homes[0].terminal.log();
        Ok(log.contains("asking the server again"))
    })?;
    gateway_says_silent(&street, true, NOTICED)?;
    let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
    ensure!(status["sessions"]["silent"] == 1, "{}", status["sessions"]);

    set_access(&street, "up")?;
    terminal_says(&street, "established", HEARD)?;
    gateway_says_silent(&street, false, HEARD)?;
    goes_on(&street, &session, &steps)?;
    street.homes[0].release(&session.session_id)
}

/// The gateway's host dies, and comes back with what its daemon has written down.
pub fn gateway_gone() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let steps = at_gateway(&street)?["steps"].clone();
    street.gateways[0].daemon.kill()?;
    set_access(&street, "down")?;
    terminal_says(&street, "silent", NOTICED)?;
    has_address(&street, session.v4()?)?;
    set_access(&street, "up")?;
    street.restart_gateway(0)?;
    terminal_says(&street, "established", HEARD)?;
    goes_on(&street, &session, &steps)
}

/// The daemon is away for longer than a gateway may be silent, while its kernel forwards.
pub fn daemon_gone() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let steps = at_gateway(&street)?["steps"].clone();
    unnoticed(&mut street, |street| {
        street.gateways[0].daemon.kill()?;
        std::thread::sleep(Duration::from_secs(4));
        ensure!(at_terminal(street)?["state"] == "established");
        street.restart_gateway(0)?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    })?;
    let log = street.homes[0].terminal.log();
    ensure!(!log.contains("the gateway is silent"), "{log}");
    // What was heard while the daemon was away is known to the one that came after.
    ensure!(at_gateway(&street)?["silent_since_unix_ms"].is_null());
    goes_on(&street, &session, &steps)
}

/// The terminal is unplugged, and plugged in again. Only the operator ends sessions.
pub fn terminal_unplugged() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let steps = at_gateway(&street)?["steps"].clone();
    ensure!(at_gateway(&street)?["silent_since_unix_ms"].is_null());
    street.set_cable(0, false)?;
    gateway_says_silent(&street, true, NOTICED)?;
    let silent = at_gateway(&street)?;
    ensure!(silent["phase"] == "established", "{silent}");
    let detail = silent["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains("the terminal is silent"), "{silent}");
    server_says(&street, &session, "silent")?;
    let server = at_server(street.server(), &session.session_id)?;
    ensure!(server["state"] == "established", "{server}");
    let (told, own) = (&server["silent_since_unix_ms"], at_gateway(&street)?);
    let own = own["silent_since_unix_ms"].as_i64().context("heard")?;
    // Both are reckoned from how long it has been silent, which is read after the clock.
    let apart = told.as_i64().context("not told")?.abs_diff(own);
    ensure!(apart < 1000, "{server} {own}");
    let status: Value = street.server().ask_json(&["status"])?;
    ensure!(status["silent"] == 1, "{status}");
    let listed: Value = street.server().ask_json(&["sessions"])?;
    let listed = &listed["sessions"][0];
    ensure!(listed["liveness"] == "silent", "{listed}");
    terminal_says(&street, "silent", NOTICED)?;

    street.set_cable(0, true)?;
    gateway_says_silent(&street, false, HEARD)?;
    terminal_says(&street, "established", HEARD)?;
    server_says(&street, &session, "not_silent")?;
    let status: Value = street.server().ask_json(&["status"])?;
    ensure!(status["silent"] == 0, "{status}");
    goes_on(&street, &session, &steps)
}
