//! The list of sessions: those of a place, in a state.

use std::sync::Arc;

use axum::extract::{Query, State};
use doorstep_location::LocationPrefix;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::Console;
use super::overview::{crumbs, prefix};
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::{encode, state as shown_state, when};
use super::user::User;
use crate::engine::Engine;
use crate::hub::Liveness;
use crate::session::State as S;
use crate::store::{Below, SessionRow};

const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    at: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    all: String,
    /// The last one of the page before: its location, a comma, its id.
    #[serde(default)]
    after: String,
}

impl Asked {
    fn wanted(&self) -> Result<Below> {
        let state = match self.state.as_str() {
            "" => None,
            name => {
                let state = S::from_name(name);
                Some(state.ok_or_else(|| Problem::invalid("state", "there is no such state"))?)
            }
        };
        let after = match self.after.as_str() {
            "" => None,
            text => {
                let parts = text.split_once(',');
                let parts = parts.and_then(|(location, id)| {
                    Some((location.to_owned(), id.parse::<Uuid>().ok()?))
                });
                Some(parts.ok_or_else(|| Problem::invalid("after", "is not the end of a page"))?)
            }
        };
        Ok(Below {
            prefix: prefix(&self.at)?,
            state,
            with_released: !self.all.is_empty() || state == Some(S::Released),
            after,
        })
    }

    /// The page behind this one.
    fn next(&self, last: &SessionRow) -> String {
        let after = format!("{},{}", last.session.connection.location, last.session.id);
        format!(
            "/sessions?at={}&state={}&all={}&after={}",
            encode(self.at.trim()),
            encode(&self.state),
            encode(&self.all),
            encode(&after)
        )
    }
}

pub async fn list(
    State(console): State<Arc<Console>>,
    user: User,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let wanted = asked.wanted()?;
    let engine = &console.engine;
    let page = engine.store.sessions_below(&wanted, PAGE).await?;
    let place = wanted.prefix.as_ref().map(LocationPrefix::as_str);
    let live = html! {
        (crumbs(place))
        (filter(&asked, &wanted))
        (table(engine, &page.rows))
        @if page.more && let Some(last) = page.rows.last() {
            p { a.button.plain href=(asked.next(last)) { "Next page" } }
        }
    };
    Ok(console.live_page(&user, Here::Sessions, "Sessions", &live))
}

fn filter(asked: &Asked, wanted: &Below) -> Markup {
    html! {
        form.line method="get" action="/sessions" {
            label {
                "Place"
                input #at name="at" value=(asked.at.trim()) placeholder="110103-xinjingjiayuan-001";
            }
            label {
                "State"
                select #state name="state" {
                    option value="" { "any" }
                    @for state in S::ALL {
                        option value=(state.name()) selected[wanted.state == Some(state)] { (state.name()) }
                    }
                }
            }
            label.check {
                input type="checkbox" #all name="all" value="yes" checked[!asked.all.is_empty()];
                "released ones, too"
            }
            button type="submit" { "Show" }
        }
    }
}

/// Sessions, each with a link to its page.
pub fn table(engine: &Engine, rows: &[SessionRow]) -> Markup {
    if rows.is_empty() {
        return html! { p.notice { "There is no such session." } };
    }
    html! {
        table.stack {
            thead {
                tr {
                    th scope="col" { "Location" }
                    th scope="col" { "State" }
                    th scope="col" { "Since" }
                    th scope="col" { "Gateway" }
                    th scope="col" { "Detail" }
                }
            }
            tbody {
                @for row in rows { (line(engine, row)) }
            }
        }
    }
}

fn line(engine: &Engine, row: &SessionRow) -> Markup {
    let session = &row.session;
    html! {
        tr {
            th scope="row" {
                a href={ "/sessions/" (session.id) } { (session.connection.location) }
                @if let Some(target) = &session.target {
                    " → " (target.connection.location)
                }
            }
            td data-label="State" { (shown_state(session.state)) }
            td data-label="Since" { (when(row.since_ms)) }
            td data-label="Gateway" { (session.connection.gateway) }
            td data-label="Detail" { (session.detail) (silence(engine, row)) }
        }
    }
}

/// Since when the terminal is silent, if it is.
pub fn silence(engine: &Engine, row: &SessionRow) -> Markup {
    html! {
        @if let Liveness::SilentSince(since_ms) = engine.hub.liveness(&row.session) {
            " " span.state.bad { "terminal silent" } " since " (when(since_ms))
        }
    }
}
