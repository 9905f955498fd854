//! Why a page is not there, or something is not done.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use doorstep_app::shell::{bad, home_link};
use maud::html;
use tonic::{Code, Status};

use super::App;
use super::visit::Visit;

#[derive(Debug)]
pub enum Problem {
    /// A form that was not sent by a page of ours, or by one that is too old.
    Forged,
    BadForm,
    Nowhere,
    /// The connection that it is about.
    Gone,
    Busy,
    /// Nothing was heard of the operator's server, and why.
    Unreached(Status),
    /// The daemon has not done it, and why.
    Refused(Status),
}

pub type Result<T> = std::result::Result<T, Problem>;

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Problem::Refused(status)
    }
}

impl Problem {
    /// Of what the operator's server was asked.
    pub fn of_operator(status: Status) -> Self {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => Problem::Unreached(status),
            _ => Problem::Refused(status),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Problem::Forged => StatusCode::FORBIDDEN,
            Problem::BadForm => StatusCode::BAD_REQUEST,
            Problem::Nowhere | Problem::Gone => StatusCode::NOT_FOUND,
            Problem::Busy | Problem::Unreached(_) => StatusCode::SERVICE_UNAVAILABLE,
            Problem::Refused(status) if status.code() == Code::Unavailable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Problem::Refused(_) => StatusCode::CONFLICT,
        }
    }

    pub fn page(&self, visit: &Visit) -> Response {
        let words = visit.words();
        let said = &words.problems;
        let (text, detail) = match self {
            Problem::Forged => (said.forged, ""),
            Problem::BadForm => (said.bad_form, ""),
            Problem::Nowhere => (said.nowhere, ""),
            Problem::Gone => (said.gone, ""),
            Problem::Busy => (said.busy, ""),
            Problem::Unreached(status) => (said.unreached, status.message()),
            Problem::Refused(status) if status.code() == Code::Unavailable => {
                (said.stopping, status.message())
            }
            Problem::Refused(status) => (said.failed, status.message()),
        };
        let content = html! {
            (bad(text))
            @if !detail.is_empty() { p.faint lang="en" { (detail) } }
            (home_link(words))
        };
        let mut response = visit.page(said.title, &content);
        *response.status_mut() = self.status();
        response
    }
}

/// Of paths that lead nowhere.
pub async fn nowhere(State(_): State<Arc<App>>, visit: Visit) -> Response {
    Problem::Nowhere.page(&visit)
}
