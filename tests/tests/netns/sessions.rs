//! Sessions from their first request to their release.

use anyhow::ensure;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;

use crate::support::{at_server, connect, flows, packets, silent};

pub fn connect_move_release() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        ..Plan::default()
    })?;
    let first = connect(&street, 0)?;

    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(&street.seal(1, 0)?, None)?;
    ensure!(moved.session_id == first.session_id, "another session");
    ensure!(
        moved.generation > first.generation,
        "the generation did not rise"
    );
    ensure!(moved.gateway_id == "gw2", "{}", moved.gateway_id);
    flows(&street, &street.homes[0], &moved)?;

    // The order is in the server's history: gateway 1 has receipted before gateway 2 was asked.
    let detail = at_server(street.server(), &moved.session_id)?;
    let receipt = &detail["receipts"][0];
    ensure!(receipt["gateway_id"] == "gw1", "{detail}");
    ensure!(
        receipt["counters"]["downstream_packets"].as_u64() > Some(100),
        "{detail}"
    );
    let gateway1 = packets(&street.gateways[0])?;
    silent(&street.inet, street.echo(false).ip(), first.v4()?)?;
    let later = packets(&street.gateways[0])?;
    ensure!(gateway1["forwarded_downstream"] == later["forwarded_downstream"]);

    // And back again, with the same cable.
    street.plug(0, 0)?;
    let back = street.homes[0].relocate(&street.seal(0, 0)?, None)?;
    ensure!(back.gateway_id == "gw1" && back.generation > moved.generation);
    flows(&street, &street.homes[0], &back)?;

    let before = street.homes[0].netns.ip("-o addr show wan0")?;
    ensure!(before.contains(&back.v4()?.to_string()), "{before}");
    street.homes[0].release(&back.session_id)?;
    let after = street.homes[0].netns.ip("-o addr show wan0")?;
    ensure!(!after.contains(&back.v4()?.to_string()), "{after}");
    let routes = street.homes[0].netns.ip("route show default")?;
    ensure!(routes.is_empty(), "a default route is left: {routes}");
    let sessions: Vec<serde_json::Value> = street.gateways[0].daemon.ask_json(&["sessions"])?;
    ensure!(sessions.is_empty(), "{sessions:?}");
    Ok(())
}

pub fn additional() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let first = connect(&street, 0)?;
    let door = street.seal(0, 0)?;
    let second = street.homes[0].request_additional(&door)?;
    ensure!(second.session_id != first.session_id && second.v4()? != first.v4()?);
    flows(&street, &street.homes[0], &first)?;
    flows(&street, &street.homes[0], &second)?;
    // Asking for a first connection when there is one is refused, and disturbs neither.
    let said = street.homes[0]
        .terminal
        .refuse(&["request", "--sealed", &door])?;
    ensure!(
        said.contains("additional") || said.contains("move"),
        "{said}"
    );
    street.homes[0].release(&first.session_id)?;
    flows(&street, &street.homes[0], &second)?;
    silent(&street.inet, street.echo(false).ip(), first.v4()?)?;
    street.homes[0].release(&second.session_id)
}

pub fn one_line_for_each_home() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let sessions = [connect(&street, 0)?, connect(&street, 1)?];
    flows(&street, &street.homes[0], &sessions[0])?;
    street.homes[0].release(&sessions[0].session_id)?;
    flows(&street, &street.homes[1], &sessions[1])
}
