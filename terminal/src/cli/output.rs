//! Results as text for people and JSON for programs.

use std::process::ExitCode;

use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{Exit, report};
use doorstep_daemon::output::{self, Output};
use doorstep_proto::v1 as pb;
use serde_json::{Value, json};
use tonic::Code;

pub(super) fn registered(
    output: Output,
    answer: &pb::TerminalRegisterResponse,
    dry_run: DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.tell();
    let id = Some(&answer.subscriber_id).filter(|id| !id.is_empty());
    match output {
        Output::Json => output::json(&dry_run.with(json!({ "subscriber_id": id })))?,
        Output::Table if dry_run.dry_run => println!("the operator's server is asked"),
        Output::Table => println!("registered as subscriber {}", answer.subscriber_id),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn step(step: &pb::TerminalStep) {
    let gap = if step.detail.is_empty() { "" } else { "  " };
    println!("{:>8} ms  {}{gap}{}", step.at_ms, step.state, step.detail);
}

/// The result of `request` and `move`; the last step says whether it was reached.
pub(super) fn requested(
    output: Output,
    steps: &[pb::TerminalStep],
    no_wait: bool,
    dry_run: DryRun,
) -> anyhow::Result<ExitCode> {
    let Some(last) = steps.last() else {
        return Ok(Exit::Failed.into());
    };
    let session = last.session.clone().unwrap_or_default();
    let wanted = match (dry_run.dry_run, no_wait) {
        (true, _) => "requested",
        (false, true) => "accepted",
        (false, false) => "established",
    };
    let reached = last.state == wanted;
    match output {
        Output::Json => {
            let steps: Vec<Value> = steps
                .iter()
                .map(|s| json!({ "state": s.state, "detail": s.detail, "at_ms": s.at_ms }))
                .collect();
            output::json(&dry_run.with(json!({
                "session_id": session.session_id,
                "generation": session.generation,
                "state": last.state,
                "detail": last.detail,
                "gateway_id": session.gateway_id,
                "elapsed_ms": last.at_ms,
                "ipv4_address": session.ipv4_address,
                "ipv6_prefix": session.ipv6_prefix,
                "ipv6_line_prefix": session.ipv6_line_prefix,
                "wan_interface": session.wan_interface,
                "tags": session.tags,
                "steps": steps,
            })))?;
        }
        Output::Table if reached && dry_run.dry_run => {}
        Output::Table if reached => {
            println!(
                "session {} (generation {})",
                session.session_id, session.generation
            );
            if !no_wait {
                let addresses = [
                    session.ipv4_address.as_str(),
                    session.ipv6_prefix.as_str(),
                    session.ipv6_line_prefix.as_str(),
                ];
                let addresses: Vec<&str> = addresses
                    .into_iter()
                    .filter(|text| !text.is_empty())
                    .collect();
                println!(
                    "{} through {} on {}",
                    addresses.join(" and "),
                    session.gateway_id,
                    session.wan_interface
                );
            }
        }
        Output::Table => {}
    }
    if reached {
        return Ok(ExitCode::SUCCESS);
    }
    report(if last.detail.is_empty() {
        &last.state
    } else {
        &last.detail
    });
    let exit = match i32::try_from(last.code).map(Code::from_i32) {
        // It was carried out, and has ended in another way.
        Ok(Code::Ok) => Exit::Refused,
        Ok(code) => code.into(),
        Err(_) => Exit::Failed,
    };
    Ok(exit.into())
}

pub(super) fn released(
    output: Output,
    answer: &pb::TerminalReleaseResponse,
    dry_run: DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.tell();
    match output {
        Output::Json => output::json(
            &dry_run.with(json!({ "session_id": answer.session_id, "released": answer.released })),
        )?,
        Output::Table if answer.released => println!("session {} released", answer.session_id),
        Output::Table => println!("session {} is being released", answer.session_id),
    }
    Ok(ExitCode::SUCCESS)
}

fn session_json(session: &pb::TerminalSession) -> Value {
    let established = session.established_at_unix_ms;
    json!({
        "session_id": session.session_id,
        "operator": session.operator,
        "replaces": (!session.replaces.is_empty()).then_some(&session.replaces),
        "generation": session.generation,
        "state": session.state,
        "detail": session.detail,
        "server_state": session.server_state,
        "gateway_id": session.gateway_id,
        "ipv4_address": session.ipv4_address,
        "ipv6_prefix": session.ipv6_prefix,
        "ipv6_line_prefix": session.ipv6_line_prefix,
        "dns": session.dns,
        "wan_interface": session.wan_interface,
        "tags": session.tags,
        "established_at_unix_ms": (established != 0).then_some(established),
        "silent_since_unix_ms":
            (session.silent_since_unix_ms != 0).then_some(session.silent_since_unix_ms),
        "default_route": session.default_route,
    })
}

pub(super) fn status_json(status: &pb::TerminalStatus) -> Value {
    let sessions: Vec<Value> = status.sessions.iter().map(session_json).collect();
    let ports: Vec<Value> = status
        .ports
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "listening": p.listening, "mac": p.mac, "detail": p.detail,
            })
        })
        .collect();
    let operators: Vec<Value> = status
        .operators
        .iter()
        .map(|o| {
            json!({
                "name": o.name, "url": o.url, "connected": o.connected, "detail": o.detail,
                "registered": !o.subscriber_id.is_empty(), "subscriber_id": o.subscriber_id,
            })
        })
        .collect();
    let rooms = status.rooms.as_ref();
    let rooms = rooms.map(|rooms| json!({ "served": rooms.served, "detail": rooms.detail }));
    let garden = status.garden.as_ref().map(|garden| {
        json!({
            "gateway_id": garden.gateway_id, "addresses": garden.addresses,
            "servers": garden.servers,
        })
    });
    json!({
        "garden": garden,
        "operators": operators,
        "sessions": sessions,
        "ports": ports,
        "rooms": rooms,
        "confirm_by_unix_ms": (status.confirm_by_unix_ms > 0)
            .then_some(status.confirm_by_unix_ms),
        "repairs": status.repairs,
        "last_repair_unix_ms": (status.repairs > 0).then_some(status.last_repair_unix_ms),
        "last_sealed_location_id": status.last_sealed_location_id,
    })
}

pub(super) fn status(output: Output, status: &pb::TerminalStatus) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        output::json(&status_json(status))?;
        return Ok(ExitCode::SUCCESS);
    }
    for operator in &status.operators {
        let subscriber = match operator.subscriber_id.as_str() {
            "" => "not registered".to_owned(),
            id => format!("subscriber {id}"),
        };
        let connection = match (operator.connected, operator.detail.as_str()) {
            (true, _) => "connected",
            (false, "") => "idle",
            (false, detail) => detail,
        };
        println!("operator    {}: {subscriber}", operator.name);
        println!("server      {} ({connection})", dash(&operator.url));
    }
    for port in &status.ports {
        let state = if port.listening {
            &port.mac
        } else {
            &port.detail
        };
        println!("port        {} ({state})", port.name);
    }
    if status.repairs > 0 {
        let times = status.repairs;
        println!("repaired    {times} times: links had been changed by another hand");
    }
    if status.confirm_by_unix_ms > 0 {
        let left = super::apply::seconds_left(status.confirm_by_unix_ms);
        println!("to confirm  former links come back in {left} s: `doorstep-terminal confirm`");
    }
    match &status.rooms {
        Some(rooms) if !rooms.served => {
            println!("rooms       devices get no addresses: {}", rooms.detail);
        }
        Some(rooms) if !rooms.detail.is_empty() => println!("rooms       {}", rooms.detail),
        _ => {}
    }
    if let Some(garden) = &status.garden {
        let (gateway, servers) = (&garden.gateway_id, garden.servers.join(" "));
        println!("garden      {servers} by {gateway}");
    }
    if status.sessions.is_empty() {
        println!("no session");
        return Ok(ExitCode::SUCCESS);
    }
    let head = [
        "SESSION",
        "OPERATOR",
        "STATE",
        "GATEWAY",
        "IPV4",
        "IPV6",
        "INTERFACE",
        "ROUTE",
        "DETAIL",
    ];
    let rows: Vec<[String; 9]> = status
        .sessions
        .iter()
        .map(|s| {
            [
                s.session_id.clone(),
                s.operator.clone(),
                s.state.clone(),
                dash(&s.gateway_id),
                dash(&s.ipv4_address),
                dash(&s.ipv6_prefix),
                dash(&s.wan_interface),
                if s.default_route {
                    "default".into()
                } else {
                    "-".into()
                },
                dash(&s.detail),
            ]
        })
        .collect();
    output::print(&output::table(&head, &rows))?;
    Ok(ExitCode::SUCCESS)
}

fn dash(text: &str) -> String {
    if text.is_empty() {
        "-".into()
    } else {
        text.to_owned()
    }
}
