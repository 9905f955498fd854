//! What holds for every request: limits, language, whose phone it is, problems in words.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::header::{ACCEPT_LANGUAGE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse as _, Redirect, Response};
use doorstep_app::language::Language;

use super::App;
use super::owner::Owner;
use super::problem::{Kind, Problem, Result};
use crate::limits::Source;
use crate::listener::browsers::Peer;

/// Longest that a request may take: a picture over a bad network.
const PATIENCE: Duration = Duration::from_secs(60);
/// Says that a page looks for news by itself.
const BY_PAGE: &str = "x-doorstep-page";
const LANGUAGE_S: u32 = 365 * 24 * 3600;

/// In which language somebody is answered.
#[derive(Clone, Copy, Debug)]
pub struct Reader(pub Language);

impl FromRequestParts<Arc<App>> for Reader {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _: &Arc<App>,
    ) -> std::result::Result<Self, Self::Rejection> {
        let reader = parts.extensions.get::<Reader>().copied();
        Ok(reader.unwrap_or(Reader(Language::English)))
    }
}

pub async fn around(
    State(app): State<Arc<App>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some((language, path)) = chosen_language(&request) {
        let set = app.language.keep(language.code(), LANGUAGE_S);
        return (AppendHeaders([(SET_COOKIE, set)]), Redirect::to(&path)).into_response();
    }
    let language = language(&app, request.headers());
    let is_registration =
        request.method() == Method::POST && request.uri().path().starts_with("/register");
    let admitted = app
        .engine
        .guard
        .admit_from(Source::from(peer), is_registration);
    let _place = match admitted {
        Ok(place) => place,
        Err(status) => return Problem::from(status).page(language),
    };
    request.extensions_mut().insert(Reader(language));
    let renewed = match sign_in(&app, &mut request).await {
        Ok(renewed) => renewed,
        Err(problem) => return problem.page(language),
    };
    let answered = tokio::time::timeout(PATIENCE, next.run(request)).await;
    let mut response = match answered {
        Ok(response) => response,
        Err(_) => return Problem::from(Kind::Busy).page(language),
    };
    if let Some(problem) = response.extensions().get::<Problem>() {
        response = problem.page(language);
    }
    if let Some(cookie) = renewed
        && !response.headers().contains_key(SET_COOKIE)
    {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Notes whose phone it is; the cookie that it is to keep instead, if it was used for long.
async fn sign_in(app: &App, request: &mut Request) -> Result<Option<HeaderValue>> {
    let Some(token) = app.token.read(request.headers()) else {
        return Ok(None);
    };
    let engine = &app.engine;
    engine.guard.phone(token)?;
    let Some(signed_in) = engine.whose_phone(token, app.idle).await? else {
        return Ok(None);
    };
    let owner = Owner::new(
        signed_in.subscriber,
        engine.phone_proof(signed_in.subscriber),
    );
    // A page that is left open keeps nobody signed in.
    let is_page = request.headers().contains_key(BY_PAGE) || request.uri().path() == "/events";
    request.extensions_mut().insert(owner);
    let renewed = signed_in.renewed.filter(|_| !is_page);
    Ok(renewed.map(|token| app.token.keep(&token, idle_s(app))))
}

/// How long a browser keeps the cookie.
pub fn idle_s(app: &App) -> u32 {
    u32::try_from(app.idle.as_secs()).unwrap_or(u32::MAX)
}

/// The language that is asked for by a page's link, and the same address without it.
fn chosen_language(request: &Request) -> Option<(Language, String)> {
    if request.method() != Method::GET {
        return None;
    }
    without_language(request.uri())
}

fn without_language(uri: &Uri) -> Option<(Language, String)> {
    let is_language = |pair: &&str| pair.starts_with("language=");
    let pairs = uri.query()?.split('&');
    let chosen = pairs.clone().find(is_language)?;
    let language = Language::of(chosen.strip_prefix("language=")?)?;
    let rest: Vec<_> = pairs.filter(|pair| !is_language(pair)).collect();
    let mark = if rest.is_empty() { "" } else { "?" };
    // One slash: with two it would be another host.
    let path = uri.path().trim_start_matches('/');
    Some((language, format!("/{path}{mark}{}", rest.join("&"))))
}

/// As chosen before, or as the browser prefers.
fn language(app: &App, headers: &HeaderMap) -> Language {
    let kept = app.language.read(headers).and_then(Language::of);
    kept.unwrap_or_else(|| {
        let accepted = headers.get(ACCEPT_LANGUAGE);
        let accepted = accepted.and_then(|value| value.to_str().ok());
        Language::accepted(accepted.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_chosen_where_one_is() {
        for (uri, language) in [
            ("/", None),
            ("/move?session=1", None),
            ("/?language=de", None),
            ("/?language=zh", Some((Language::Chinese, "/"))),
            (
                "/move?session=1&language=en",
                Some((Language::English, "/move?session=1")),
            ),
            (
                "//evil.example/?language=en",
                Some((Language::English, "/evil.example/")),
            ),
        ] {
            let expected = language.map(|(language, path)| (language, path.to_owned()));
            assert_eq!(without_language(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
