//! The subscribers' app on their phones: whoever has an ordinary router needs nothing else.
//!
//! | module | what it does |
//! |---|---|
//! | `around` | what holds for every request: limits, language, whose phone it is, problems in words |
//! | `owner` | whose phone it is, and whether a form is theirs |
//! | `register` | who one is; signing in again, and out |
//! | `home` | connections as they are |
//! | `deeds` | plan, door, confirmation: connecting, moving, adding, releasing |
//! | `door` | the text of a door's code, typed or from a picture |
//! | `steps`, `events` | how it goes on |
//! | `problem`, `words` | refusals, and what only these pages say |
//!
//! The pages are those of `doorstep_app`, as the terminals have them. What is done goes through the engine's
//! calls, as requests of terminals do.

mod around;
mod deeds;
mod door;
mod events;
mod home;
mod owner;
mod problem;
mod register;
mod steps;
mod words;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use doorstep_web::cookie::Cookie;
use doorstep_web::{assets, headers};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::engine::Engine;
use crate::keys::server::{ServerTls, Site};
use crate::limits::Buckets;
use crate::listener::browsers::{Incoming, Peer};
use crate::verification::Verifier;

/// Pages that wait for news at once.
const STREAMS: usize = 4096;
/// Largest form without a picture.
const MAX_FORM_LEN: usize = 16 * 1024;
/// Largest picture, with what stands around it.
const MAX_PICTURE_LEN: usize = 12 * 1024 * 1024;
/// Pictures that are on their way at once: each is kept in memory.
const PICTURES: usize = 16;
/// Pictures that are read at once: each takes a processor for a while.
const READ_AT_ONCE: usize = 2;

/// What all pages share.
struct App {
    engine: Arc<Engine>,
    verifier: Option<Arc<Verifier>>,
    /// What a phone keeps to be known again.
    token: Cookie,
    /// That a code was sent.
    code: Cookie,
    language: Cookie,
    /// By number, whoever's.
    attempts: Buckets<[u8; 32]>,
    pictures: Semaphore,
    reading: Semaphore,
    streams: Arc<Semaphore>,
    idle: Duration,
    stop: CancellationToken,
}

/// Binds the app's socket.
pub async fn bind(config: &config::App) -> Result<TcpListener> {
    TcpListener::bind(config.site.listen)
        .await
        .with_context(|| format!("app: cannot listen on {}", config.site.listen))
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    verifier: Option<Arc<Verifier>>,
    tls: Arc<ServerTls>,
    stop: CancellationToken,
) -> Result<()> {
    let config = engine.config.app.clone();
    let config = config.context("app: it is not configured")?;
    let is_secure = config.site.tls;
    let app = Arc::new(App {
        verifier,
        token: Cookie::new("app", is_secure),
        code: Cookie::new("app-code", is_secure),
        language: Cookie::new("app-language", is_secure),
        attempts: Buckets::new(config.sign_in_rate),
        pictures: Semaphore::new(PICTURES),
        reading: Semaphore::new(READ_AT_ONCE),
        streams: Arc::new(Semaphore::new(STREAMS)),
        idle: config.idle,
        stop: stop.clone(),
        engine: Arc::clone(&engine),
    });
    let guard = Arc::clone(&engine.guard);
    let site = (Site::App, &config.site);
    let incoming = Incoming::new(listener, site, tls, guard, stop.clone())?;
    let routes = router(app).into_make_service_with_connect_info::<Peer>();
    axum::serve(incoming, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the app failed")
}

fn router(app: Arc<App>) -> Router {
    let door = post(deeds::door).layer(DefaultBodyLimit::max(MAX_PICTURE_LEN));
    Router::new()
        .route("/", get(home::show))
        .route("/register", get(register::form).post(register::numbers))
        .route("/register/connect", post(register::numbers))
        .route("/register/connect/code", post(register::code))
        .route(
            "/register/secret",
            get(register::secret_form).post(register::secret),
        )
        .route("/sign-out", post(register::sign_out))
        .route("/events", get(events::stream))
        .route("/sessions/{id}", get(steps::show))
        .route("/{deed}", get(deeds::begin).post(deeds::carry_out))
        .route("/{deed}/door", door)
        .fallback(problem::nowhere)
        .layer(DefaultBodyLimit::max(MAX_FORM_LEN))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            around::around,
        ))
        .with_state(app)
        .merge(assets::router())
        .layer(middleware::from_fn(headers::protect))
}
