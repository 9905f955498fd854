//! What the gateway tells Prometheus. Counts of packets and rows are read from the maps when they are
//! asked for; everything else is counted anyway. No scrape walks over sessions, and the fast path
//! does nothing for it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use doorstep_daemon::metrics::{Family, Histogram, Page, SHORT_SECONDS, Source};
use doorstep_gateway_common::Reason;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::config::Config;
use crate::control::ServerStates;
use crate::dataplane::{Role, State, UplinkStates};
use crate::engine::OperatorTally;
use crate::runtime::{Input, Measured, Query};

static BUILD_INFO: Family = Family::gauge(
    "doorstep_gateway_build_info",
    "Always 1; the version that runs.",
    &["version"],
);
static START_TIME_SECONDS: Family = Family::gauge(
    "doorstep_gateway_start_time_seconds",
    "When the daemon started, in Unix time.",
    &[],
);
static PACKETS: Family = Family::counter(
    "doorstep_gateway_packets_total",
    "Packets that the programs have seen since the maps were made, by what became of them; the reasons \
     are those of reasons.md. What the daemon was given counts as punt_….",
    &["reason"],
);
static SESSIONS: Family = Family::gauge(
    "doorstep_gateway_sessions",
    "Sessions by operator and state.",
    &["operator", "state"],
);
static SESSION_BYTES: Family = Family::counter(
    "doorstep_gateway_session_bytes_total",
    "Bytes of IP that the sessions of an operator have carried since the daemon started, up: from the \
     lines, down: to them. As of when the counters were read last, which is for the reports to the \
     operator's server and when a session ends.",
    &["operator", "direction"],
);
static SLOTS_USED: Family = Family::gauge(
    "doorstep_gateway_slots_used",
    "Slots that sessions have.",
    &[],
);
static SLOTS_MAX: Family = Family::gauge(
    "doorstep_gateway_slots_max",
    "Slots that there are: max_sessions.",
    &[],
);
static RECEIPTS_UNACKNOWLEDGED: Family = Family::gauge(
    "doorstep_gateway_receipts_unacknowledged",
    "Receipts that servers have not acknowledged yet.",
    &[],
);
static MAP_ENTRIES: Family = Family::gauge(
    "doorstep_gateway_map_entries",
    "Rows of a map of the fast path.",
    &["map"],
);
static MAP_ENTRIES_MAX: Family = Family::gauge(
    "doorstep_gateway_map_entries_max",
    "Rows that the map has room for.",
    &["map"],
);
static LINES: Family = Family::gauge("doorstep_gateway_lines", "Lines of the inventory.", &[]);
static LINES_BLOCKED: Family = Family::gauge(
    "doorstep_gateway_lines_blocked",
    "Lines that are blocked, in the inventory or by hand.",
    &[],
);
static GARDEN_LINES: Family = Family::gauge(
    "doorstep_gateway_garden_lines",
    "Lines without a session that are in the garden.",
    &[],
);
static GARDEN_REFUSED: Family = Family::counter(
    "doorstep_gateway_garden_refused_total",
    "Times that a terminal has asked for the garden in vain, because it was full.",
    &[],
);
static DHCP: Family = Family::counter(
    "doorstep_gateway_dhcp_messages_total",
    "Messages of routers on lines, by what became of them.",
    &["outcome"],
);
static PORT_UP: Family = Family::gauge(
    "doorstep_gateway_port_up",
    "1 where a port is up, otherwise 0.",
    &["port", "role"],
);
static SERVER_CONNECTED: Family = Family::gauge(
    "doorstep_gateway_server_connected",
    "1 where the operator's server has welcomed the gateway, otherwise 0.",
    &["operator"],
);
static SERVER_LAST_CONTACT_SECONDS: Family = Family::gauge(
    "doorstep_gateway_server_last_contact_time_seconds",
    "When the operator's server was last in contact, in Unix time: now while it is, 0 if it never was.",
    &["operator"],
);
/// Of one commit.
pub static JOURNAL_COMMIT_DURATION_SECONDS: Family = Family::histogram(
    "doorstep_gateway_journal_commit_duration_seconds",
    "How long commits of the journal took, failed ones too.",
    SHORT_SECONDS,
);
/// Writes of one commit.
pub static JOURNAL_COMMIT_WRITES: Family = Family::histogram(
    "doorstep_gateway_journal_commit_writes",
    "How many changes shared a commit.",
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0],
);

/// All that there are.
pub static FAMILIES: &[&Family] = &[
    &BUILD_INFO,
    &START_TIME_SECONDS,
    &PACKETS,
    &SESSIONS,
    &SESSION_BYTES,
    &SLOTS_USED,
    &SLOTS_MAX,
    &RECEIPTS_UNACKNOWLEDGED,
    &MAP_ENTRIES,
    &MAP_ENTRIES_MAX,
    &LINES,
    &LINES_BLOCKED,
    &GARDEN_LINES,
    &GARDEN_REFUSED,
    &DHCP,
    &PORT_UP,
    &SERVER_CONNECTED,
    &SERVER_LAST_CONTACT_SECONDS,
    &JOURNAL_COMMIT_DURATION_SECONDS,
    &JOURNAL_COMMIT_WRITES,
];

const DIRECTIONS: [&str; 2] = ["up", "down"];
const STATES: [&str; 3] = ["establishing", "established", "closing"];

/// The values that a label can have, where there are so many and no more.
#[must_use]
pub fn label_values(family: &Family, label: &str) -> Option<Vec<&'static str>> {
    let values = match label {
        "reason" if *family == PACKETS => Reason::ALL.iter().map(|reason| reason.name()).collect(),
        "state" if *family == SESSIONS => STATES.to_vec(),
        "direction" if *family == SESSION_BYTES => DIRECTIONS.to_vec(),
        "role" if *family == PORT_UP => vec![Role::Access.name(), Role::Uplink.name()],
        _ => return None,
    };
    Some(values)
}

/// What is observed of the journal.
#[derive(Clone, Debug)]
pub struct JournalMeasures {
    pub commit_seconds: Histogram,
    pub commit_writes: Histogram,
}

impl Default for JournalMeasures {
    fn default() -> Self {
        JournalMeasures {
            commit_seconds: JOURNAL_COMMIT_DURATION_SECONDS.observer(),
            commit_writes: JOURNAL_COMMIT_WRITES.observer(),
        }
    }
}

impl JournalMeasures {
    pub(crate) fn committed(&self, writes: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        let writes = u32::try_from(writes).unwrap_or(u32::MAX);
        self.commit_writes.observe(writes.into());
    }
}

/// A running gateway's samples.
pub struct GatewayMetrics {
    pub config: Config,
    pub uplinks: UplinkStates,
    pub servers: ServerStates,
    pub inputs: mpsc::Sender<Input>,
    pub journal: JournalMeasures,
    pub started: Instant,
}

impl Source for GatewayMetrics {
    async fn scrape(&self) -> anyhow::Result<Page> {
        let measured = self.measured().await?;
        let mut page = Page::default();
        page.count(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        let now_ms = clock::now().unix_ms;
        let up_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(0);
        page.time(&START_TIME_SECONDS, &[], now_ms - up_ms);
        for (reason, packets) in &measured.reasons {
            page.count(&PACKETS, &[reason.name()], *packets);
        }
        for map in &measured.maps {
            page.count(&MAP_ENTRIES, &[map.name], map.used);
            page.count(&MAP_ENTRIES_MAX, &[map.name], map.max);
        }
        self.sessions(&mut page, &measured);
        self.servers(&mut page, now_ms);
        for port in &self.uplinks.ports() {
            let up = port.state == State::Up;
            page.count(&PORT_UP, &[&port.name, port.role.name()], up.into());
        }
        page.histogram(
            &JOURNAL_COMMIT_DURATION_SECONDS,
            &self.journal.commit_seconds,
        );
        page.histogram(&JOURNAL_COMMIT_WRITES, &self.journal.commit_writes);
        Ok(page)
    }
}

impl GatewayMetrics {
    async fn measured(&self) -> anyhow::Result<Measured> {
        let (reply, answer) = oneshot::channel();
        let question = Input::Query(Query::Measure(reply));
        let stopping = "the daemon is stopping";
        self.inputs.send(question).await.ok().context(stopping)?;
        let measured = answer.await.context(stopping)?;
        let (counted, inspection) = measured;
        let inspected = inspection.await.context(stopping)?;
        let (reasons, maps) =
            inspected.map_err(|error| anyhow::anyhow!("the maps cannot be read: {error}"))?;
        Ok(Measured {
            reasons,
            maps,
            ..counted
        })
    }

    fn sessions(&self, page: &mut Page, measured: &Measured) {
        for operator in &self.config.operators {
            let name = operator.name.as_str();
            let mut tallies = measured.operators.iter();
            let tally = tallies.find(|(index, _)| *index == operator.index);
            let tally = tally.map_or(OperatorTally::default(), |(_, tally)| *tally);
            let sessions = [tally.establishing, tally.established, tally.closing];
            for (state, sessions) in STATES.into_iter().zip(sessions) {
                page.count(&SESSIONS, &[name, state], sessions);
            }
            let bytes = [tally.upstream_bytes, tally.downstream_bytes];
            for (direction, bytes) in DIRECTIONS.into_iter().zip(bytes) {
                page.count(&SESSION_BYTES, &[name, direction], bytes);
            }
        }
        let summary = &measured.summary;
        page.count(&SLOTS_USED, &[], summary.slots_used.into());
        page.count(&SLOTS_MAX, &[], self.config.max_sessions.into());
        page.count(&RECEIPTS_UNACKNOWLEDGED, &[], summary.disconnected_unacked);
        page.count(&LINES, &[], summary.lines);
        page.count(&LINES_BLOCKED, &[], summary.lines_blocked);
        page.count(&GARDEN_LINES, &[], summary.leases);
        page.count(&GARDEN_REFUSED, &[], summary.leases_refused);
        for (outcome, messages) in &summary.dhcp {
            page.count(&DHCP, &[*outcome], *messages);
        }
    }

    fn servers(&self, page: &mut Page, now_ms: i64) {
        for operator in &self.config.operators {
            let state = self.servers.get(operator.index);
            let name = [operator.name.as_str()];
            page.count(&SERVER_CONNECTED, &name, state.connected.into());
            let contact_ms = match state.connected {
                true => now_ms,
                false => state.contact_unix_ms,
            };
            page.time(&SERVER_LAST_CONTACT_SECONDS, &name, contact_ms);
        }
    }
}
