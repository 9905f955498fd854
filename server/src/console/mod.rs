//! The operator's web console: pages that the server makes, for people who have signed in.
//!
//! | module | what it does |
//! |---|---|
//! | `user` | who asks, and whether a form is theirs |
//! | `sign_in` | in and out |
//! | `overview`, `tree` | sessions by city, district, community and building |
//! | `sessions`, `session`, `moves` | lists, and one of them with its history |
//! | `gateways`, `plot` | gateways, and what goes through them |
//! | `subscribers`, `connect`, `deeds`, `accounts` | what people do; each asks once more first |
//! | `events` | tells pages that something has changed |
//! | `shell`, `problem`, `text` | the page around them, refusals, words |
//!
//! What is done goes through the same calls of the engine as the administration socket's, which look
//! at the account's role and write to the audit log.

mod accounts;
mod connect;
mod deeds;
mod events;
mod gateways;
mod moves;
mod overview;
mod plot;
mod problem;
mod session;
mod sessions;
mod shell;
mod sign_in;
mod subscribers;
mod text;
mod tree;
mod user;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use doorstep_daemon::blocking;
use doorstep_web::cookie::Cookie;
use doorstep_web::session::Sessions;
use doorstep_web::{assets, headers, password};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::engine::Engine;
use crate::keys::server::{ServerTls, Site};
use crate::listener::browsers::{Incoming, Peer};

/// People signed in at once.
const SESSIONS: usize = 1024;
/// Pages that wait for news at once.
const STREAMS: usize = 256;
/// Largest form.
const MAX_FORM_LEN: usize = 16 * 1024;

/// What all pages share.
struct Console {
    engine: Arc<Engine>,
    sessions: Sessions<user::SignedIn>,
    cookie: Cookie,
    attempts: sign_in::Attempts,
    places: overview::Places,
    streams: Arc<Semaphore>,
    /// As titles have it.
    application: String,
    stop: CancellationToken,
}

/// Binds the console's socket.
pub async fn bind(config: &config::Console) -> Result<TcpListener> {
    TcpListener::bind(config.site.listen)
        .await
        .with_context(|| format!("console: cannot listen on {}", config.site.listen))
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    engine: Arc<Engine>,
    tls: Arc<ServerTls>,
    stop: CancellationToken,
) -> Result<()> {
    let config = engine.config.console.clone();
    let config = config.context("console: it is not configured")?;
    engine.hub.traffic.keep();
    let console = Arc::new(Console {
        sessions: Sessions::new(config.lifetimes(), SESSIONS),
        cookie: Cookie::new("console", config.site.tls),
        attempts: sign_in::Attempts::new(config.sign_in_rate),
        places: overview::Places::default(),
        streams: Arc::new(Semaphore::new(STREAMS)),
        application: format!("{} console", engine.config.operator),
        stop: stop.clone(),
        engine: Arc::clone(&engine),
    });
    // What an unknown account is compared with is made now, not by the first who tries one.
    let _ = blocking::run(|| password::is_right("", None)).await;
    let guard = Arc::clone(&engine.guard);
    let site = (Site::Console, &config.site);
    let incoming = Incoming::new(listener, site, tls, guard, stop.clone())?;
    let routes = router(console).into_make_service_with_connect_info::<Peer>();
    axum::serve(incoming, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("the console failed")
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/events", get(events::stream))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(session::show))
        .route(
            "/sessions/{id}/{deed}",
            get(deeds::ask).post(deeds::carry_out),
        )
        .route("/moves", get(moves::list))
        .route("/gateways", get(gateways::list))
        .route("/gateways/{id}", get(gateways::show))
        .route(
            "/subscribers",
            get(subscribers::form).post(subscribers::find),
        )
        .route("/subscribers/{id}", get(subscribers::show))
        .route("/connect", get(connect::form).post(connect::connect))
        .route("/accounts", get(accounts::list).post(accounts::add))
        .route(
            "/accounts/{name}",
            get(accounts::show).post(accounts::change),
        )
        .route(
            "/password",
            get(accounts::own_form).post(accounts::own_change),
        )
        .fallback(problem::nowhere)
        .layer(DefaultBodyLimit::max(MAX_FORM_LEN))
        .with_state(console)
        .merge(assets::router())
        .layer(middleware::from_fn(headers::protect))
}
