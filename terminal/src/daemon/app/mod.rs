//! The app: pages for whoever is in the rooms, made with `doorstep-app`.
//!
//! | module | what it does |
//! |---|---|
//! | `doors` | sockets at the terminal's addresses in the rooms, and connections |
//! | `host` | by which names the pages may be asked for |
//! | `visit`, `problem` | who asks, in which language; refusals |
//! | `home`, `register`, `begin`, `carry_out` | the pages, and what is done |
//! | `door_code` | the door's code, from a picture or as text |
//! | `jobs`, `events` | what is under way, and who is told that it goes on |
//!
//! Whoever is in the rooms may use it, as they may pull the plug. What is done goes through the same
//! calls as the admin socket's.

mod begin;
mod carry_out;
mod door_code;
pub(super) mod doors;
mod events;
mod home;
mod host;
mod jobs;
mod problem;
mod register;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use doorstep_web::cookie::Cookie;
use doorstep_web::session::{Lifetimes, Sessions};
use doorstep_web::{assets, headers};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::host::Hosts;
use self::jobs::Jobs;
use self::visit::Visitor;
use super::calls::Calls;

/// Browsers that have a page of ours with a form at once.
const VISITORS: usize = 1024;
const LIFETIMES: Lifetimes = Lifetimes {
    idle: Duration::from_secs(3600),
    absolute: Duration::from_secs(12 * 3600),
};
/// Pages that wait for news at once.
const STREAMS: usize = 32;
/// Largest form without a picture.
const MAX_FORM_LEN: usize = 16 * 1024;
/// How long an answer may take, with the picture that is sent for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// What all pages share.
pub(super) struct App {
    calls: Calls,
    visitors: Sessions<Visitor>,
    cookie: Cookie,
    language: Cookie,
    jobs: Jobs,
    streams: Arc<Semaphore>,
    /// One picture is unpacked at a time.
    pictures: Semaphore,
    stop: CancellationToken,
}

impl App {
    pub(super) fn new(calls: Calls, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            calls,
            visitors: Sessions::new(LIFETIMES, VISITORS),
            cookie: Cookie::new("app", false),
            language: Cookie::new("language", false),
            jobs: Jobs::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            pictures: Semaphore::new(1),
            stop,
        })
    }

    /// All pages, asked for by these names.
    fn router(self: &Arc<Self>, hosts: Hosts) -> Router {
        Router::new()
            .route("/", get(home::show))
            .route("/events", get(events::stream))
            .route("/steps/{job}", get(home::steps))
            .route("/register/{deed}", get(register::form).post(register::send))
            .route(
                "/register/{deed}/code",
                get(register::form).post(register::send_code),
            )
            .route(
                "/{deed}/door",
                get(begin::again)
                    .post(begin::door)
                    .layer(DefaultBodyLimit::max(door_code::MAX_LEN)),
            )
            .route("/{deed}", get(begin::begin).post(carry_out::carry_out))
            .fallback(problem::nowhere)
            .layer(DefaultBodyLimit::max(MAX_FORM_LEN))
            .layer(middleware::from_fn(within))
            .with_state(Arc::clone(self))
            .merge(assets::router())
            .layer(middleware::from_fn_with_state(Arc::new(hosts), host::known))
            .layer(middleware::from_fn(headers::protect_plain))
    }
}

/// Nobody holds a place for ever by sending slowly.
async fn within(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
