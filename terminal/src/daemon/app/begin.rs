//! Where something begins: what is still to be chosen, then the door, then a page that asks once more.

use std::sync::Arc;

use axum::extract::{FromRequest as _, FromRequestParts as _};
use axum::extract::{Multipart, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use doorstep_app::cards;
use doorstep_app::deed::Deed;
use doorstep_app::forms::{self, Meant};
use doorstep_proto::v1 as pb;
use doorstep_web::origin;
use doorstep_web::page::CSRF;
use maud::{Markup, html};
use serde::Deserialize;
use tonic::Code;

use super::App;
use super::door_code::{self, Sent};
use super::home::{are_several, session_card, session_of};
use super::problem::{Problem, Result};
use super::visit::Visit;

/// What is chosen already.
#[derive(Debug, Default, Deserialize)]
pub struct Chosen {
    #[serde(default)]
    pub session: String,
    #[serde(default)]
    pub operator: String,
    #[serde(default)]
    pub plan: String,
}

/// The deed of a path.
pub fn deed_of(path: &str) -> Result<Deed> {
    Deed::of(path).ok_or(Problem::Nowhere)
}

pub async fn begin(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(deed): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Response {
    let outcome = page(&app, &visit, &deed, chosen).await;
    visit.answer(outcome)
}

async fn page(app: &App, visit: &Visit, deed: &str, mut chosen: Chosen) -> Result<Response> {
    let deed = deed_of(deed)?;
    let words = visit.words();
    let title = deed.words(&words.deeds).title;
    let status = app.calls.status().await?;
    if deed.has_session() {
        if chosen.session.is_empty() && status.sessions.len() != 1 {
            return Ok(visit.redirect("/"));
        }
        let session = session_of(&status, &chosen.session)?;
        chosen.session.clone_from(&session.session_id);
        if !deed.has_operator() {
            chosen.operator.clone_from(&session.operator);
        }
    }
    if let Some(choice) = operator_choice(&status, deed, &mut chosen)? {
        let choice: Vec<_> = choice.iter().map(|operator| shown(operator)).collect();
        let meant = meant(deed, &chosen, &status);
        let content = forms::operators(words, &meant, &choice);
        return Ok(visit.page(title, &content));
    }
    let meant = meant(deed, &chosen, &status);
    if deed.has_operator() && !is_registered(&status, meant.operator) {
        return Ok(visit.redirect(&format!("/register{}", meant.path())));
    }
    if deed.has_operator() && meant.plan.is_empty() {
        let choice = plan_choice(app, meant.operator).await?;
        // Of one there is nothing to choose.
        if choice.len() > 1 {
            let choice: Vec<_> = choice.iter().map(offered).collect();
            let content = forms::plans(words, &meant, &choice);
            return Ok(visit.page(title, &content));
        }
    }
    if !deed.has_location() {
        return Ok(confirm_page(visit, &status, &meant, ""));
    }
    Ok(location_page(visit, &status, &meant, None))
}

/// What there is to choose from, if there is a choice and nothing is chosen; else it is chosen
/// afterwards.
fn operator_choice<'a>(
    status: &'a pb::TerminalStatus,
    deed: Deed,
    chosen: &mut Chosen,
) -> Result<Option<Vec<&'a pb::TerminalOperator>>> {
    if !deed.has_operator() {
        return Ok(None);
    }
    // One without an address is not in the configuration any more.
    let all = status.operators.iter().filter(|own| !own.url.is_empty());
    let all: Vec<_> = all.collect();
    let is_known = all.iter().any(|own| own.name == chosen.operator);
    match (&all[..], chosen.operator.is_empty()) {
        (_, false) if is_known => Ok(None),
        (_, false) => Err(Problem::Nowhere),
        ([only], true) => {
            chosen.operator.clone_from(&only.name);
            Ok(None)
        }
        _ => Ok(Some(all)),
    }
}

fn shown(operator: &pb::TerminalOperator) -> forms::Operator<'_> {
    forms::Operator {
        name: &operator.name,
        is_registered: !operator.subscriber_id.is_empty(),
    }
}

/// What its operator offers this home.
async fn plan_choice(app: &App, operator: &str) -> Result<Vec<pb::OfferedPlan>> {
    let request = pb::TerminalPlansRequest {
        operator: operator.to_owned(),
    };
    match app.calls.plans(request).await {
        Ok(answer) => Ok(answer.plans),
        // A server from before there were plans.
        Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
        Err(status) => Err(Problem::of_operator(status)),
    }
}

fn offered(plan: &pb::OfferedPlan) -> forms::Plan<'_> {
    forms::Plan {
        name: &plan.name,
        title: &plan.title,
        price: &plan.price,
        upstream_bps: plan.upstream_bps,
        downstream_bps: plan.downstream_bps,
        is_own: plan.own,
    }
}

pub fn is_registered(status: &pb::TerminalStatus, operator: &str) -> bool {
    let found = status.operators.iter().find(|own| own.name == operator);
    found.is_some_and(|own| !own.subscriber_id.is_empty())
}

pub fn meant<'a>(deed: Deed, chosen: &'a Chosen, status: &pb::TerminalStatus) -> Meant<'a> {
    Meant {
        deed,
        session: &chosen.session,
        operator: &chosen.operator,
        plan: &chosen.plan,
        are_several: are_several(status),
    }
}

fn location_page(
    visit: &Visit,
    status: &pb::TerminalStatus,
    meant: &Meant<'_>,
    problem: Option<&str>,
) -> Response {
    let words = visit.words();
    let has_last = !status.last_sealed_location_id.is_empty();
    let token = visit.csrf.as_str();
    let content = forms::location(words, meant, token, has_last, problem);
    visit.page(meant.deed.words(&words.deeds).title, &content)
}

fn confirm_page(
    visit: &Visit,
    status: &pb::TerminalStatus,
    meant: &Meant<'_>,
    door: &str,
) -> Response {
    let words = visit.words();
    let sessions = status.sessions.iter();
    let target = sessions
        .filter(|_| meant.deed.has_session())
        .find(|session| session.session_id == meant.session)
        .map(|session| cards::card(words, &session_card(session, are_several(status)), false));
    let target: Markup = html! { @if let Some(target) = target { (target) } };
    let content = forms::confirm(words, meant, visit.csrf.as_str(), door, &target);
    visit.page(meant.deed.words(&words.deeds).question, &content)
}

/// Of an answer that is asked for again.
pub async fn again(visit: Visit, Path(deed): Path<String>) -> Response {
    visit.redirect(&format!("/{deed}"))
}

/// The door is told: by a picture, by hand, or as the one of last time.
pub async fn door(
    State(app): State<Arc<App>>,
    Path(deed): Path<String>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let visit = match Visit::from_request_parts(&mut parts, &app).await {
        Ok(visit) => visit,
        Err(response) => return response,
    };
    if !origin::is_own(&parts.headers, &parts.uri) {
        return Problem::Forged.page(&visit);
    }
    let request = Request::from_parts(parts, body);
    let Ok(form) = Multipart::from_request(request, &app).await else {
        return Problem::BadForm.page(&visit);
    };
    let outcome = told(&app, &visit, &deed, form).await;
    visit.answer(outcome)
}

async fn told(app: &App, visit: &Visit, deed: &str, form: Multipart) -> Result<Response> {
    let deed = deed_of(deed)?;
    let problems = &visit.words().problems;
    // Before the picture is in memory.
    let place = app.pictures.acquire().await;
    let _place = place.map_err(|_| Problem::Busy)?;
    let Sent { fields, picture } = match door_code::receive(form).await {
        Ok(sent) => sent,
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            // What else was sent is not known, so that it is begun anew.
            let mut response = visit.page(
                problems.title,
                &html! {
                    (doorstep_app::shell::bad(problems.too_large))
                    (doorstep_app::shell::home_link(visit.words()))
                },
            );
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(response);
        }
        Err(_) => return Err(Problem::BadForm),
    };
    if !visit.csrf.is(fields.get(CSRF)) {
        return Err(Problem::Forged);
    }
    let chosen = Chosen {
        session: fields.get("session").to_owned(),
        operator: fields.get("operator").to_owned(),
        plan: fields.get("plan").to_owned(),
    };
    let status = app.calls.status().await?;
    let last = (fields.has("same")).then_some(status.last_sealed_location_id.as_str());
    let meant = meant(deed, &chosen, &status);
    match door_code::find(problems, last, fields.get("location"), picture).await {
        Ok(door) => Ok(confirm_page(visit, &status, &meant, &door)),
        Err(problem) => Ok(location_page(visit, &status, &meant, Some(problem))),
    }
}
