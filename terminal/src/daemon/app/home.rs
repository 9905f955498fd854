//! The connections, and the steps of what was asked for.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use doorstep_app::cards;
use doorstep_app::state::State as Shown;
use doorstep_app::steps as shown;
use doorstep_proto::v1 as pb;
use maud::{Markup, html};

use super::App;
use super::problem::{Problem, Result};
use super::visit::{Kind, Visit};

pub async fn show(State(app): State<Arc<App>>, visit: Visit) -> Response {
    let outcome = page(&app, &visit).await;
    visit.answer(outcome)
}

async fn page(app: &App, visit: &Visit) -> Result<Response> {
    let status = app.calls.status().await?;
    let words = visit.words();
    let several = are_several(&status);
    let sessions: Vec<_> = status
        .sessions
        .iter()
        .map(|session| session_card(session, several))
        .collect();
    let live = html! {
        @for job in app.jobs.under_way() {
            p.notice.wait {
                strong { (job.deed.words(&words.deeds).under_way) } " "
                a href={ "/steps/" (job.id) } { (words.home.under_way) }
            }
        }
        (cards::sessions(words, &sessions))
    };
    let kind = Kind {
        events: Some("/events"),
        is_waiting: false,
    };
    Ok(visit.render(words.home.title, kind, &live, &Markup::default()))
}

/// Whether there are operators to tell apart.
pub fn are_several(status: &pb::TerminalStatus) -> bool {
    status.operators.len() > 1
}

pub fn session_card(session: &pb::TerminalSession, several: bool) -> cards::Session<'_> {
    let addresses = [&session.ipv4_address, &session.ipv6_prefix];
    let addresses = addresses.into_iter().map(String::as_str);
    cards::Session {
        id: &session.session_id,
        operator: if several { &session.operator } else { "" },
        state: Shown::of(&session.state),
        detail: &session.detail,
        addresses: addresses.filter(|text| !text.is_empty()).collect(),
    }
}

pub async fn steps(State(app): State<Arc<App>>, visit: Visit, Path(job): Path<String>) -> Response {
    // A daemon that has started anew knows nothing of it; the connections tell how it is.
    let Some(job) = app.jobs.find(&job) else {
        return visit.redirect("/");
    };
    let words = visit.words();
    let done = job.deed.words(&words.deeds);
    let (steps, end) = job.told();
    let live = shown::steps(words, job.deed, &steps, end, &job.again);
    let kind = Kind {
        events: Some("/events"),
        is_waiting: end.is_none(),
    };
    visit.render(done.under_way, kind, &live, &Markup::default())
}

/// The connection of that id; the only one, where none is named.
pub fn session_of<'a>(
    status: &'a pb::TerminalStatus,
    named: &str,
) -> Result<&'a pb::TerminalSession> {
    match (named, &status.sessions[..]) {
        ("", [only]) => Ok(only),
        (named, sessions) => {
            let found = sessions.iter().find(|session| session.session_id == named);
            found.ok_or(Problem::Gone)
        }
    }
}
