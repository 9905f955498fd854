//! The operator's people: for admins, and one's own password.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_web::form::Fields;
use doorstep_web::page::csrf;
use maud::{Markup, html};
use zeroize::Zeroizing;

use super::Console;
use super::problem::{Problem, Result};
use super::shell::Here;
use super::text::when;
use super::user::{Posted, User};
use crate::account::{Name, Right, Role};
use crate::engine::{AccountChange, EngineError};
use crate::store::Account;

pub async fn list(State(console): State<Arc<Console>>, user: User) -> Result<Markup> {
    user.need(Right::Administer)?;
    let accounts = console.engine.store.accounts().await?;
    let content = html! {
        table.stack {
            thead {
                tr {
                    th scope="col" { "Account" }
                    th scope="col" { "Role" }
                    th scope="col" { "Created" }
                    th scope="col" { "Password set" }
                }
            }
            tbody {
                @for account in &accounts { (line(account)) }
            }
        }
        h2 { "A new account" }
        form.fields.card method="post" action="/accounts" {
            (csrf(user.csrf.as_str()))
            label {
                "Name"
                input name="name" required autocomplete="off" autocapitalize="none" spellcheck="false";
            }
            (role_field(Role::Viewer))
            (password_field("Password"))
            div { button type="submit" { "Add" } }
        }
    };
    Ok(console.still_page(&user, Here::Accounts, "Accounts", &content))
}

fn line(account: &Account) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/accounts/" (account.name) } { (account.name) } }
            td data-label="Role" {
                (account.role)
                @if account.is_disabled { " " span.state.bad { "disabled" } }
            }
            td data-label="Created" { (when(account.created_ms)) }
            td data-label="Password set" { (when(account.password_ms)) }
        }
    }
}

fn role_field(now: Role) -> Markup {
    html! {
        label {
            "Role"
            select name="role" {
                @for role in Role::ALL {
                    option value=(role) selected[role == now] { (role) }
                }
            }
        }
    }
}

fn password_field(label: &str) -> Markup {
    html! {
        label {
            (label)
            input name="password" type="password" required autocomplete="new-password"
                minlength=(doorstep_web::password::SHORTEST);
        }
    }
}

fn role(fields: &Fields) -> Result<Role> {
    let role = Role::from_name(fields.get("role"));
    role.ok_or_else(|| Problem::invalid("role", "must be viewer, agent or admin"))
}

fn password(fields: &mut Fields) -> Zeroizing<String> {
    Zeroizing::new(fields.take("password"))
}

pub async fn add(
    State(console): State<Arc<Console>>,
    Posted { user, mut fields }: Posted,
) -> Result<Redirect> {
    user.need(Right::Administer)?;
    let name = fields.get("name").parse::<Name>();
    let name = name.map_err(|error| Problem::invalid("name", error))?;
    let (role, password) = (role(&fields)?, password(&mut fields));
    let engine = &console.engine;
    engine
        .add_account(user.actor(), name, role, password)
        .await?;
    Ok(Redirect::to("/accounts"))
}

fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|_| no_account().into())
}

fn no_account() -> EngineError {
    EngineError::NotFound("there is no such account")
}

pub async fn show(
    State(console): State<Arc<Console>>,
    user: User,
    Path(path): Path<String>,
) -> Result<Markup> {
    user.need(Right::Administer)?;
    let account = console.engine.store.account(name(&path)?).await?;
    let account = account.ok_or_else(no_account)?;
    let action = format!("/accounts/{}", account.name);
    let form = |change: &str, fields: &Markup, button: &str, is_dangerous: bool| {
        html! {
            form.fields.card method="post" action=(action) {
                (csrf(user.csrf.as_str()))
                input type="hidden" name="change" value=(change);
                (fields)
                div { button.danger[is_dangerous] type="submit" { (button) } }
            }
        }
    };
    let content = html! {
        p {
            "Role " strong { (account.role) }
            @if account.is_disabled { ", " span.state.bad { "disabled" } }
        }
        @if account.name == user.name {
            p.notice { "Your own role is changed by another admin." }
        } @else {
            h2 { "Role" }
            (form("role", &role_field(account.role), "Change", false))
            h2 { "Password" }
            (form("password", &password_field("New password"), "Set", false))
            h2 { "Use" }
            @if account.is_disabled {
                (form("enable", &html! { p { "Nobody can sign in with it." } }, "Enable", false))
            } @else {
                @let text = html! { p { "Whoever is signed in with it is out at once." } };
                (form("disable", &text, "Disable", true))
            }
        }
    };
    let title = format!("Account {}", account.name);
    Ok(console.still_page(&user, Here::Accounts, &title, &content))
}

pub async fn change(
    State(console): State<Arc<Console>>,
    Path(path): Path<String>,
    Posted { user, mut fields }: Posted,
) -> Result<Redirect> {
    user.need(Right::Administer)?;
    let name = name(&path)?;
    let change = match fields.get("change") {
        "role" => AccountChange::Role(role(&fields)?),
        "disable" => AccountChange::Disabled(true),
        "enable" => AccountChange::Disabled(false),
        "password" => AccountChange::Password(password(&mut fields)),
        _ => return Err(Problem::invalid("change", "there is no such change")),
    };
    let engine = &console.engine;
    engine.change_account(user.actor(), name, change).await?;
    Ok(Redirect::to(&format!("/accounts/{name}")))
}

pub async fn own_form(State(console): State<Arc<Console>>, user: User) -> Markup {
    own_page(&console, &user, None)
}

fn own_page(console: &Console, user: &User, problem: Option<&str>) -> Markup {
    let content = html! {
        @if let Some(problem) = problem {
            p.notice.bad role="alert" { (problem) }
        }
        form.fields.card method="post" action="/password" {
            (csrf(user.csrf.as_str()))
            input type="hidden" name="name" value=(user.name) autocomplete="username";
            label {
                "Present password"
                input name="present" type="password" required autocomplete="current-password";
            }
            (password_field("New password"))
            div { button type="submit" { "Change" } }
        }
        p.faint { "You sign in again with the new one, wherever you are signed in." }
    };
    console.still_page(user, Here::Own, "Your password", &content)
}

pub async fn own_change(
    State(console): State<Arc<Console>>,
    Posted { user, mut fields }: Posted,
) -> Result<Response> {
    let present = Zeroizing::new(fields.take("present"));
    // Whoever finds a screen unlocked must not guess faster than at the door.
    console.attempts.take_name(user.name)?;
    if !console.engine.has_password(user.name, present).await? {
        let page = own_page(&console, &user, Some("The present password is not right."));
        return Ok((axum::http::StatusCode::FORBIDDEN, page).into_response());
    }
    let change = AccountChange::Password(password(&mut fields));
    let engine = &console.engine;
    engine
        .change_account(user.actor(), user.name, change)
        .await?;
    Ok(Redirect::to("/sign-in").into_response())
}
