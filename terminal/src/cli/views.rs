//! The JSON forms of the daemon's answers: field names are part of the interface.

use doorstep_proto::v1 as pb;
use serde::Serialize;
use serde_json::Value;

use super::doctor::Finding;

/// 0 stands for "none" in the messages.
fn known(unix_ms: i64) -> Option<i64> {
    (unix_ms != 0).then_some(unix_ms)
}

/// Empty text stands for "none" in the messages.
fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Registered {
    /// Null by a dry run of who is not registered yet.
    subscriber_id: Option<String>,
}

impl From<&pb::TerminalRegisterResponse> for Registered {
    fn from(answer: &pb::TerminalRegisterResponse) -> Self {
        Self {
            subscriber_id: text(&answer.subscriber_id),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Step {
    state: String,
    detail: String,
    /// Since the command began.
    at_ms: u64,
}

/// What came of a request, or would.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Requested {
    session_id: String,
    generation: u64,
    /// The last step's.
    state: String,
    detail: String,
    gateway_id: String,
    elapsed_ms: u64,
    ipv4_address: String,
    ipv6_prefix: String,
    ipv6_line_prefix: String,
    wan_interface: String,
    /// Such as `101.1004`, or empty.
    tags: String,
    steps: Vec<Step>,
}

impl Requested {
    pub(super) fn new(
        session: &pb::TerminalSession,
        last: &pb::TerminalStep,
        steps: &[pb::TerminalStep],
    ) -> Self {
        let step = |step: &pb::TerminalStep| Step {
            state: step.state.clone(),
            detail: step.detail.clone(),
            at_ms: step.at_ms,
        };
        Self {
            session_id: session.session_id.clone(),
            generation: session.generation,
            state: last.state.clone(),
            detail: last.detail.clone(),
            gateway_id: session.gateway_id.clone(),
            elapsed_ms: last.at_ms,
            ipv4_address: session.ipv4_address.clone(),
            ipv6_prefix: session.ipv6_prefix.clone(),
            ipv6_line_prefix: session.ipv6_line_prefix.clone(),
            wan_interface: session.wan_interface.clone(),
            tags: session.tags.clone(),
            steps: steps.iter().map(step).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Released {
    session_id: String,
    /// Otherwise it is being released.
    released: bool,
}

impl From<&pb::TerminalReleaseResponse> for Released {
    fn from(answer: &pb::TerminalReleaseResponse) -> Self {
        Self {
            session_id: answer.session_id.clone(),
            released: answer.released,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Session {
    session_id: String,
    operator: String,
    /// The session whose place it is to take.
    replaces: Option<String>,
    generation: u64,
    state: String,
    detail: String,
    server_state: String,
    gateway_id: String,
    ipv4_address: String,
    ipv6_prefix: String,
    ipv6_line_prefix: String,
    dns: Vec<String>,
    wan_interface: String,
    /// Such as `101.1004`, or empty.
    tags: String,
    established_at_unix_ms: Option<i64>,
    silent_since_unix_ms: Option<i64>,
    default_route: bool,
}

impl From<&pb::TerminalSession> for Session {
    fn from(session: &pb::TerminalSession) -> Self {
        Self {
            session_id: session.session_id.clone(),
            operator: session.operator.clone(),
            replaces: text(&session.replaces),
            generation: session.generation,
            state: session.state.clone(),
            detail: session.detail.clone(),
            server_state: session.server_state.clone(),
            gateway_id: session.gateway_id.clone(),
            ipv4_address: session.ipv4_address.clone(),
            ipv6_prefix: session.ipv6_prefix.clone(),
            ipv6_line_prefix: session.ipv6_line_prefix.clone(),
            dns: session.dns.clone(),
            wan_interface: session.wan_interface.clone(),
            tags: session.tags.clone(),
            established_at_unix_ms: known(session.established_at_unix_ms),
            silent_since_unix_ms: known(session.silent_since_unix_ms),
            default_route: session.default_route,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Port {
    name: String,
    listening: bool,
    mac: String,
    detail: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Operator {
    name: String,
    url: String,
    connected: bool,
    detail: String,
    registered: bool,
    subscriber_id: String,
}

/// How devices in the rooms are served.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Rooms {
    served: bool,
    detail: String,
}

/// The servers that are reached without a session.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Garden {
    gateway_id: String,
    addresses: Vec<String>,
    servers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Status {
    garden: Option<Garden>,
    operators: Vec<Operator>,
    sessions: Vec<Session>,
    ports: Vec<Port>,
    rooms: Option<Rooms>,
    /// Former links come back then, if nobody confirms.
    confirm_by_unix_ms: Option<i64>,
    /// How often links were found otherwise than the daemon had made them.
    repairs: u64,
    last_repair_unix_ms: Option<i64>,
    last_sealed_location_id: String,
}

impl From<&pb::TerminalStatus> for Status {
    fn from(status: &pb::TerminalStatus) -> Self {
        let port = |port: &pb::TerminalPort| Port {
            name: port.name.clone(),
            listening: port.listening,
            mac: port.mac.clone(),
            detail: port.detail.clone(),
        };
        let operator = |operator: &pb::TerminalOperator| Operator {
            name: operator.name.clone(),
            url: operator.url.clone(),
            connected: operator.connected,
            detail: operator.detail.clone(),
            registered: !operator.subscriber_id.is_empty(),
            subscriber_id: operator.subscriber_id.clone(),
        };
        Self {
            garden: status.garden.as_ref().map(|garden| Garden {
                gateway_id: garden.gateway_id.clone(),
                addresses: garden.addresses.clone(),
                servers: garden.servers.clone(),
            }),
            operators: status.operators.iter().map(operator).collect(),
            sessions: status.sessions.iter().map(Session::from).collect(),
            ports: status.ports.iter().map(port).collect(),
            rooms: status.rooms.as_ref().map(|rooms| Rooms {
                served: rooms.served,
                detail: rooms.detail.clone(),
            }),
            confirm_by_unix_ms: known(status.confirm_by_unix_ms),
            repairs: status.repairs,
            last_repair_unix_ms: (status.repairs > 0).then_some(status.last_repair_unix_ms),
            last_sealed_location_id: status.last_sealed_location_id.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Plan {
    name: String,
    title: String,
    price: String,
    /// 0: unlimited.
    upstream_bps: u64,
    downstream_bps: u64,
    /// The subscriber is on it.
    own: bool,
}

/// What an operator has to choose from.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Plans {
    operator: String,
    plans: Vec<Plan>,
}

impl From<&pb::TerminalPlansResponse> for Plans {
    fn from(answer: &pb::TerminalPlansResponse) -> Self {
        let plan = |plan: &pb::OfferedPlan| Plan {
            name: plan.name.clone(),
            title: plan.title.clone(),
            price: plan.price.clone(),
            upstream_bps: plan.upstream_bps,
            downstream_bps: plan.downstream_bps,
            own: plan.own,
        };
        Self {
            operator: answer.operator.clone(),
            plans: answer.plans.iter().map(plan).collect(),
        }
    }
}

/// A code that was read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Read {
    pub sealed_location_id: String,
}

/// A code that was made.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Made {
    pub sealed_location_id: String,
    /// Squares in a row.
    pub modules: usize,
    /// The file that was written.
    pub png: Option<String>,
    pub svg: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Health {
    pub healthy: bool,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Confirmed {
    pub confirmed: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Setting {
    pub key: String,
    /// As the configuration has it; null: it was not given.
    pub former: Value,
    pub value: Value,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct LinkChange {
    /// `added`, `removed` or `changed`.
    pub change: &'static str,
    /// Null: it is no link's.
    pub link: Option<String>,
    pub what: String,
    pub former: Option<String>,
}

/// What another configuration changes, or would.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Applied {
    applied: bool,
    settings: Vec<Setting>,
    links: Vec<LinkChange>,
    notes: Vec<String>,
    confirm_by_unix_ms: Option<i64>,
}

impl Applied {
    pub(super) fn new(
        told: &pb::TerminalApplyResponse,
        name: impl Fn(&pb::TerminalLinkChange) -> &'static str,
        applied: bool,
    ) -> Self {
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or_default();
        let settings = told.settings.iter().map(|setting| Setting {
            key: setting.key.clone(),
            former: parsed(&setting.former),
            value: parsed(&setting.value),
        });
        let links = told.links.iter().map(|change| LinkChange {
            change: name(change),
            link: text(&change.link),
            what: change.what.clone(),
            former: text(&change.former),
        });
        Self {
            applied,
            settings: settings.collect(),
            links: links.collect(),
            notes: told.notes.clone(),
            confirm_by_unix_ms: known(told.confirm_by_unix_ms),
        }
    }
}
