//! How what was asked for goes on.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use doorstep_app::deed::Deed;
use doorstep_app::shell::Shell;
use doorstep_app::steps::{End, Step, steps};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::App;
use super::around::Reader;
use super::home::of_state;
use super::owner::Owner;
use super::problem::{Kind, Result};
use super::words::own;
use crate::session::{Establishment, State as Known};
use crate::store::{SessionRow, StepRow};

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    deed: String,
    /// When it was asked for, in Unix milliseconds.
    #[serde(default)]
    since: i64,
}

/// The address of what has been asked for.
pub fn path(session: Uuid, deed: Deed, since_ms: i64) -> String {
    format!("/sessions/{session}?deed={}&since={since_ms}", deed.path())
}

/// A subscriber's own session.
pub async fn own_session(app: &App, owner: &Owner, id: Uuid) -> Result<SessionRow> {
    let row = app.engine.store.session(id).await?;
    let row = row.filter(|row| row.session.subscriber == owner.id);
    row.ok_or_else(|| Kind::Gone.into())
}

pub async fn show(
    State(app): State<Arc<App>>,
    Reader(language): Reader,
    owner: Owner,
    Path(id): Path<Uuid>,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let words = language.words();
    let deed = Deed::of(&asked.deed).ok_or(Kind::Nowhere)?;
    let row = own_session(&app, &owner, id).await?;
    let told = app.engine.store.steps(id, None).await?;
    let told: Vec<StepRow> = told
        .into_iter()
        .filter(|step| step.at_ms >= asked.since)
        .collect();
    let end = end(deed, told.last().map(|step| step.state));
    let shown: Vec<Step> = told
        .iter()
        .map(|step| Step {
            state: of_state(step.state),
            detail: step.detail.clone(),
            at_ms: (step.at_ms - asked.since).max(0).unsigned_abs(),
        })
        .collect();
    let again = match deed.has_session() {
        true => format!("/{}?session={id}", deed.path()),
        false => format!("/{}", deed.path()),
    };
    let waits_for_router = end.is_none()
        && row.session.establishment == Establishment::Dhcp
        && row.session.state == Known::Establishing;
    let live = html! {
        @if waits_for_router { p.notice.wait #router { (own(language).router) } }
        (steps(words, deed, &shown, end, &again))
        @if end.is_none() {
            p.actions { a.button.plain #home href="/" { (words.steps.home) } }
        }
    };
    let shell = Shell {
        language,
        title: deed.words(&words.deeds).under_way,
        here: &path(id, deed, asked.since),
        events: end.is_none().then_some("/events"),
        is_waiting: end.is_none(),
    };
    Ok(shell.render(&live, &Markup::default()))
}

/// Whether it is over, by the last state since it was asked for.
fn end(deed: Deed, last: Option<Known>) -> Option<End> {
    match (last?, deed) {
        (Known::Released, Deed::Release) => Some(End::Well),
        (Known::Established, deed) if deed != Deed::Release => Some(End::Well),
        (Known::Refused | Known::Released, _) => Some(End::Badly),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deed_has_its_end() {
        for (deed, last, expected) in [
            (Deed::Connect, None, None),
            (Deed::Connect, Some(Known::Establishing), None),
            (Deed::Connect, Some(Known::Established), Some(End::Well)),
            (Deed::Move, Some(Known::Disconnecting), None),
            (Deed::Move, Some(Known::Established), Some(End::Well)),
            (Deed::Additional, Some(Known::Refused), Some(End::Badly)),
            (Deed::Connect, Some(Known::Released), Some(End::Badly)),
            (Deed::Release, Some(Known::Disconnecting), None),
            (Deed::Release, Some(Known::Released), Some(End::Well)),
        ] {
            assert_eq!(end(deed, last), expected, "{deed:?} {last:?}");
        }
    }
}
