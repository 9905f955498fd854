//! Who asks: the account behind a cookie, looked up anew each time, so that what was changed about it
//! holds at once, on every server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Redirect, Response};
use doorstep_web::form::Fields;
use doorstep_web::origin;
use doorstep_web::page::CSRF;
use doorstep_web::session::Use;
use doorstep_web::token::Token;

use super::Console;
use super::problem::{Problem, Result};
use super::text::encode;
use crate::account::{Actor, Name, Right, Role};

/// Says that a page looks for news by itself.
const BY_PAGE: &str = "x-doorstep-page";

/// What a session is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    pub name: Name,
    /// Of the password that it was begun with.
    pub password_ms: i64,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct User {
    pub name: Name,
    pub role: Role,
    pub csrf: Token,
}

impl User {
    pub fn actor(&self) -> Actor {
        Actor::Account(self.name, self.role)
    }

    pub fn may(&self, right: Right) -> bool {
        self.role.may(right)
    }

    pub fn need(&self, right: Right) -> Result<()> {
        if self.may(right) {
            Ok(())
        } else {
            Err(Problem::forbidden(right))
        }
    }
}

impl Console {
    /// Who sends these headers, if they are signed in.
    pub async fn user(&self, headers: &HeaderMap, by: Use) -> Result<Option<User>> {
        let Some(cookie) = self.cookie.read(headers) else {
            return Ok(None);
        };
        let Some(session) = self.sessions.find(cookie, Instant::now(), by) else {
            return Ok(None);
        };
        let SignedIn { name, password_ms } = session.who;
        let account = self.engine.store.account(name).await?;
        let account =
            account.filter(|account| !account.is_disabled && account.password_ms == password_ms);
        let Some(account) = account else {
            self.sessions.end(cookie);
            return Ok(None);
        };
        Ok(Some(User {
            name,
            role: account.role,
            csrf: session.csrf,
        }))
    }
}

impl FromRequestParts<Arc<Console>> for User {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> std::result::Result<Self, Response> {
        let by = if parts.headers.contains_key(BY_PAGE) {
            Use::Page
        } else {
            Use::Person
        };
        match console.user(&parts.headers, by).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) if parts.method == Method::GET => {
                let to = parts.uri.path_and_query().map_or("/", |to| to.as_str());
                let sign_in = match to {
                    "/" => "/sign-in".to_owned(),
                    to => format!("/sign-in?to={}", encode(to)),
                };
                Err(Redirect::to(&sign_in).into_response())
            }
            Ok(None) => Err(Problem::signed_out().into_response()),
            Err(problem) => Err(problem.into_response()),
        }
    }
}

/// A form that a browser has sent for a page of ours.
pub struct OwnForm(pub Fields);

impl FromRequest<Arc<Console>> for OwnForm {
    type Rejection = Response;

    async fn from_request(
        request: Request,
        console: &Arc<Console>,
    ) -> std::result::Result<Self, Response> {
        if !origin::is_own(request.headers(), request.uri()) {
            return Err(Problem::forged().into_response());
        }
        let Form(fields) = Form::<HashMap<_, _>>::from_request(request, console)
            .await
            .map_err(|error| Problem::invalid("form", error.body_text()).into_response())?;
        Ok(OwnForm(fields.into()))
    }
}

/// A form of somebody who is signed in, sent by a page of that very session.
pub struct Posted {
    pub user: User,
    pub fields: Fields,
}

impl FromRequest<Arc<Console>> for Posted {
    type Rejection = Response;

    async fn from_request(
        request: Request,
        console: &Arc<Console>,
    ) -> std::result::Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let user = User::from_request_parts(&mut parts, console).await?;
        let request = Request::from_parts(parts, body);
        let OwnForm(fields) = OwnForm::from_request(request, console).await?;
        if !user.csrf.is(fields.get(CSRF)) {
            return Err(Problem::forged().into_response());
        }
        Ok(Posted { user, fields })
    }
}
