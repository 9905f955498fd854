//! The subscriber becomes known to an operator: by a number, and by a code where the operator sends one.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use doorstep_app::forms;
use doorstep_app::shell::bad;
use doorstep_proto::v1 as pb;
use doorstep_web::form::Fields;
use maud::{Markup, html};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use super::App;
use super::begin::{Chosen, deed_of, is_registered, meant};
use super::home::are_several;
use super::problem::{Problem, Result};
use super::visit::{Posted, Visit, Waiting};

/// As `access.proto` says it.
const CODE_NEEDED: &str = "VERIFICATION_CODE_NEEDED";

pub async fn form(
    State(app): State<Arc<App>>,
    visit: Visit,
    Path(deed): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Response {
    let outcome = page(&app, &visit, &deed, &chosen, None).await;
    visit.answer(outcome)
}

async fn page(
    app: &App,
    visit: &Visit,
    deed: &str,
    chosen: &Chosen,
    problem: Option<&Markup>,
) -> Result<Response> {
    let deed = deed_of(deed)?;
    let status = app.calls.status().await?;
    let meant = meant(deed, chosen, &status);
    if is_registered(&status, meant.operator) {
        return Ok(visit.redirect(&meant.path()));
    }
    if meant.operator.is_empty() && are_several(&status) {
        return Ok(visit.redirect(&meant.path()));
    }
    let words = visit.words();
    let content = forms::register(words, &meant, visit.csrf.as_str(), problem);
    Ok(visit.page(words.register.title, &content))
}

fn chosen(fields: &Fields) -> Chosen {
    Chosen {
        session: fields.get("session").to_owned(),
        operator: fields.get("operator").to_owned(),
        plan: fields.get("plan").to_owned(),
    }
}

pub async fn send(
    State(app): State<Arc<App>>,
    Path(deed): Path<String>,
    Posted { visit, mut fields }: Posted,
) -> Response {
    let chosen = chosen(&fields);
    let number = |text: String| Zeroizing::new(text.trim().to_owned());
    let waiting = Waiting::new(
        chosen.operator.clone(),
        number(fields.take("phone")),
        number(fields.take("id_card")),
    );
    let outcome = register(&app, &visit, &deed, &chosen, waiting, "").await;
    visit.answer(outcome)
}

pub async fn send_code(
    State(app): State<Arc<App>>,
    Path(deed): Path<String>,
    Posted { visit, fields }: Posted,
) -> Response {
    let chosen = chosen(&fields);
    let waiting = visit.visitor.take_waiting();
    let waiting = waiting.filter(|waiting| waiting.operator == chosen.operator);
    let outcome = match waiting {
        Some(waiting) => register(&app, &visit, &deed, &chosen, waiting, fields.get("code")).await,
        None => {
            let problem = bad(visit.words().register.code_wrong);
            page(&app, &visit, &deed, &chosen, Some(&problem)).await
        }
    };
    visit.answer(outcome)
}

async fn register(
    app: &App,
    visit: &Visit,
    deed: &str,
    chosen: &Chosen,
    waiting: Waiting,
    code: &str,
) -> Result<Response> {
    let status = app.calls.status().await?;
    let meant = meant(deed_of(deed)?, chosen, &status);
    let words = visit.words();
    if waiting.phone.is_empty() && waiting.id_card.is_empty() {
        let problem = bad(words.register.nothing_given);
        return page(app, visit, deed, chosen, Some(&problem)).await;
    }
    let request = pb::TerminalRegisterRequest {
        phone: waiting.phone.to_string(),
        id_card: waiting.id_card.to_string(),
        verification_code: code.to_owned(),
        operator: chosen.operator.clone(),
        dry_run: false,
    };
    let status = match app.calls.register(request).await {
        Ok(_) => return Ok(visit.redirect(&meant.path())),
        Err(status) => status,
    };
    if needs_code(&status) && code.is_empty() {
        visit.visitor.wait_for_code(waiting);
        let content = forms::code(words, &meant, visit.csrf.as_str());
        return Ok(visit.page(words.register.code_title, &content));
    }
    let status = match Problem::of_operator(status) {
        Problem::Refused(status) => status,
        unreached => return Err(unreached),
    };
    let said = match status.code() {
        Code::AlreadyExists => words.register.known,
        Code::PermissionDenied if !code.is_empty() => words.register.code_wrong,
        _ => words.register.refused,
    };
    let problem = html! {
        div.notice.bad role="alert" {
            p { (said) }
            p.faint lang="en" { (status.message()) }
        }
    };
    let mut response = page(app, visit, deed, chosen, Some(&problem)).await?;
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::CONFLICT;
    }
    Ok(response)
}

/// Whether the operator has sent a code to the number.
fn needs_code(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| info.reason == CODE_NEEDED)
}
