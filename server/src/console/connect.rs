//! Opens a session for a subscriber.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_location::LocationId;
use doorstep_web::form::Fields;
use doorstep_web::page::csrf;
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::Console;
use super::problem::{Problem, Result};
use super::shell::Here;
use super::subscribers::masked;
use super::user::{Posted, User};
use crate::account::Right;
use crate::engine::{EngineError, ToBind, Which};
use crate::session::Establishment;
use crate::store::Subscriber;

#[derive(Deserialize)]
pub struct Asked {
    subscriber: Uuid,
}

async fn subscriber(console: &Console, id: Uuid) -> Result<Subscriber> {
    let row = console.engine.store.subscriber(id).await?;
    let row = row.ok_or(EngineError::NotFound("there is no such subscriber"))?;
    Ok(row.subscriber)
}

pub async fn form(
    State(console): State<Arc<Console>>,
    user: User,
    Query(asked): Query<Asked>,
) -> Result<Markup> {
    user.need(Right::Serve)?;
    let row = subscriber(&console, asked.subscriber).await?;
    let content = html! {
        form.fields.card method="post" action="/connect" {
            (csrf(user.csrf.as_str()))
            input type="hidden" name="subscriber" value=(row.id);
            (whom(&console, &row)?)
            label {
                "Location"
                input #location name="location" required autofocus autocapitalize="none" spellcheck="false"
                    placeholder="110103-xinjingjiayuan-001-002-004";
            }
            label {
                "It comes up by"
                select #establishment name="establishment" {
                    @for kind in [Establishment::Terminal, Establishment::Dhcp] {
                        option value=(kind.name()) { (kind.name()) }
                    }
                }
            }
            label.check {
                input type="checkbox" #additional name="additional" value="yes";
                "beside the sessions that the subscriber has"
            }
            div.actions {
                button type="submit" { "Go on" }
                (back(&row))
            }
        }
    };
    Ok(console.still_page(&user, Here::Subscribers, "Connect", &content))
}

fn whom(console: &Console, row: &Subscriber) -> Result<Markup> {
    Ok(html! {
        dl.facts {
            dt { "Subscriber" }
            dd { (masked(&console.engine, row)?) }
        }
    })
}

fn back(row: &Subscriber) -> Markup {
    html! { a.button.plain href={ "/subscribers/" (row.id) } { "Leave it as it is" } }
}

fn wanted(fields: &Fields) -> Result<ToBind> {
    let subscriber = fields.get("subscriber").parse::<Uuid>();
    let subscriber = subscriber.map_err(|error| Problem::invalid("subscriber", error))?;
    let location = fields.get("location").parse::<LocationId>();
    let establishment = Establishment::from_name(fields.get("establishment"));
    Ok(ToBind {
        subscriber: Which::Id(subscriber),
        location: location.map_err(|error| Problem::invalid("location", error))?,
        additional: fields.has("additional"),
        establishment: establishment
            .ok_or_else(|| Problem::invalid("establishment", "must be terminal or dhcp"))?,
    })
}

pub async fn connect(
    State(console): State<Arc<Console>>,
    Posted { user, fields }: Posted,
) -> Result<Response> {
    user.need(Right::Serve)?;
    let wanted = wanted(&fields)?;
    if !fields.has("confirmed") {
        return Ok(confirm(&console, &user, &fields, &wanted)
            .await?
            .into_response());
    }
    let bound = console
        .engine
        .bind_sessions(user.actor(), vec![wanted])
        .await?;
    // One row has one outcome.
    let bound = bound.into_iter().next().ok_or(EngineError::Busy)?;
    Ok(Redirect::to(&format!("/sessions/{}", bound?.session)).into_response())
}

async fn confirm(
    console: &Console,
    user: &User,
    fields: &Fields,
    wanted: &ToBind,
) -> Result<Markup> {
    let gateway = console.engine.config.gateway_for(&wanted.location);
    let gateway = gateway.ok_or(EngineError::NoGateway)?;
    let Which::Id(id) = wanted.subscriber else {
        return Err(Problem::invalid("subscriber", "must be an id"));
    };
    let row = subscriber(console, id).await?;
    let content = html! {
        form.fields.card method="post" action="/connect" {
            (csrf(user.csrf.as_str()))
            input type="hidden" name="confirmed" value="yes";
            @for name in ["subscriber", "location", "establishment", "additional"] {
                input type="hidden" name=(name) value=(fields.get(name));
            }
            (whom(console, &row)?)
            dl.facts {
                dt { "Location" }
                dd { (wanted.location) }
                dt { "Gateway" }
                dd { (gateway.id) }
                dt { "Comes up by" }
                dd { (wanted.establishment) }
                dt { "Beside other sessions" }
                dd { @if wanted.additional { "yes" } @else { "no" } }
            }
            div.actions {
                button #confirm type="submit" autofocus { "Connect" }
                (back(&row))
            }
        }
    };
    Ok(console.still_page(user, Here::Subscribers, "Connect: are you sure?", &content))
}
