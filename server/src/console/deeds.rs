//! What people do to a session: each is asked once more, on a page that says what will happen.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_daemon::dry_run::Run;
use doorstep_location::LocationId;
use doorstep_web::page::csrf;
use maud::{Markup, html};
use uuid::Uuid;

use super::Console;
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::state as shown_state;
use super::user::{Posted, User};
use crate::account::Right;
use crate::engine::EngineError;
use crate::session::{Establishment, Session};
use crate::store::SessionRow;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Disconnect,
    Move,
    Force,
}

impl Deed {
    const ALL: [Deed; 3] = [Deed::Move, Deed::Disconnect, Deed::Force];

    /// As addresses have it.
    fn path(self) -> &'static str {
        match self {
            Deed::Disconnect => "disconnect",
            Deed::Move => "move",
            Deed::Force => "force",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Deed::Disconnect => "Disconnect",
            Deed::Move => "Move",
            Deed::Force => "Force",
        }
    }

    fn right(self) -> Right {
        match self {
            Deed::Disconnect | Deed::Move => Right::Serve,
            Deed::Force => Right::Force,
        }
    }

    /// Whether there is anything to be done.
    fn fits(self, session: &Session) -> bool {
        let state = session.state;
        match self {
            Deed::Disconnect => state.is_connected_side(),
            Deed::Move => state.is_connected_side() && session.establishment == Establishment::Dhcp,
            Deed::Force => state.is_disconnecting(),
        }
    }

    fn is_dangerous(self) -> bool {
        self != Deed::Move
    }

    fn what_happens(self, session: &Session) -> String {
        let gateway = &session.connection.gateway;
        match self {
            Deed::Disconnect => format!(
                "Gateway {gateway} stops forwarding for this home, and the session ends once its \
                 receipt has come. The subscriber has no broadband there until they ask again."
            ),
            Deed::Move => format!(
                "Gateway {gateway} stops forwarding for this home; once its receipt has come the \
                 session begins at the new home. Meanwhile the subscriber has no broadband."
            ),
            Deed::Force => format!(
                "The session goes on without the receipt of gateway {gateway}. Only do this when you \
                 know that the gateway forwards nothing more for this home, because it is switched off, \
                 for example: two gateways might forward for one session otherwise."
            ),
        }
    }
}

/// The buttons that a person has on a session's page.
pub fn buttons(user: &User, session: &Session) -> Markup {
    let deeds = Deed::ALL.into_iter();
    let mut fitting = deeds
        .filter(|deed| deed.fits(session) && user.may(deed.right()))
        .peekable();
    html! {
        @if fitting.peek().is_some() {
            div.actions {
                @for deed in fitting {
                    a.button.danger[deed.is_dangerous()] id=(deed.path())
                        href={ "/sessions/" (session.id) "/" (deed.path()) } { (deed.name()) "…" }
                }
            }
        }
    }
}

/// What is done, to which session, if this person may.
async fn meant(
    console: &Console,
    user: &User,
    (id, deed): (Uuid, String),
) -> Result<(SessionRow, Deed)> {
    let deed = Deed::ALL.into_iter().find(|known| known.path() == deed);
    let deed = deed.ok_or_else(|| Problem::not_found("There is no such page."))?;
    user.need(deed.right())?;
    let row = console.engine.store.session(id).await?;
    let row = row.ok_or(EngineError::NotFound("there is no such session"))?;
    Ok((row, deed))
}

pub async fn ask(
    State(console): State<Arc<Console>>,
    user: User,
    Path(path): Path<(Uuid, String)>,
) -> Result<Markup> {
    let (row, deed) = meant(&console, &user, path).await?;
    Ok(match deed {
        Deed::Move => move_page(&console, &user, &row.session),
        Deed::Disconnect | Deed::Force => confirm_page(&console, &user, &row.session, deed, None),
    })
}

pub async fn carry_out(
    State(console): State<Arc<Console>>,
    Path(path): Path<(Uuid, String)>,
    Posted { user, fields }: Posted,
) -> Result<Response> {
    let (row, deed) = meant(&console, &user, path).await?;
    let id = row.session.id;
    let location = match deed {
        Deed::Move => {
            let given = fields.get("location").parse::<LocationId>();
            Some(given.map_err(|error| Problem::invalid("location", error))?)
        }
        Deed::Disconnect | Deed::Force => None,
    };
    if !fields.has("confirmed") {
        let page = confirm_page(&console, &user, &row.session, deed, location.as_ref());
        return Ok(page.into_response());
    }
    let (engine, actor) = (&console.engine, user.actor());
    match (deed, location) {
        (Deed::Move, Some(location)) => engine.relocate(actor, id, location, Run::Real).await?,
        (Deed::Force, _) => engine.force(actor, id, Run::Real).await?,
        _ => engine.disconnect(actor, id, Run::Real).await?,
    };
    Ok(Redirect::to(&format!("/sessions/{id}")).into_response())
}

fn what(session: &Session) -> Markup {
    html! {
        dl.facts {
            dt { "Location" }
            dd { (session.connection.location) }
            dt { "Gateway" }
            dd { (session.connection.gateway) }
            dt { "State" }
            dd { (shown_state(session.state)) }
        }
    }
}

fn move_page(console: &Console, user: &User, session: &Session) -> Markup {
    let content = html! {
        form.fields.card method="post" action={ "/sessions/" (session.id) "/move" } {
            (csrf(user.csrf.as_str()))
            (what(session))
            label {
                "New location"
                input #location name="location" required autofocus autocapitalize="none" spellcheck="false"
                    placeholder="110103-xinjingjiayuan-001-002-004";
            }
            div.actions {
                button type="submit" { "Go on" }
                (back(session))
            }
        }
    };
    console.still_page(user, Here::Sessions, "Move a session", &content)
}

fn confirm_page(
    console: &Console,
    user: &User,
    session: &Session,
    deed: Deed,
    location: Option<&LocationId>,
) -> Markup {
    let content = html! {
        form.fields.card method="post" action={ "/sessions/" (session.id) "/" (deed.path()) } {
            (csrf(user.csrf.as_str()))
            input type="hidden" name="confirmed" value="yes";
            (what(session))
            @if let Some(location) = location {
                input type="hidden" name="location" value=(location);
                p { "It moves to " strong { (location) } "." }
            }
            p { (deed.what_happens(session)) }
            div.actions {
                button.danger[deed.is_dangerous()] #confirm type="submit" autofocus { (deed.name()) }
                (back(session))
            }
        }
    };
    let title = format!("{}: are you sure?", deed.name());
    console.still_page(user, Here::Sessions, &title, &content)
}

fn back(session: &Session) -> Markup {
    html! { a.button.plain href={ "/sessions/" (session.id) } { "Leave it as it is" } }
}
