//! Subscribers: found by their phone number, which stands in no address and no log.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_web::page::csrf;
use maud::{Markup, html};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Console;
use super::problem::Result;
use super::sessions::table;
use super::shell::Here;
use super::text::when;
use super::user::{Posted, User};
use crate::account::Right;
use crate::engine::{Engine, EngineError};
use crate::identity::Phone;
use crate::store::Subscriber;

pub async fn form(State(console): State<Arc<Console>>, user: User) -> Result<Markup> {
    user.need(Right::Serve)?;
    Ok(page(&console, &user, None))
}

fn page(console: &Console, user: &User, problem: Option<&str>) -> Markup {
    let content = html! {
        @if let Some(problem) = problem {
            p.notice.bad role="alert" { (problem) }
        }
        form.line.card method="post" action="/subscribers" {
            (csrf(user.csrf.as_str()))
            label {
                "Phone number"
                input #phone name="phone" type="tel" required autofocus autocomplete="off";
            }
            button type="submit" { "Find" }
        }
        p.faint { "The whole number is needed: it is looked for by its keyed hash." }
    };
    console.still_page(user, Here::Subscribers, "Subscribers", &content)
}

pub async fn find(
    State(console): State<Arc<Console>>,
    Posted { user, mut fields }: Posted,
) -> Result<Response> {
    user.need(Right::Serve)?;
    let engine = &console.engine;
    let given = Zeroizing::new(fields.take("phone"));
    let country_code = engine.config.country_code.as_deref();
    let phone = match Phone::parse(&given, country_code) {
        Ok(phone) => phone,
        Err(error) => {
            let page = page(&console, &user, Some(&format!("Phone number: {error}.")));
            return Ok((StatusCode::BAD_REQUEST, page).into_response());
        }
    };
    Ok(match engine.find_subscriber(user.actor(), &phone).await? {
        Some(id) => Redirect::to(&format!("/subscribers/{id}")).into_response(),
        None => {
            let page = page(
                &console,
                &user,
                Some("Nobody is registered with this number."),
            );
            (StatusCode::NOT_FOUND, page).into_response()
        }
    })
}

/// What of a subscriber's numbers people may see.
pub fn masked(engine: &Engine, row: &Subscriber) -> Result<String> {
    let (phone, id_card) = engine.masked_numbers(row)?;
    let known = [phone, id_card]
        .into_iter()
        .filter(|number| !number.is_empty());
    let known: Vec<_> = known.collect();
    Ok(if known.is_empty() {
        row.id.to_string()
    } else {
        known.join(", ")
    })
}

pub async fn show(
    State(console): State<Arc<Console>>,
    user: User,
    Path(id): Path<Uuid>,
) -> Result<Markup> {
    user.need(Right::Serve)?;
    let engine = &console.engine;
    let row = engine.store.subscriber(id).await?;
    let row = row.ok_or(EngineError::NotFound("there is no such subscriber"))?;
    let mut sessions = engine.store.all_sessions_of(id).await?;
    sessions.sort_by_key(|row| std::cmp::Reverse((row.created_ms, row.session.id)));
    let subscriber = &row.subscriber;
    let live = html! {
        dl.facts.card {
            dt { "Numbers" }
            dd { (masked(engine, subscriber)?) }
            dt { "Plan" }
            dd { (subscriber.plan.as_deref().unwrap_or("the default one")) }
            dt { "Registered" }
            dd { (when(subscriber.created_ms)) }
            dt { "Subscriber" }
            dd { code { (id) } }
        }
        div.actions { a.button #connect href={ "/connect?subscriber=" (id) } { "Connect…" } }
        h2 { "Sessions" }
        (table(engine, &sessions))
    };
    Ok(console.live_page(&user, Here::Subscribers, "Subscriber", &live))
}
