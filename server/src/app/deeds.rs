//! What somebody does: which plan, at which door, and once more before it is done.

use std::sync::Arc;

use axum::extract::{Multipart, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_app::deed::Deed;
use doorstep_app::forms::{self, Meant, Plan};
use doorstep_app::language::Language;
use doorstep_app::shell::Shell;
use doorstep_web::origin;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::App;
use super::around::Reader;
use super::door;
use super::home::{card, deeds};
use super::owner::{Owner, Posted, check};
use super::problem::{Kind, Result};
use super::steps::{own_session, path};
use crate::engine::{AccessKind, AccessRequest, now_ms};
use crate::session::Establishment;
use crate::store::SessionRow;

#[derive(Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    session: String,
    #[serde(default)]
    plan: String,
}

/// What is done, and to which session.
struct What {
    deed: Deed,
    row: Option<SessionRow>,
}

impl What {
    /// If it can be done from here at all.
    async fn of(app: &App, owner: &Owner, deed: &str, session: &str) -> Result<Self> {
        let deed = Deed::of(deed).filter(|deed| *deed != Deed::Switch);
        let deed = deed.ok_or(Kind::Nowhere)?;
        let row = if deed.has_session() {
            let id = session.parse::<Uuid>().map_err(|_| Kind::Gone)?;
            let row = own_session(app, owner, id).await?;
            if !deeds(&row.session).contains(&deed) {
                return Err(Kind::NotPossible.into());
            }
            Some(row)
        } else {
            None
        };
        Ok(What { deed, row })
    }

    fn session(&self) -> Option<Uuid> {
        self.row.as_ref().map(|row| row.session.id)
    }
}

pub async fn begin(
    State(app): State<Arc<App>>,
    Reader(language): Reader,
    owner: Owner,
    Path(deed): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    let what = What::of(&app, &owner, &deed, &asked.session).await?;
    let meant = Meant {
        deed: what.deed,
        session: &asked.session,
        operator: "",
        plan: &asked.plan,
        are_several: false,
    };
    if !what.deed.has_location() {
        return Ok(confirm_page(&app, language, &owner, (&what, &meant), ""));
    }
    let chooses = matches!(what.deed, Deed::Connect | Deed::Additional);
    if chooses && asked.plan.is_empty() {
        let (plans, own) = app.engine.plans_for(owner.id).await?;
        let without_choice = plans.of(own.as_deref()).map(|plan| plan.name.as_str());
        let choice = plans.choice(own.as_deref()).map(|plan| Plan {
            name: &plan.name,
            title: &plan.offer.title,
            price: &plan.offer.price,
            upstream_bps: plan.service.upstream_bps,
            downstream_bps: plan.service.downstream_bps,
            is_own: without_choice == Some(plan.name.as_str()),
        });
        let choice: Vec<_> = choice.collect();
        // Of one there is nothing to choose.
        if choice.len() > 1 {
            let content = forms::plans(language.words(), &meant, &choice);
            return Ok(page(language, &meant, None, &content));
        }
    }
    Ok(door_page(language, &owner, &meant, None))
}

fn page(language: Language, meant: &Meant<'_>, title: Option<&str>, content: &Markup) -> Markup {
    let done = meant.deed.words(&language.words().deeds);
    let shell = Shell {
        language,
        title: title.unwrap_or(done.title),
        here: &meant.path(),
        events: None,
        is_waiting: false,
    };
    shell.render(&Markup::default(), content)
}

fn door_page(
    language: Language,
    owner: &Owner,
    meant: &Meant<'_>,
    problem: Option<&str>,
) -> Markup {
    let words = language.words();
    let content = forms::location(words, meant, &owner.form_token(), false, problem);
    page(language, meant, None, &content)
}

fn confirm_page(
    app: &App,
    language: Language,
    owner: &Owner,
    (what, meant): (&What, &Meant<'_>),
    door: &str,
) -> Markup {
    let words = language.words();
    let target = html! {
        @if let Some(row) = &what.row { (card(&app.engine, language, row, false)) }
    };
    let content = forms::confirm(words, meant, &owner.form_token(), door, &target);
    let question = what.deed.words(&words.deeds).question;
    page(language, meant, Some(question), &content)
}

/// Where somebody is; then it is asked once more.
pub async fn door(
    State(app): State<Arc<App>>,
    Reader(language): Reader,
    owner: Owner,
    Path(deed): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    form: Multipart,
) -> Result<Response> {
    if !origin::is_own(&headers, &uri) {
        return Err(Kind::Forged.into());
    }
    let Ok(_place) = app.pictures.try_acquire() else {
        return Err(Kind::Busy.into());
    };
    let said = door::read(form).await?;
    check(&owner, &said.fields)?;
    let (session, plan) = (
        said.fields.get("session").to_owned(),
        said.fields.get("plan").to_owned(),
    );
    let what = What::of(&app, &owner, &deed, &session).await?;
    let meant = Meant {
        deed: what.deed,
        session: &session,
        operator: "",
        plan: &plan,
        are_several: false,
    };
    if !meant.deed.has_location() {
        return Err(Kind::Nowhere.into());
    }
    Ok(match app.door(said).await? {
        Ok(door) => confirm_page(&app, language, &owner, (&what, &meant), &door).into_response(),
        Err(none) => {
            let problem = none.text(language.words());
            let page = door_page(language, &owner, &meant, Some(problem));
            (StatusCode::UNPROCESSABLE_ENTITY, page).into_response()
        }
    })
}

/// Once it was asked about.
pub async fn carry_out(
    State(app): State<Arc<App>>,
    Path(deed): Path<String>,
    Posted {
        owner,
        fields,
        request,
    }: Posted,
) -> Result<Response> {
    let what = What::of(&app, &owner, &deed, fields.get("session")).await?;
    let since_ms = now_ms();
    let kind = match what.deed {
        Deed::Connect => AccessKind::Connect,
        Deed::Move => AccessKind::Move,
        Deed::Additional => AccessKind::Additional,
        Deed::Release => {
            let session = app.engine.release(owner.id, what.session()).await?;
            return Ok(Redirect::to(&path(session, what.deed, since_ms)).into_response());
        }
        Deed::Switch => return Err(Kind::Nowhere.into()),
    };
    let plan = fields.get("plan");
    let wanted = AccessRequest {
        kind,
        sealed_location_id: fields.get("door").to_owned(),
        session: what.session(),
        request,
        plan: (!plan.is_empty()).then(|| plan.to_owned()),
        establishment: Establishment::Dhcp,
    };
    let granted = app.engine.request_access(owner.id, wanted).await?;
    Ok(Redirect::to(&path(granted.session, what.deed, since_ms)).into_response())
}
