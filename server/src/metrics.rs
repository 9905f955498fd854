//! What the server tells Prometheus. Every value is a count that is kept anyway; nothing is walked
//! over when it is asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorstep_daemon::metrics::{Family, LONG_SECONDS, Page, SHORT_SECONDS, Source};

use crate::engine::Engine;
use crate::limits::{Answered, Reason};
use crate::session::State;
use crate::store::Tallies;

static BUILD_INFO: Family = Family::gauge(
    "doorstep_server_build_info",
    "Always 1; the version that runs.",
    &["version"],
);
static START_TIME_SECONDS: Family = Family::gauge(
    "doorstep_server_start_time_seconds",
    "When the daemon started, in Unix time.",
    &[],
);
static SESSIONS: Family = Family::gauge(
    "doorstep_server_sessions",
    "Sessions by state, in the database: of all servers that share it. As last read while it does not \
     answer.",
    &["state"],
);
static GATEWAYS_CONFIGURED: Family = Family::gauge(
    "doorstep_server_gateways_configured",
    "Gateways in the configuration.",
    &[],
);
static GATEWAYS_CONNECTED: Family = Family::gauge(
    "doorstep_server_gateways_connected",
    "Gateways that have a stream to this server.",
    &[],
);
static GATEWAY_CONNECTED: Family = Family::gauge(
    "doorstep_server_gateway_connected",
    "1 where this gateway of the configuration has a stream to this server, otherwise 0.",
    &["gateway"],
);
static WATCHES: Family = Family::gauge(
    "doorstep_server_watches",
    "Watch streams of terminals that are open.",
    &[],
);
static REQUESTS: Family = Family::counter(
    "doorstep_server_requests_total",
    "Requests at the public port since the start, by method and gRPC status. A stream counts as ok \
     once it has begun; a request that nobody waited for, or that took too long, as cancelled.",
    &["method", "status"],
);
static REFUSED: Family = Family::counter(
    "doorstep_server_refused_total",
    "Load that was not taken since the start, by the limit that it would have exceeded.",
    &["limit"],
);
/// From the request for a move to the new gateway's word that traffic flows.
pub static MOVE_DURATION_SECONDS: Family = Family::histogram(
    "doorstep_server_move_duration_seconds",
    "How long moves took that have succeeded at this server, from the request until traffic flows at \
     the new location.",
    LONG_SECONDS,
);
/// Of one transaction.
pub static COMMIT_DURATION_SECONDS: Family = Family::histogram(
    "doorstep_server_commit_duration_seconds",
    "How long transactions took to be written.",
    SHORT_SECONDS,
);
/// Units of work of one transaction.
pub static COMMIT_JOBS: Family = Family::histogram(
    "doorstep_server_commit_jobs",
    "How many units of work shared a transaction.",
    &[
        1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
    ],
);
static QUEUE_JOBS: Family = Family::gauge(
    "doorstep_server_queue_jobs",
    "Units of work that wait for a transaction.",
    &[],
);
static QUEUE_JOBS_MAX: Family = Family::gauge(
    "doorstep_server_queue_jobs_max",
    "How many may wait; requests of terminals are refused beyond.",
    &[],
);

/// All that there are.
pub static FAMILIES: &[&Family] = &[
    &BUILD_INFO,
    &START_TIME_SECONDS,
    &SESSIONS,
    &GATEWAYS_CONFIGURED,
    &GATEWAYS_CONNECTED,
    &GATEWAY_CONNECTED,
    &WATCHES,
    &REQUESTS,
    &REFUSED,
    &MOVE_DURATION_SECONDS,
    &COMMIT_DURATION_SECONDS,
    &COMMIT_JOBS,
    &QUEUE_JOBS,
    &QUEUE_JOBS_MAX,
];

/// The values that a label can have, where there are so many and no more.
#[must_use]
pub fn label_values(family: &Family, label: &str) -> Option<Vec<&'static str>> {
    let values = match label {
        "state" if *family == SESSIONS => State::ALL.map(State::name).to_vec(),
        "limit" if *family == REFUSED => Reason::ALL.map(Reason::name).to_vec(),
        "method" if *family == REQUESTS => Answered::METHODS.to_vec(),
        "status" if *family == REQUESTS => Answered::statuses().collect(),
        _ => return None,
    };
    Some(values)
}

/// How long the database is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running server's samples.
pub struct ServerMetrics {
    pub engine: Arc<Engine>,
    pub started_ms: i64,
    last: Mutex<Tallies>,
}

impl ServerMetrics {
    pub fn new(engine: Arc<Engine>, started_ms: i64) -> Self {
        ServerMetrics {
            engine,
            started_ms,
            last: Mutex::default(),
        }
    }

    /// A database that is away must not hide whatever else there is to see.
    async fn tallies(&self) -> Tallies {
        let read = tokio::time::timeout(PATIENCE, self.engine.store.tallies()).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Ok(tallies)) = read {
            *last = tallies;
        }
        last.clone()
    }
}

impl Source for ServerMetrics {
    async fn scrape(&self) -> anyhow::Result<Page> {
        let engine = &self.engine;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let mut page = Page::default();
        page.count(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        page.time(&START_TIME_SECONDS, &[], self.started_ms);
        let measures = engine.store.measures();
        for (state, sessions) in self.tallies().await.by_state() {
            page.count(&SESSIONS, &[state.name()], sessions);
        }
        let gateways = &engine.config.gateways;
        page.count(&GATEWAYS_CONFIGURED, &[], count(gateways.len()));
        let connected = engine.hub.gateways_connected();
        page.count(&GATEWAYS_CONNECTED, &[], count(connected));
        for gateway in gateways {
            let connected = engine.hub.link(&gateway.id).is_some();
            page.count(&GATEWAY_CONNECTED, &[gateway.id.as_str()], connected.into());
        }
        page.count(&WATCHES, &[], count(engine.hub.watches_open()));
        for (method, status, requests) in engine.guard.answered.counts() {
            page.count(&REQUESTS, &[method, status], requests);
        }
        for (reason, refused) in engine.guard.refusals.counts() {
            page.count(&REFUSED, &[reason.name()], refused);
        }
        page.histogram(&MOVE_DURATION_SECONDS, &measures.move_seconds);
        page.histogram(&COMMIT_DURATION_SECONDS, &measures.commit_seconds);
        page.histogram(&COMMIT_JOBS, &measures.commit_jobs);
        let (waiting, most) = engine.store.queued();
        page.count(&QUEUE_JOBS, &[], count(waiting));
        page.count(&QUEUE_JOBS_MAX, &[], count(most));
        Ok(page)
    }
}
