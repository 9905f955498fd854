//! Pages of what cannot be shown or done.

use std::fmt;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use doorstep_web::page::Page;
use doorstep_web::token::NoRandom;
use maud::html;

use crate::account::Right;
use crate::engine::EngineError;
use crate::store::StoreError;

/// Why a page is not there, or something is not done.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    text: String,
}

pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Problem { status, text }
    }

    /// Something that was given is not what it must be.
    pub fn invalid(field: &str, error: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("{field}: {error}"))
    }

    pub fn not_found(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub fn signed_out() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "You are not signed in any more, and nothing was done. Sign in, and do it again.",
        )
    }

    pub fn forged() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This form was not sent by a page of your own session, and nothing was done. Go back, load \
             the page anew, and do it again.",
        )
    }

    pub fn too_often(seconds: u64) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("Too many attempts. Try again in {seconds} seconds."),
        )
    }

    pub fn forbidden(right: Right) -> Self {
        EngineError::Forbidden(right).into()
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::Invalid(_) => StatusCode::BAD_REQUEST,
            EngineError::Forbidden(_) => StatusCode::FORBIDDEN,
            EngineError::NotFound(_) => StatusCode::NOT_FOUND,
            EngineError::Unauthenticated
            | EngineError::AlreadyRegistered
            | EngineError::NoGateway
            | EngineError::Precondition(_)
            | EngineError::Exhausted(_) => StatusCode::CONFLICT,
            EngineError::Busy | EngineError::Interrupted(_) => StatusCode::SERVICE_UNAVAILABLE,
            EngineError::Store(_) | EngineError::Vault(_) => {
                tracing::error!(%error, "the console cannot do what was asked");
                return Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The server could not do this; its log says why.",
                );
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<NoRandom> for Problem {
    fn from(error: NoRandom) -> Self {
        tracing::error!(%error, "nobody can sign in");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = match self.status {
            StatusCode::BAD_REQUEST => "This cannot be right",
            StatusCode::UNAUTHORIZED => "Not signed in",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::NOT_FOUND => "Not there",
            StatusCode::CONFLICT => "Not possible now",
            StatusCode::TOO_MANY_REQUESTS => "Not so fast",
            _ => "It failed",
        };
        let page = Page {
            application: "Doorstep",
            title,
            places: &[],
            person: None,
            events: None,
        };
        let live = html! { p.notice.bad role="alert" { (self.text) } };
        let rest = html! { p { a href="/" { "To the overview" } } };
        (self.status, page.render(&live, &rest)).into_response()
    }
}

/// Of paths that lead nowhere.
pub async fn nowhere() -> Problem {
    Problem::not_found("There is no such page.")
}
