//! The list of sessions: those of a place, in a state.

use std::sync::Arc;

use axum::extract::{Query, State};
use doorstep_location::LocationPrefix;
use maud::{Markup, html};
use serde::Deserialize;

use super::Console;
use super::overview::{crumbs, prefix};
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::{encode, state as shown_state, when};
use super::user::User;
use crate::engine::Engine;
use crate::hub::Liveness;
use crate::session::State as S;
use crate::store::{Key, SessionRow, Sessions};

const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    at: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    all: String,
    /// Where the page before ended: a location, a comma, an id.
    #[serde(default)]
    after: String,
}

impl Asked {
    fn state(&self) -> Result<Option<S>> {
        let asked = (!self.state.is_empty()).then_some(self.state.as_str());
        let known = |name| {
            S::from_name(name).ok_or_else(|| Problem::invalid("state", "there is no such state"))
        };
        asked.map(known).transpose()
    }

    fn wanted(&self) -> Result<Sessions> {
        let states = match self.state()? {
            Some(state) => vec![state],
            None if self.all.is_empty() => S::ALL
                .into_iter()
                .filter(|state| *state != S::Released)
                .collect(),
            None => S::ALL.to_vec(),
        };
        Ok(Sessions {
            location: prefix(&self.at)?,
            by_location: true,
            states,
            ..Sessions::default()
        })
    }

    fn after(&self) -> Result<Option<Key>> {
        if self.after.is_empty() {
            return Ok(None);
        }
        let parts = self.after.split_once(',');
        let key = parts.and_then(|(location, id)| {
            Some(Key {
                location: location.to_owned(),
                id: id.parse().ok()?,
            })
        });
        key.map(Some)
            .ok_or_else(|| Problem::invalid("after", "is not the end of a page"))
    }

    /// The page behind this one.
    fn next(&self, end: &Key) -> String {
        let after = format!("{},{}", end.location, end.id);
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
    let page = engine
        .store
        .sessions(&wanted, asked.after()?.as_ref(), PAGE)
        .await?;
    let place = wanted.location.as_ref().map(LocationPrefix::as_str);
    let live = html! {
        (crumbs(place))
        (filter(&asked, asked.state()?))
        @if page.rows.is_empty() && page.next.is_some() {
            p.notice { "None of the first thousands is so; there are more." }
        } @else {
            (table(engine, &page.rows))
        }
        @if let Some(end) = &page.next {
            p { a.button.plain href=(asked.next(end)) { "Next page" } }
        }
    };
    Ok(console.live_page(&user, Here::Sessions, "Sessions", &live))
}

fn filter(asked: &Asked, wanted: Option<S>) -> Markup {
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
                        option value=(state.name()) selected[wanted == Some(state)] { (state.name()) }
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
