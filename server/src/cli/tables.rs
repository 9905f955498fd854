//! Lists and details as tables, or as JSON where asked.

use anyhow::Result;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::output::{Output, fields, json, print, table};
use doorstep_daemon::rate;
use doorstep_proto::v1 as pb;
use doorstep_server::service::convert::{establishment_name, state_name};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::views;

pub fn subscribers(all: Vec<pb::SubscriberView>) -> String {
    let rows: Vec<_> = all
        .into_iter()
        .map(|view| {
            vec![
                view.subscriber_id,
                view.phone_masked,
                view.id_card_masked,
                view.plan,
                view.sessions.to_string(),
                when(view.created_unix_ms),
            ]
        })
        .collect();
    table(
        &[
            "SUBSCRIBER",
            "PHONE",
            "ID CARD",
            "PLAN",
            "SESSIONS",
            "SINCE",
        ],
        &rows,
    )
}

pub fn sessions(all: Vec<pb::SessionView>) -> String {
    let rows: Vec<_> = all
        .into_iter()
        .map(|view| {
            let silence = match view.silent_since_unix_ms {
                0 => None,
                since => Some(format!("the terminal is silent since {}", when(since))),
            };
            let detail = Some(view.detail).filter(|detail| !detail.is_empty());
            let detail: Vec<String> = detail.into_iter().chain(silence).collect();
            vec![
                view.session_id,
                view.location_id,
                view.gateway_id,
                view.generation.to_string(),
                state_name(view.state).to_owned(),
                when(view.since_unix_ms),
                view.ipv4_address,
                view.ipv6_prefix,
                detail.join("; "),
            ]
        })
        .collect();
    table(
        &[
            "SESSION", "LOCATION", "GATEWAY", "GEN", "STATE", "SINCE", "IPV4", "IPV6", "DETAIL",
        ],
        &rows,
    )
}

fn counters(counters: Option<pb::Counters>) -> String {
    counters.map_or_else(String::new, |counters| {
        format!(
            "up {} packets, {} bytes{}; down {} packets, {} bytes{}",
            counters.upstream_packets,
            counters.upstream_bytes,
            policed(counters.upstream_policed),
            counters.downstream_packets,
            counters.downstream_bytes,
            policed(counters.downstream_policed)
        )
    })
}

fn policed(packets: u64) -> String {
    match packets {
        0 => String::new(),
        _ => format!(", {packets} above the rate"),
    }
}

/// `up 100M, down 300M shaped, priority 2`.
pub fn service(service: &pb::Service) -> String {
    let shaped = if service.shape_downstream {
        " shaped"
    } else {
        ""
    };
    let alone = match service.time_to_live_s {
        0 => String::new(),
        seconds => format!(", {seconds} s without the server"),
    };
    format!(
        "up {}, down {}{shaped}, priority {}{alone}",
        rate::show(service.upstream_bps),
        rate::show(service.downstream_bps),
        service.priority
    )
}

/// `up 100M, down 300M shaped, priority 2 (home-300)`.
fn service_and_plan(view: &pb::SessionView) -> String {
    let service = service(&view.service.unwrap_or_default());
    match view.plan.as_str() {
        "" => service,
        plan => format!("{service} ({plan})"),
    }
}

/// Whether the terminal is heard, of an established session.
fn heard(view: &pb::SessionView) -> String {
    let established = view.state == i32::from(pb::SessionState::Established);
    match pb::Liveness::try_from(view.liveness) {
        Ok(pb::Liveness::Silent) => format!("silent since {}", when(view.silent_since_unix_ms)),
        Ok(pb::Liveness::NotSilent) => "not silent".to_owned(),
        _ if established => "not known: the gateway has not reported to this server".to_owned(),
        _ => String::new(),
    }
}

/// How far the gateway has followed.
fn follows(view: &pb::SessionView) -> String {
    let revision = view.service_revision;
    match (view.service_acknowledged, view.service_problem.as_str()) {
        (true, _) => format!("revision {revision}, acknowledged by the gateway"),
        (false, "") => format!("revision {revision}, not acknowledged yet"),
        (false, problem) => format!("revision {revision}, not acknowledged: {problem}"),
    }
}

pub fn detail(detail: pb::SessionDetail, dry_run: DryRun, output: Output) -> Result<()> {
    dry_run.tell();
    if output == Output::Json {
        return json(&dry_run.with(views::SessionDetail::from(detail)));
    }
    let view = detail.session.unwrap_or_default();
    let (service, follows) = (service_and_plan(&view), follows(&view));
    let heard = heard(&view);
    print(&fields(&[
        ("session", view.session_id),
        ("subscriber", view.subscriber_id),
        ("location", view.location_id),
        ("gateway", view.gateway_id),
        ("moving to", view.target_location_id),
        ("through", view.target_gateway_id),
        ("state", state_name(view.state).to_owned()),
        ("generation", view.generation.to_string()),
        ("since", when(view.since_unix_ms)),
        ("detail", view.detail),
        ("IPv4 address", view.ipv4_address),
        ("IPv6 prefix", view.ipv6_prefix),
        ("line prefix", view.ipv6_line_prefix),
        (
            "comes up by",
            establishment_name(view.establishment).to_owned(),
        ),
        ("terminal", view.terminal_mac),
        ("", heard),
        ("line", view.line),
        ("route", view.route),
        ("service", service),
        ("", follows),
        ("counters", counters(view.counters)),
        ("final counters", counters(view.final_counters)),
    ]))?;
    print("\n")?;
    let steps: Vec<_> = detail
        .steps
        .into_iter()
        .map(|step| {
            vec![
                when(step.at_unix_ms),
                step.generation.to_string(),
                state_name(step.state).to_owned(),
                step.gateway_id,
                step.who,
                step.detail,
            ]
        })
        .collect();
    print(&table(
        &["AT", "GEN", "STATE", "GATEWAY", "BY", "DETAIL"],
        &steps,
    ))?;
    if !detail.receipts.is_empty() {
        print("\n")?;
        let receipts: Vec<_> = detail
            .receipts
            .into_iter()
            .map(|receipt| {
                vec![
                    when(receipt.at_unix_ms),
                    receipt.gateway_id,
                    receipt.number.to_string(),
                    receipt.generation.to_string(),
                    counters(receipt.counters),
                ]
            })
            .collect();
        print(&table(
            &["RECEIPT AT", "GATEWAY", "NUMBER", "GEN", "COUNTERS"],
            &receipts,
        ))?;
    }
    Ok(())
}

/// `2026-03-01T12:34:56.789Z`, or nothing for 0.
pub fn when(unix_ms: i64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}
