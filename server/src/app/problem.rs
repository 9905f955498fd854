//! Pages of what cannot be shown or done. In which language is known only around the handlers.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use doorstep_app::language::Language;
use doorstep_app::shell::{Shell, bad, home_link};
use doorstep_app::words::Words;
use maud::{Markup, html};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::words::{Own, own};
use crate::engine::EngineError;
use crate::store::StoreError;

/// What people are told in their own language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nowhere,
    Gone,
    SignedOut,
    Forged,
    Busy,
    /// Seconds until it may be tried again.
    TooOften(u64),
    BadForm,
    TooLarge,
    Failed,
    /// The server's words say why.
    NotPossible,
}

/// Why a page is not there, or something is not done.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    /// In the server's words; or empty.
    detail: String,
}

pub type Result<T> = std::result::Result<T, Problem>;

impl From<Kind> for Problem {
    fn from(kind: Kind) -> Self {
        Problem {
            kind,
            detail: String::new(),
        }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::NotFound(_) => Kind::Gone,
            EngineError::Unauthenticated => Kind::SignedOut,
            EngineError::Busy | EngineError::Interrupted(_) => Kind::Busy,
            EngineError::Invalid(_)
            | EngineError::AlreadyRegistered
            | EngineError::Forbidden(_)
            | EngineError::NoGateway
            | EngineError::Precondition(_)
            | EngineError::Exhausted(_) => {
                return Problem {
                    kind: Kind::NotPossible,
                    detail: error.to_string(),
                };
            }
            EngineError::Store(_) | EngineError::Vault(_) => {
                tracing::error!(%error, "the app cannot do what was asked");
                Kind::Failed
            }
        };
        kind.into()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

/// Of the guard's: what is refused so that the rest is served.
impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let hint = status.get_details_retry_info();
        let after = hint.and_then(|hint| hint.retry_delay);
        after
            .map_or(Kind::Busy, |after: Duration| {
                Kind::TooOften(after.as_secs() + 1)
            })
            .into()
    }
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Kind::Nowhere | Kind::Gone => StatusCode::NOT_FOUND,
            Kind::SignedOut => StatusCode::UNAUTHORIZED,
            Kind::Forged => StatusCode::FORBIDDEN,
            Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Kind::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Kind::BadForm => StatusCode::BAD_REQUEST,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::NotPossible => StatusCode::CONFLICT,
        }
    }

    fn text(self, words: &Words, own: &Own) -> String {
        let said = &words.problems;
        let text = match self {
            Kind::Nowhere => said.nowhere,
            Kind::Gone => said.gone,
            Kind::SignedOut => own.signed_out,
            Kind::Forged => said.forged,
            Kind::Busy => said.busy,
            Kind::TooOften(seconds) => {
                return own.too_often.replace("{}", &seconds.to_string());
            }
            Kind::BadForm => said.bad_form,
            Kind::TooLarge => said.too_large,
            Kind::Failed => own.failed,
            Kind::NotPossible => own.not_possible,
        };
        text.to_owned()
    }
}

impl Problem {
    /// Within a page.
    pub fn notice(&self, language: Language) -> Markup {
        let words = language.words();
        html! {
            (bad(&self.kind.text(words, own(language))))
            @if !self.detail.is_empty() {
                p.faint { (words.steps.detail) ": " span lang="en" { (self.detail) } }
            }
        }
    }

    /// As a page of its own.
    pub fn page(&self, language: Language) -> Response {
        let words = language.words();
        let shell = Shell {
            language,
            title: words.problems.title,
            here: "/",
            events: None,
            is_waiting: false,
        };
        let page = shell.render(&self.notice(language), &home_link(words));
        (self.kind.status(), page).into_response()
    }
}

impl IntoResponse for Problem {
    /// The page is made where the language is known.
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Of paths that lead nowhere.
pub async fn nowhere() -> Problem {
    Kind::Nowhere.into()
}
