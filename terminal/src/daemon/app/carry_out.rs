//! What was confirmed is done.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use doorstep_app::deed::Deed;
use doorstep_proto::v1 as pb;

use super::App;
use super::begin::{Chosen, deed_of, meant};
use super::home::session_of;
use super::jobs::Asked;
use super::problem::{Problem, Result};
use super::visit::{Posted, Visit};

/// How long a page waits for the end. What takes longer goes on all the same.
const WAIT_MS: u32 = 120_000;

pub async fn carry_out(
    State(app): State<Arc<App>>,
    Path(deed): Path<String>,
    Posted { visit, fields }: Posted,
) -> Response {
    let chosen = Chosen {
        session: fields.get("session").to_owned(),
        operator: fields.get("operator").to_owned(),
        plan: fields.get("plan").to_owned(),
    };
    let outcome = start(&app, &visit, &deed, &chosen, fields.get("door")).await;
    visit.answer(outcome)
}

async fn start(
    app: &App,
    visit: &Visit,
    deed: &str,
    chosen: &Chosen,
    door: &str,
) -> Result<Response> {
    let deed = deed_of(deed)?;
    let status = app.calls.status().await?;
    let again = meant(deed, chosen, &status).path();
    if deed.has_location() && door.is_empty() {
        return Ok(visit.redirect(&again));
    }
    if deed.has_session() {
        session_of(&status, &chosen.session)?;
    }
    let asked = Asked {
        deed,
        session: chosen.session.clone(),
        operator: chosen.operator.clone(),
        door: door.to_owned(),
    };
    // Of a button that is pressed twice the first time counts.
    let under_way = app.jobs.like(&asked);
    let job = match under_way {
        Some(job) => job,
        None => {
            let job = app.jobs.begin(asked, again).map_err(|_| Problem::Busy)?;
            match kind(deed) {
                Some(kind) => {
                    let request = pb::TerminalServiceRequest {
                        kind: kind.into(),
                        sealed_location_id: door.to_owned(),
                        session_id: chosen.session.clone(),
                        no_wait: false,
                        timeout_ms: WAIT_MS,
                        operator: chosen.operator.clone(),
                        dry_run: false,
                        plan: chosen.plan.clone(),
                    };
                    job.follow_request(app.calls.request(request).await?);
                }
                None => {
                    let calls = app.calls.clone();
                    let request = pb::TerminalReleaseRequest {
                        session_id: chosen.session.clone(),
                        no_wait: false,
                        timeout_ms: WAIT_MS,
                        dry_run: false,
                    };
                    job.follow_release(async move { calls.release(request).await });
                }
            }
            job
        }
    };
    Ok(visit.redirect(&format!("/steps/{}", job.id)))
}

/// What the daemon is asked for; none: a release.
fn kind(deed: Deed) -> Option<pb::TerminalRequestKind> {
    match deed {
        Deed::Connect => Some(pb::TerminalRequestKind::Connect),
        Deed::Move => Some(pb::TerminalRequestKind::Move),
        Deed::Additional => Some(pb::TerminalRequestKind::Additional),
        Deed::Switch => Some(pb::TerminalRequestKind::Switch),
        Deed::Release => None,
    }
}
