//! One session: how far it holds, what it has, and its timeline.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use maud::{Markup, html};
use uuid::Uuid;

use super::Console;
use super::deeds::buttons;
use super::overview::crumbs;
use super::problem::Result;
use super::sessions::silence;
use super::shell::Here;
use super::text::{bytes, class, number, state as shown_state, when};
use super::user::User;
use crate::account::Right;
use crate::engine::Subject;
use crate::session::Connection;
use crate::store::{Counters, CountersRow, ReceiptRow, SessionRow, StepRow};
use crate::why::{Chain, Holds};

/// As `why` has it: homes are seldom silent for so long.
const QUIET_AFTER: Duration = Duration::from_secs(300);

pub async fn show(
    State(console): State<Arc<Console>>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<Markup> {
    let engine = &console.engine;
    let explained = engine.why(Subject::Session(id), QUIET_AFTER).await?;
    // A session that is asked about by its id has exactly one answer.
    let explained = explained.into_iter().next();
    let found = explained.and_then(|explained| Some((explained.session?, explained.chain)));
    let (row, chain) = found.ok_or(crate::engine::EngineError::NotFound(
        "there is no such session",
    ))?;
    let store = &engine.store;
    let steps = store.steps(id, None).await?;
    let receipts = store.receipts(id).await?;
    let counters = store.counters_of(&[id]).await?;
    let counters = counters
        .first()
        .filter(|row_of| row_of.belong_to(&row.session));
    let location = row.session.connection.location.as_str();
    let live = html! {
        (crumbs(Some(location)))
        (facts(&console, &user, &row, counters))
        (buttons(&user, &row.session))
        h2 { "How far it holds" }
        (links(&chain))
        h2 { "Timeline" }
        (timeline(&steps))
        @if !receipts.is_empty() {
            h2 { "Receipts" }
            (receipts_table(&receipts))
        }
    };
    let title = format!("Session at {location}");
    Ok(console.live_page(&user, Here::Sessions, &title, &live))
}

fn facts(
    console: &Console,
    user: &User,
    row: &SessionRow,
    counters: Option<&CountersRow>,
) -> Markup {
    let session = &row.session;
    html! {
        dl.facts.card {
            dt { "State" }
            dd { (shown_state(session.state)) " since " (when(row.since_ms)) }
            @if !session.detail.is_empty() {
                dt { "Detail" }
                dd { (session.detail) (silence(&console.engine, row)) }
            }
            dt { "Gateway" }
            dd { (session.connection.gateway) }
            dt { "Addresses" }
            dd { (addresses(&session.connection)) }
            @if let Some(target) = &session.target {
                dt { "Moves to" }
                dd { (target.connection.location) " at " (target.connection.gateway) }
            }
            dt { "Comes up by" }
            dd { (session.establishment) }
            dt { "Service" }
            dd {
                (session.service.service)
                @if let Some(plan) = &session.service.plan { " (plan " (plan) ")" }
                @if !session.service.is_acknowledged() && session.state.is_connected_side() {
                    ", not acknowledged yet"
                }
                @if !session.service.problem.is_empty() { ": " (session.service.problem) }
            }
            @if !row.terminal_mac.is_empty() {
                dt { "Terminal" }
                dd { code { (row.terminal_mac) } }
            }
            @if !row.line.is_empty() {
                dt { "Line" }
                dd { (row.line) }
            }
            @if let Some(row) = counters {
                dt { "Traffic" }
                dd { (traffic(&row.counters)) }
                dt { "Last seen to grow" }
                dd { (when(row.moved_ms)) }
            }
            dt { "Subscriber" }
            dd {
                @if user.may(Right::Serve) {
                    a href={ "/subscribers/" (session.subscriber) } { code { (session.subscriber) } }
                } @else {
                    code { (session.subscriber) }
                }
            }
            dt { "Session" }
            dd { code { (session.id) } ", generation " (session.generation) ", since " (when(row.created_ms)) }
        }
    }
}

fn addresses(connection: &Connection) -> String {
    let addresses = &connection.addresses;
    let all: Vec<String> = addresses
        .ipv4
        .map(|address| address.to_string())
        .into_iter()
        .chain(addresses.ipv6.map(|prefix| prefix.to_string()))
        .chain(
            addresses
                .ipv6_line
                .map(|prefix| format!("{prefix} on the line")),
        )
        .collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join(", ")
    }
}

fn traffic(counters: &Counters) -> Markup {
    html! {
        "up " (bytes(counters.upstream_bytes)) " in " (number(counters.upstream_packets)) " packets, down "
        (bytes(counters.downstream_bytes)) " in " (number(counters.downstream_packets)) " packets; dropped above the rate: "
        (number(counters.upstream_policed)) " up, " (number(counters.downstream_policed)) " down"
    }
}

fn links(chain: &Chain) -> Markup {
    html! {
        @if let Some(broken) = &chain.broken {
            div.notice.bad {
                p { strong { "Broken at “" (broken.stage.name()) "”: " } (broken.cause) }
                p { "Next, on the " (broken.host) ": " code { (broken.command) } }
            }
        }
        ol.chain {
            @for link in &chain.links {
                li class=(link.holds.name()) {
                    strong { (link.stage.name()) }
                    " – "
                    @match link.holds {
                        Holds::Yes => "holds",
                        Holds::No => "does not hold",
                        Holds::Unknown => "not known",
                    }
                    @if link.at_ms > 0 { " since " (when(link.at_ms)) }
                    @if !link.detail.is_empty() {
                        br;
                        span.faint { (link.detail) }
                    }
                }
            }
        }
    }
}

/// The newest first.
fn timeline(steps: &[StepRow]) -> Markup {
    html! {
        ol.timeline {
            @for step in steps.iter().rev() {
                li class=(class(step.state)) {
                    (when(step.at_ms)) " " (shown_state(step.state))
                    " at " (step.gateway) ", by the " (step.who)
                    span.faint { " (generation " (step.generation) ")" }
                    @if !step.detail.is_empty() {
                        br;
                        (step.detail)
                    }
                }
            }
        }
    }
}

fn receipts_table(receipts: &[ReceiptRow]) -> Markup {
    html! {
        table.stack {
            thead {
                tr {
                    th scope="col" { "Gateway" }
                    th.number scope="col" { "Number" }
                    th.number scope="col" { "Generation" }
                    th scope="col" { "At" }
                    th scope="col" { "Final count" }
                }
            }
            tbody {
                @for receipt in receipts.iter().rev() {
                    tr {
                        th scope="row" { (receipt.gateway) }
                        td.number data-label="Number" { (receipt.number) }
                        td.number data-label="Generation" { (receipt.generation) }
                        td data-label="At" { (when(receipt.at_ms)) }
                        td data-label="Final count" { (traffic(&receipt.counters)) }
                    }
                }
            }
        }
    }
}
