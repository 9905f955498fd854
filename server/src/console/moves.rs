//! Moves under way, the longest first.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use super::Console;
use super::problem::Result;
use super::shell::Here;
use super::text::{state as shown_state, when};
use super::user::User;
use crate::session::State as S;
use crate::store::SessionRow;

const MOST: u32 = 500;

pub async fn list(State(console): State<Arc<Console>>, user: User) -> Result<Markup> {
    // The last one only tells that there are more.
    let mut rows = console.engine.store.moves(MOST + 1).await?;
    let has_more = rows.len() > MOST as usize;
    rows.truncate(MOST as usize);
    let live = html! {
        @if rows.is_empty() {
            p.notice.good { "Nobody is moving now." }
        } @else {
            (table(&rows))
        }
        @if has_more {
            p.faint { "There are more; these have waited for the longest time." }
        }
    };
    Ok(console.live_page(&user, Here::Moves, "Moves under way", &live))
}

fn table(rows: &[SessionRow]) -> Markup {
    html! {
        table.stack {
            thead {
                tr {
                    th scope="col" { "From" }
                    th scope="col" { "To" }
                    th scope="col" { "Waits for" }
                    th scope="col" { "State" }
                    th scope="col" { "Since" }
                }
            }
            tbody {
                @for row in rows { (line(row)) }
            }
        }
    }
}

fn line(row: &SessionRow) -> Markup {
    let session = &row.session;
    html! {
        tr {
            th scope="row" {
                a href={ "/sessions/" (session.id) } { (session.connection.location) }
            }
            td data-label="To" {
                @if let Some(target) = &session.target {
                    (target.connection.location) " at " (target.connection.gateway)
                }
            }
            td data-label="Waits for" { "the receipt of " (session.connection.gateway) }
            td data-label="State" {
                (shown_state(session.state))
                @if session.state == S::DisconnectingUnconfirmed { br; (session.detail) }
            }
            td data-label="Since" { (when(row.since_ms)) }
        }
    }
}
