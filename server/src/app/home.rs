//! Connections as they are.

use std::sync::Arc;

use axum::extract::State;
use doorstep_app::cards;
use doorstep_app::deed::Deed;
use doorstep_app::language::Language;
use doorstep_app::shell::Shell;
use doorstep_app::state::State as Shown;
use doorstep_web::page::csrf;
use maud::{Markup, html};

use super::App;
use super::around::Reader;
use super::owner::Owner;
use super::problem::Result;
use super::words::own;
use crate::engine::Engine;
use crate::hub::Liveness;
use crate::session::{Establishment, Session, State as Known};
use crate::store::SessionRow;

pub async fn show(
    State(app): State<Arc<App>>,
    Reader(language): Reader,
    owner: Owner,
) -> Result<Markup> {
    let words = language.words();
    let rows = open_sessions(&app.engine, &owner).await?;
    let is_online = rows
        .iter()
        .any(|row| shown(&app.engine, row) == Shown::Established);
    let add = Deed::Additional;
    let live = html! {
        @if rows.is_empty() {
            (cards::sessions(words, &[]))
        } @else {
            @if is_online {
                p.lead.state.good { (words.home.online) }
            } @else {
                p.lead.state.wait { (words.home.not_online) }
            }
            @for row in &rows {
                (card(&app.engine, language, row, true))
            }
            p.actions {
                a.button.plain #add href={ "/" (add.path()) } { (add.words(&words.deeds).name) "…" }
            }
        }
    };
    let shell = Shell {
        language,
        title: words.home.title,
        here: "/",
        events: Some("/events"),
        is_waiting: false,
    };
    Ok(shell.render(&live, &ways_out(language, &owner)))
}

/// Those that are not over, the oldest first.
pub async fn open_sessions(engine: &Engine, owner: &Owner) -> Result<Vec<SessionRow>> {
    let mut rows = engine.store.all_sessions_of(owner.id).await?;
    rows.retain(|row| row.session.state != Known::Released);
    rows.sort_by_key(|row| (row.created_ms, row.session.id));
    Ok(rows)
}

fn shown(engine: &Engine, row: &SessionRow) -> Shown {
    let is_silent = matches!(engine.hub.liveness(&row.session), Liveness::SilentSince(_));
    if is_silent {
        Shown::Silent
    } else {
        of_state(row.session.state)
    }
}

/// As these pages show it.
pub fn of_state(state: Known) -> Shown {
    match state {
        Known::Connecting => Shown::Connecting,
        Known::Establishing => Shown::Establishing,
        Known::Established => Shown::Established,
        Known::Disconnecting => Shown::Disconnecting,
        Known::DisconnectingUnconfirmed => Shown::Unconfirmed,
        Known::Refused => Shown::Refused,
        Known::Released => Shown::Released,
    }
}

/// What can be done to it from here. A terminal asks for its moves itself.
pub fn deeds(session: &Session) -> &'static [Deed] {
    match session.establishment {
        Establishment::Dhcp => &[Deed::Move, Deed::Release],
        Establishment::Terminal => &[Deed::Release],
    }
}

/// A connection, with or without what can be done to it.
pub fn card(engine: &Engine, language: Language, row: &SessionRow, has_deeds: bool) -> Markup {
    let (words, own) = (language.words(), own(language));
    let session = &row.session;
    let addresses = &session.connection.addresses;
    let v4 = addresses.ipv4.map(|address| address.to_string());
    let v6 = addresses.ipv6.map(|prefix| prefix.to_string());
    let id = session.id.to_string();
    let shown = shown(engine, row);
    let view = cards::Session {
        id: &id,
        operator: "",
        state: shown,
        detail: &session.detail,
        addresses: [v4.as_deref(), v6.as_deref()]
            .into_iter()
            .flatten()
            .collect(),
    };
    let is_terminals = session.establishment == Establishment::Terminal;
    html! {
        (cards::card(words, &view, false))
        @if has_deeds {
            @if let Some(plan) = &session.service.plan {
                p.faint { (own.plan) ": " (title(engine, plan)) }
            }
            @if is_terminals {
                p.faint { (own.by_terminal) }
            } @else if shown == Shown::Establishing {
                p.notice.wait { (own.router) }
            }
            div.actions {
                @for deed in deeds(session) {
                    a.button.plain[*deed != Deed::Release].danger[*deed == Deed::Release]
                        data-deed=(deed.path()) href={ "/" (deed.path()) "?session=" (id) } {
                        (deed.words(&words.deeds).name) "…"
                    }
                }
            }
        }
    }
}

/// What a plan is called.
pub fn title(engine: &Engine, name: &str) -> String {
    let plans = engine.plans();
    let plan = plans.named(name);
    let title = plan.map(|plan| plan.offer.title.as_str());
    let title = title.filter(|title| !title.is_empty());
    title.unwrap_or(name).to_owned()
}

fn ways_out(language: Language, owner: &Owner) -> Markup {
    let own = own(language);
    let token = owner.form_token();
    html! {
        details.out #out {
            summary { (own.sign_out) }
            form method="post" action="/sign-out" {
                (csrf(&token))
                button.plain #sign-out type="submit" { (own.sign_out) }
            }
            form method="post" action="/sign-out" {
                (csrf(&token))
                input type="hidden" name="all" value="yes";
                button.danger #sign-out-all type="submit" { (own.sign_out_all) }
                p.faint { (own.sign_out_all_means) }
            }
        }
    }
}
