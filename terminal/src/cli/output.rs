//! Results as text for people and JSON for programs.

use std::process::ExitCode;

use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{Exit, report};
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::say;
use doorstep_proto::v1 as pb;
use tonic::Code;

use super::views;

pub(super) fn registered(
    output: Output,
    answer: &pb::TerminalRegisterResponse,
    dry_run: DryRun,
) -> anyhow::Result<ExitCode> {
    dry_run.tell();
    match output {
        Output::Json => output::json(&dry_run.with(views::Registered::from(answer)))?,
        Output::Table if dry_run.dry_run => say!("the operator's server is asked")?,
        Output::Table => say!("registered as subscriber {}", answer.subscriber_id)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn step(step: &pb::TerminalStep) -> anyhow::Result<()> {
    let gap = if step.detail.is_empty() { "" } else { "  " };
    say!("{:>8} ms  {}{gap}{}", step.at_ms, step.state, step.detail)
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
            output::json(&dry_run.with(views::Requested::new(&session, last, steps)))?;
        }
        Output::Table if reached && dry_run.dry_run => {}
        Output::Table if reached => {
            say!(
                "session {} (generation {})",
                session.session_id,
                session.generation
            )?;
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
                say!(
                    "{} through {} on {}",
                    addresses.join(" and "),
                    session.gateway_id,
                    session.wan_interface
                )?;
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
        Output::Json => output::json(&dry_run.with(views::Released::from(answer)))?,
        Output::Table if answer.released => say!("session {} released", answer.session_id)?,
        Output::Table => say!("session {} is being released", answer.session_id)?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn status(output: Output, status: &pb::TerminalStatus) -> anyhow::Result<ExitCode> {
    if output == Output::Json {
        output::json(&views::Status::from(status))?;
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
        say!("operator    {}: {subscriber}", operator.name)?;
        say!("server      {} ({connection})", dash(&operator.url))?;
    }
    for port in &status.ports {
        let state = if port.listening {
            &port.mac
        } else {
            &port.detail
        };
        say!("port        {} ({state})", port.name)?;
    }
    if status.repairs > 0 {
        let times = status.repairs;
        say!("repaired    {times} times: links had been changed by another hand")?;
    }
    if status.confirm_by_unix_ms > 0 {
        let left = super::apply::seconds_left(status.confirm_by_unix_ms);
        say!("to confirm  former links come back in {left} s: `doorstep-terminal confirm`")?;
    }
    match &status.rooms {
        Some(rooms) if !rooms.served => {
            say!("rooms       devices get no addresses: {}", rooms.detail)?;
        }
        Some(rooms) if !rooms.detail.is_empty() => say!("rooms       {}", rooms.detail)?,
        _ => {}
    }
    if let Some(garden) = &status.garden {
        let (gateway, servers) = (&garden.gateway_id, garden.servers.join(" "));
        say!("garden      {servers} by {gateway}")?;
    }
    if status.sessions.is_empty() {
        say!("no session")?;
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
