//! What a session may do, changed while it goes on. That it is kept to is shown elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;
use serde_json::{Value, json};

use crate::support::{at_server, connect, flows, unnoticed};

/// The only session of the first gateway, as its daemon tells it.
fn at_gateway(street: &Street) -> Result<Value> {
    let mut sessions: Vec<Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    ensure!(sessions.len() == 1, "{sessions:?}");
    Ok(sessions.remove(0))
}

fn service(session: &Value) -> Value {
    let keys = [
        "upstream_bps",
        "downstream_bps",
        "shape_downstream",
        "priority",
    ];
    keys.map(|key| session[key].clone()).to_vec().into()
}

/// Waits until the gateway has a service and the server knows it.
pub fn until(street: &Street, id: &str, expected: &Value) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let (gateway, server) = (at_gateway(street)?, at_server(street.server(), id)?);
        if service(&gateway) == *expected
            && server["service_acknowledged"] == true
            && service(&server["service"]) == *expected
        {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{expected}: {gateway}\n{server}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn changed_live() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let id = session.session_id.as_str();
    let before = at_gateway(&street)?;
    ensure!(
        service(&before) == json!([0, 0, false, 0]),
        "limited without a plan: {before}"
    );
    let steps = at_server(street.server(), id)?["steps"].clone();

    let change = |street: &Street, words: &[&str]| -> Result<()> {
        let words = [&["sessions", "service", id], words].concat();
        street.server().ask(&words).map(drop)
    };
    unnoticed(&mut street, |street| {
        change(street, &["--down", "20M", "--up", "5M", "--priority", "3"])?;
        until(street, id, &json!([5_000_000, 20_000_000, false, 3]))?;
        // Only what is given is changed.
        change(street, &["--down", "300M", "--shape"])?;
        until(street, id, &json!([5_000_000, 300_000_000, true, 3]))?;
        // A gateway that is away catches up.
        street.gateways[0].daemon.kill()?;
        change(street, &["--down", "unlimited", "--police"])?;
        let server = at_server(street.server(), id)?;
        ensure!(server["service_acknowledged"] == false, "{server}");
        street.restart_gateway(0)?;
        until(street, id, &json!([5_000_000, 0, false, 3]))
    })?;

    let after = at_gateway(&street)?;
    for key in ["generation", "steps", "mac", "line", "phase", "detail"] {
        ensure!(before[key] == after[key], "{key}: {before} {after}");
    }
    ensure!(at_server(street.server(), id)?["steps"] == steps);
    flows(&street, &street.homes[0], &session)?;
    street.homes[0].release(id)
}
