//! In and out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use doorstep_web::page::Page;
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::Console;
use super::problem::{Problem, Result};
use super::user::{OwnForm, Posted, SignedIn};
use crate::account::Name;
use crate::config::Rate;
use crate::limits::{Buckets, Source};
use crate::listener::browsers::Peer;

/// Passwords hashed at once: each takes a processor and 19 MiB.
const HASHED_AT_ONCE: usize = 2;

/// How often somebody may try.
pub struct Attempts {
    sources: Buckets<Source>,
    names: Buckets<Name>,
    hashing: Semaphore,
}

impl Attempts {
    pub fn new(rate: Rate) -> Self {
        Attempts {
            sources: Buckets::new(rate),
            names: Buckets::new(rate),
            hashing: Semaphore::new(HASHED_AT_ONCE),
        }
    }

    /// One more for a name, whoever's.
    pub fn take_name(&self, name: Name) -> Result<()> {
        let taken = self.names.take(&name);
        taken.map_err(|wait| Problem::too_often(wait.as_secs() + 1))
    }

    fn take(&self, source: Source, name: Option<Name>) -> std::result::Result<(), Duration> {
        self.sources.take(&source)?;
        name.map_or(Ok(()), |name| self.names.take(&name))
    }
}

#[derive(Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    to: String,
}

pub async fn form(State(console): State<Arc<Console>>, Query(asked): Query<Asked>) -> Markup {
    page(&console, own_path(&asked.to), "", None)
}

fn page(console: &Console, to: &str, name: &str, problem: Option<&str>) -> Markup {
    let page = Page {
        application: &console.application,
        title: "Sign in",
        places: &[],
        person: None,
        events: None,
    };
    let content = html! {
        @if let Some(problem) = problem {
            p.notice.bad role="alert" { (problem) }
        }
        form.fields.card method="post" action="/sign-in" {
            input type="hidden" name="to" value=(to);
            label {
                "Account"
                input name="name" value=(name) required autocomplete="username" autocapitalize="none"
                    spellcheck="false" autofocus[name.is_empty()];
            }
            label {
                "Password"
                input name="password" type="password" required autocomplete="current-password"
                    autofocus[!name.is_empty()];
            }
            div { button type="submit" { "Sign in" } }
        }
    };
    page.render(&Markup::default(), &content)
}

pub async fn sign_in(
    State(console): State<Arc<Console>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    OwnForm(mut fields): OwnForm,
) -> Result<Response> {
    let password = Zeroizing::new(fields.take("password"));
    let to = own_path(fields.get("to")).to_owned();
    let given = fields.get("name");
    let name = given.parse::<Name>().ok();
    if let Err(wait) = console.attempts.take(Source::from(peer), name) {
        tracing::warn!(%peer, "too many attempts to sign in");
        return Err(Problem::too_often(wait.as_secs() + 1));
    }
    let account = {
        // It is never closed.
        let _turn = console.attempts.hashing.acquire().await;
        console.engine.sign_in(name, password).await?
    };
    let Some(account) = account else {
        // What was given as a name may be a password, typed into the wrong field.
        tracing::warn!(%peer, account = name.map(tracing::field::display), "a sign-in was refused");
        let text = "The account or the password is not right, or the account is disabled.";
        let page = page(&console, &to, given, Some(text));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let who = SignedIn {
        name: account.name,
        password_ms: account.password_ms,
    };
    let cookie = console.sessions.begin(who, Instant::now())?;
    tracing::info!(%peer, account = %account.name, "signed in");
    let set = AppendHeaders([(SET_COOKIE, console.cookie.set(&cookie))]);
    Ok((set, Redirect::to(&to)).into_response())
}

pub async fn sign_out(
    State(console): State<Arc<Console>>,
    headers: axum::http::HeaderMap,
    _: Posted,
) -> Response {
    if let Some(cookie) = console.cookie.read(&headers) {
        console.sessions.end(cookie);
    }
    let clear = AppendHeaders([(SET_COOKIE, console.cookie.clear())]);
    (clear, Redirect::to("/sign-in")).into_response()
}

/// Where somebody wanted to go, if that is a page of ours.
fn own_path(to: &str) -> &str {
    let is_own = to.starts_with('/')
        && !to.starts_with("//")
        && to
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_own { to } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for (to, path) in [
            ("/sessions?at=1101", "/sessions?at=1101"),
            ("", "/"),
            ("//evil.example/", "/"),
            ("/\\evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\tx", "/"),
            ("/\r\nSet-Cookie: a=b", "/"),
        ] {
            assert_eq!(own_path(to), path, "{to:?}");
        }
    }
}
