//! Gateways, and what goes through them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use maud::{Markup, html};

use super::Console;
use super::plot::{Line, Plot};
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::{number, scaled, when};
use super::user::User;
use crate::config::Gateway;
use crate::engine::{Engine, now_ms};
use crate::hub::traffic::{SAMPLE_MS, Sample};

/// What is known of a gateway.
struct Known<'a> {
    configured: &'a Gateway,
    is_connected: bool,
    /// Connected, or last seen; 0: never.
    since_ms: i64,
    software_version: String,
    peer: String,
    sessions: u64,
    last_receipt: u64,
    samples: Vec<Sample>,
}

async fn all(engine: &Engine) -> Result<Vec<Known<'_>>> {
    let live = engine.store.tallies().await?.live;
    let mut seen = engine.store.gateways().await?;
    let at_ms = now_ms();
    let known = engine.config.gateways.iter().map(|configured| {
        let id = &configured.id;
        let mut known = Known {
            configured,
            is_connected: false,
            since_ms: 0,
            software_version: String::new(),
            peer: String::new(),
            sessions: live.get(id).copied().unwrap_or(0),
            last_receipt: 0,
            samples: engine.hub.traffic.of(id, at_ms),
        };
        if let Some(seen) = seen.remove(id) {
            known.since_ms = seen.seen_ms;
            known.software_version = seen.software_version;
            known.peer = seen.peer;
            known.last_receipt = seen.last_receipt;
        }
        if let Some(link) = engine.hub.link(id) {
            known.is_connected = true;
            known.since_ms = link.since_ms;
            known.software_version.clone_from(&link.software_version);
            known.peer.clone_from(&link.peer);
            let last_receipt = link.last_receipt.load(Ordering::Relaxed);
            known.last_receipt = known.last_receipt.max(last_receipt);
        }
        known
    });
    Ok(known.collect())
}

#[expect(clippy::cast_precision_loss, reason = "a sample is of some seconds")]
const SAMPLE_S: f64 = SAMPLE_MS as f64 / 1000.0;

fn bits(value: f64) -> String {
    scaled(value, "bit/s")
}

fn packets(value: f64) -> String {
    scaled(value, "packets/s")
}

pub async fn list(State(console): State<Arc<Console>>, user: User) -> Result<Markup> {
    let known = all(&console.engine).await?;
    let live = html! {
        @if known.is_empty() {
            p.notice { "The configuration has no gateway." }
        } @else {
            table.stack {
                thead {
                    tr {
                        th scope="col" { "Gateway" }
                        th scope="col" { "Connected" }
                        th.number scope="col" { "Sessions" }
                        th.number scope="col" { "From homes" }
                        th.number scope="col" { "To homes" }
                        th.number scope="col" { "Dropped" }
                    }
                }
                tbody {
                    @for known in &known { (line(known)) }
                }
            }
        }
    };
    Ok(console.live_page(&user, Here::Gateways, "Gateways", &live))
}

fn line(known: &Known<'_>) -> Markup {
    let id = &known.configured.id;
    let last = known.samples.last();
    let rate = |value: fn(&Sample) -> f64, say: fn(f64) -> String| {
        last.map_or_else(|| "–".to_owned(), |sample| say(value(sample) / SAMPLE_S))
    };
    html! {
        tr {
            th scope="row" { a href={ "/gateways/" (id) } { (id) } }
            td data-label="Connected" { (connection(known)) }
            td.number data-label="Sessions" { (number(known.sessions)) }
            td.number data-label="From homes" { (rate(|sample| sample.upstream_bytes * 8.0, bits)) }
            td.number data-label="To homes" { (rate(|sample| sample.downstream_bytes * 8.0, bits)) }
            td.number data-label="Dropped" { (rate(|sample| sample.dropped_packets, packets)) }
        }
    }
}

fn connection(known: &Known<'_>) -> Markup {
    html! {
        @if known.is_connected {
            span.state.good { "connected" } " since " (when(known.since_ms))
        } @else if known.since_ms > 0 {
            span.state.bad { "away" } ", last seen " (when(known.since_ms))
        } @else {
            span.state.bad { "never seen" }
        }
    }
}

pub async fn show(
    State(console): State<Arc<Console>>,
    user: User,
    Path(id): Path<String>,
) -> Result<Markup> {
    let known = all(&console.engine).await?;
    let known = known.into_iter().find(|known| known.configured.id == id);
    let known =
        known.ok_or_else(|| Problem::not_found("The configuration has no such gateway."))?;
    let live = html! {
        (facts(&known))
        h2 { "Traffic" }
        (plots(&known.samples))
    };
    let title = format!("Gateway {id}");
    Ok(console.live_page(&user, Here::Gateways, &title, &live))
}

fn facts(known: &Known<'_>) -> Markup {
    html! {
        dl.facts.card {
            dt { "Connection" }
            dd { (connection(known)) }
            @if !known.peer.is_empty() {
                dt { "From" }
                dd { (known.peer) }
                dt { "Version" }
                dd { (known.software_version) }
            }
            dt { "Serves" }
            dd {
                @for prefix in &known.configured.locations {
                    a href={ "/sessions?at=" (prefix) } { (prefix) } " "
                }
            }
            dt { "Sessions" }
            dd { (number(known.sessions)) }
            dt { "Last receipt" }
            dd { @if known.last_receipt > 0 { (known.last_receipt) } @else { "none yet" } }
        }
    }
}

fn plots(samples: &[Sample]) -> Markup {
    let values = |value: fn(&Sample) -> f64| -> Vec<f64> {
        let samples = samples.iter();
        samples.map(|sample| value(sample) / SAMPLE_S).collect()
    };
    let throughput = [
        Line {
            class: "up",
            name: "from homes",
            values: values(|sample| sample.upstream_bytes * 8.0),
        },
        Line {
            class: "down",
            name: "to homes",
            values: values(|sample| sample.downstream_bytes * 8.0),
        },
    ];
    let drops = [Line {
        class: "up",
        name: "dropped",
        values: values(|sample| sample.dropped_packets),
    }];
    let plot = |title, lines, say| Plot {
        title,
        lines,
        step_s: SAMPLE_MS / 1000,
        say,
    };
    html! {
        div.plots {
            (plot("Throughput", &throughput[..], bits as fn(f64) -> String).draw())
            (plot("Packets above their session's rate", &drops[..], packets).draw())
        }
    }
}
