//! What the terminal tells Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use doorstep_daemon::metrics::{Family, Page, Source};
use doorstep_proto::v1 as pb;
use tokio::sync::{mpsc, oneshot};

use super::events::{Command, Event};
use super::steps::name;

static BUILD_INFO: Family = Family::gauge(
    "doorstep_terminal_build_info",
    "Always 1; the version that runs.",
    &["version"],
);
static START_TIME_SECONDS: Family = Family::gauge(
    "doorstep_terminal_start_time_seconds",
    "When the daemon started, in Unix time.",
    &[],
);
static SESSIONS: Family = Family::gauge(
    "doorstep_terminal_sessions",
    "Sessions by state: those of the status command.",
    &["state"],
);
static PROBES: Family = Family::counter(
    "doorstep_terminal_probes_total",
    "Questions to gateways whether a session is alive, sent, and answers to them.",
    &["event"],
);
static REPAIRS: Family = Family::counter(
    "doorstep_terminal_repairs_total",
    "Times that links were found otherwise than the daemon had made them.",
    &[],
);
static LAST_REPAIR_TIME_SECONDS: Family = Family::gauge(
    "doorstep_terminal_last_repair_time_seconds",
    "When that was last, in Unix time; 0: never.",
    &[],
);
static PORT_LISTENING: Family = Family::gauge(
    "doorstep_terminal_port_listening",
    "1 where a port toward the building is listened on, otherwise 0.",
    &["port"],
);
static SERVER_CONNECTED: Family = Family::gauge(
    "doorstep_terminal_server_connected",
    "1 where the operator's server is connected, otherwise 0.",
    &["operator"],
);
static GARDEN: Family = Family::gauge(
    "doorstep_terminal_garden",
    "1 while the terminal is in a gateway's garden, otherwise 0.",
    &[],
);

/// All that there are.
pub static FAMILIES: &[&Family] = &[
    &BUILD_INFO,
    &START_TIME_SECONDS,
    &SESSIONS,
    &PROBES,
    &REPAIRS,
    &LAST_REPAIR_TIME_SECONDS,
    &PORT_LISTENING,
    &SERVER_CONNECTED,
    &GARDEN,
];

/// The states that `status` names, in the order in which a session takes them.
const STATES: [&str; 13] = [
    name::WAITING,
    "connecting",
    "establishing",
    name::BRINGING_UP,
    name::ACCEPTING,
    name::ESTABLISHED,
    name::SILENT,
    name::RELEASING,
    "disconnecting",
    "disconnecting-unconfirmed",
    name::RELEASED,
    name::REFUSED,
    name::FAILED,
];

const EVENTS: [&str; 2] = ["sent", "answered"];

/// The values that a label can have, where there are so many and no more.
#[must_use]
pub fn label_values(family: &Family, label: &str) -> Option<Vec<&'static str>> {
    match label {
        "state" if *family == SESSIONS => Some(STATES.to_vec()),
        "event" if *family == PROBES => Some(EVENTS.to_vec()),
        _ => None,
    }
}

/// Counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub probes_sent: AtomicU64,
    pub probes_answered: AtomicU64,
}

/// A running terminal's samples.
pub(super) struct TerminalMetrics {
    pub events: mpsc::Sender<Event>,
    pub counts: Arc<Counts>,
    pub started_ms: i64,
}

impl TerminalMetrics {
    async fn status(&self) -> anyhow::Result<pb::TerminalStatus> {
        let (reply, answer) = oneshot::channel();
        let question = Event::Command(Command::Status { reply });
        let stopping = "the daemon is stopping";
        self.events.send(question).await.ok().context(stopping)?;
        answer.await.context(stopping)
    }
}

impl Source for TerminalMetrics {
    async fn scrape(&self) -> anyhow::Result<Page> {
        let status = self.status().await?;
        let mut page = Page::default();
        page.count(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        page.time(&START_TIME_SECONDS, &[], self.started_ms);
        for state in STATES {
            // A home has a handful.
            let sessions = status.sessions.iter();
            let count = sessions.filter(|session| session.state == state).count();
            page.count(
                &SESSIONS,
                &[state],
                u64::try_from(count).unwrap_or(u64::MAX),
            );
        }
        let counts = [&self.counts.probes_sent, &self.counts.probes_answered];
        for (event, count) in EVENTS.into_iter().zip(counts) {
            page.count(&PROBES, &[event], count.load(Ordering::Relaxed));
        }
        page.count(&REPAIRS, &[], status.repairs);
        page.time(&LAST_REPAIR_TIME_SECONDS, &[], status.last_repair_unix_ms);
        for port in &status.ports {
            page.count(&PORT_LISTENING, &[&port.name], port.listening.into());
        }
        for operator in &status.operators {
            page.count(
                &SERVER_CONNECTED,
                &[&operator.name],
                operator.connected.into(),
            );
        }
        page.count(&GARDEN, &[], status.garden.is_some().into());
        Ok(page)
    }
}
