//! Lists and details as tables, or as JSON where asked.

use anyhow::Result;
use doorstep_proto::v1 as pb;
use doorstep_server::service::convert::state_name;

use super::output::{fields, json, table, when};
use super::{Output, views};

pub fn subscribers(all: Vec<pb::SubscriberView>, output: Output) -> Result<()> {
    if output == Output::Json {
        let views: Vec<_> = all.into_iter().map(views::Subscriber::from).collect();
        return json(&views);
    }
    let rows: Vec<_> = all
        .into_iter()
        .map(|view| {
            vec![
                view.subscriber_id,
                view.phone_masked,
                view.id_card_masked,
                view.sessions.to_string(),
                when(view.created_unix_ms),
            ]
        })
        .collect();
    table(
        &["SUBSCRIBER", "PHONE", "ID CARD", "SESSIONS", "SINCE"],
        &rows,
    );
    Ok(())
}

pub fn sessions(all: Vec<pb::SessionView>, output: Output) -> Result<()> {
    if output == Output::Json {
        let views: Vec<_> = all.into_iter().map(views::Session::from).collect();
        return json(&views);
    }
    let rows: Vec<_> = all
        .into_iter()
        .map(|view| {
            vec![
                view.session_id,
                view.location_id,
                view.gateway_id,
                view.generation.to_string(),
                state_name(view.state).to_owned(),
                when(view.since_unix_ms),
                view.ipv4_address,
                view.ipv6_prefix,
                view.detail,
            ]
        })
        .collect();
    table(
        &[
            "SESSION", "LOCATION", "GATEWAY", "GEN", "STATE", "SINCE", "IPV4", "IPV6", "DETAIL",
        ],
        &rows,
    );
    Ok(())
}

fn counters(counters: Option<pb::Counters>) -> String {
    counters.map_or_else(String::new, |counters| {
        format!(
            "up {} packets, {} bytes; down {} packets, {} bytes",
            counters.upstream_packets,
            counters.upstream_bytes,
            counters.downstream_packets,
            counters.downstream_bytes
        )
    })
}

pub fn detail(detail: pb::SessionDetail, output: Output) -> Result<()> {
    if output == Output::Json {
        return json(&views::SessionDetail::from(detail));
    }
    let view = detail.session.unwrap_or_default();
    fields(&[
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
        ("terminal", view.terminal_mac),
        ("line", view.line),
        ("route", view.route),
        ("counters", counters(view.counters)),
        ("final counters", counters(view.final_counters)),
    ]);
    println!();
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
    table(&["AT", "GEN", "STATE", "GATEWAY", "BY", "DETAIL"], &steps);
    if !detail.receipts.is_empty() {
        println!();
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
        table(
            &["RECEIPT AT", "GATEWAY", "NUMBER", "GEN", "COUNTERS"],
            &receipts,
        );
    }
    Ok(())
}
