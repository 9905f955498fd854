//! Lines that are blocked: nothing passes, nothing is lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::capture::Capture;
use doorstep_tests::lab::street::{ECHO_PORT, Plan, Session, Street, location};
use doorstep_tests::lab::traffic::{mac, ping, reaches};
use doorstep_tests::suite::CaseResult;
use serde_json::{Value, json};

use crate::support::{connect, counted, flows};

/// How long a terminal may take that was not asked for a while.
const PATIENCE: Duration = Duration::from_secs(30);

fn two_homes() -> Result<Street> {
    Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })
}

/// Blocks or unblocks the line of a home; what the command says.
fn set(street: &Street, home: usize, action: &str) -> Result<Value> {
    let location = location(0, home);
    let words = ["lines", action, "--location", &location];
    street.gateways[0].daemon.ask_json(&words)
}

/// What `sessions` says of a session.
fn at_gateway(street: &Street, session: &str) -> Result<Value> {
    let sessions: Vec<Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    let own = |shown: &Value| shown["session_id"] == session;
    sessions.into_iter().find(own).context("no such session")
}

/// The same once its terminal, which nobody has answered meanwhile, is heard again.
fn until_heard(street: &Street, session: &str) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let shown = at_gateway(street, session)?;
        if shown["silent_since_unix_ms"].is_null() {
            return Ok(shown);
        }
        ensure!(Instant::now() < end, "still silent: {shown}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nobody answers the home.
fn is_silent(street: &Street, home: usize, session: &Session) -> Result<()> {
    let netns = &street.homes[home].netns;
    for (v6, own) in [(false, session.v4()?), (true, session.v6()?)] {
        let world = street.echo(v6);
        ensure!(!reaches(netns, own, world)?, "{own} reaches {world}");
    }
    Ok(())
}

/// Nothing passes the line, either way, and that is why.
fn is_blocked(street: &Street, home: usize, session: &Session) -> Result<()> {
    let gateway = &street.gateways[0];
    let up = counted(gateway, "blocked_line", || is_silent(street, home, session))?;
    ensure!(up >= 2, "{up} dropped, of both families");
    let wire = Capture::start(&street.homes[home].netns, "wan0")?;
    let down = counted(gateway, "blocked_line", || {
        for (v6, own) in [(false, session.v4()?), (true, session.v6()?)] {
            let world = street.echo(v6).ip();
            let answered = reaches(&street.inet, world, SocketAddr::new(own, ECHO_PORT))?;
            ensure!(!answered, "{world} reaches {own}");
        }
        Ok(())
    })?;
    ensure!(down >= 2, "{down} dropped, of both families");
    let from = mac(&gateway.netns, "access0")?;
    let passed = wire.so_far(|frame| (frame[6..12] == from).then(|| frame.to_vec()))?;
    ensure!(passed.is_empty(), "the gateway sent {passed:02x?}");
    Ok(())
}

/// A line is blocked and unblocked by hand; also over restarts.
pub fn by_hand() -> CaseResult {
    let mut street = two_homes()?;
    let (session, other) = (connect(&street, 0)?, connect(&street, 1)?);
    let before = at_gateway(&street, &session.session_id)?;

    let said = set(&street, 0, "block")?;
    ensure!(
        said["blocked_by_hand"] == true && said["sessions"] == 1,
        "{said}"
    );
    is_blocked(&street, 0, &session)?;
    flows(&street, &street.homes[1], &other)?;
    let shown = at_gateway(&street, &session.session_id)?;
    ensure!(shown["detail"] == "the line is blocked", "{shown}");
    ensure!(shown["phase"] == "established", "{shown}");
    let status: Value = street.gateways[0].daemon.ask_json(&["status"])?;
    ensure!(
        status["lines"] == json!({ "total": 2, "blocked": 1 }),
        "{status}"
    );
    let blocked = ["lines", "list", "--blocked"];
    let lines: Vec<Value> = street.gateways[0].daemon.ask_json(&blocked)?;
    ensure!(lines == [said.clone()], "{lines:?}");

    street.gateways[0].daemon.kill()?;
    is_silent(&street, 0, &session)?;
    street.restart_gateway(0)?;
    is_blocked(&street, 0, &session)?;
    ensure!(set(&street, 0, "block")? == said, "blocked twice");

    let said = set(&street, 0, "unblock")?;
    ensure!(said["blocked"] == false, "{said}");
    flows(&street, &street.homes[0], &session)?;
    let after = until_heard(&street, &session.session_id)?;
    for key in ["generation", "steps", "mac", "phase", "detail"] {
        ensure!(before[key] == after[key], "{key}: {before} {after}");
    }
    let refusals = [
        (
            "110103-xinjingjiayuan-001-002-999",
            "is not in this gateway's inventory",
        ),
        ("nowhere", "location id"),
    ];
    for (location, expected) in refusals {
        let words = ["lines", "block", "--location", location];
        let said = street.gateways[0].daemon.refuse(&words)?;
        ensure!(said.contains(expected), "{said}");
    }
    Ok(())
}

/// A session that is asked for on a blocked line begins once it is unblocked.
pub fn before_a_session() -> CaseResult {
    let street = two_homes()?;
    let home = &street.homes[0];
    set(&street, 0, "block")?;
    home.register()?;
    let sealed = street.seal(0, 0)?;
    let words = ["request", "--sealed", &sealed, "--no-wait"];
    home.terminal.ask(&words)?;
    let waits = |wanted: &dyn Fn(&Value) -> bool| -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let sessions: Vec<Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
            if let Some(session) = sessions.into_iter().find(wanted) {
                return Ok(session);
            }
            ensure!(
                Instant::now() < end,
                "{}",
                street.gateways[0].daemon.log_tail()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let shown = waits(&|session| session["phase"] == "establishing")?;
    ensure!(shown["detail"] == "the line is blocked", "{shown}");
    let steps = |session: &Value| session["steps"].as_array().map(Vec::len);
    ensure!(steps(&shown) == Some(1), "the terminal is asked: {shown}");
    set(&street, 0, "unblock")?;
    let shown = waits(&|session| session["phase"] == "established")?;
    let own = shown["ipv4_address"].as_str().context("an address")?;
    // The terminal has its address before the gateway opens.
    ping(&home.netns, Some(own.parse()?), street.echo(false).ip(), 3)
}

/// The inventory blocks a line with the next start, and nobody else unblocks it.
pub fn by_the_inventory() -> CaseResult {
    let mut street = two_homes()?;
    let (session, other) = (connect(&street, 0)?, connect(&street, 1)?);
    let file = street.gateways[0].config.with_file_name("inventory.csv");
    let before = std::fs::read_to_string(&file)?;
    let blocked: String = before
        .lines()
        .zip([",blocked", ",yes", ",no"])
        .map(|(line, column)| format!("{line}{column}\n"))
        .collect();
    street.gateways[0].daemon.stop()?;
    std::fs::write(&file, blocked)?;
    street.restart_gateway(0)?;
    is_blocked(&street, 0, &session)?;
    flows(&street, &street.homes[1], &other)?;
    let here = location(0, 0);
    let words = ["lines", "unblock", "--location", &here];
    let said = street.gateways[0].daemon.refuse(&words)?;
    ensure!(said.contains("is blocked by the inventory"), "{said}");
    street.gateways[0].daemon.stop()?;
    std::fs::write(&file, before)?;
    street.restart_gateway(0)?;
    flows(&street, &street.homes[0], &session)
}
