//! Why a connection does not carry traffic: its links in their order, the first that does not hold,
//! its cause, and what to type next.
//!
//! ```text
//! registered → requested → bound → instructed → acknowledged → established → traffic
//! ```
//!
//! Pure: [`examine()`] makes a [`Chain`] of [`Facts`], which `engine::why` collects from the table, the
//! connected gateways and what was refused lately. No fact holds a number or a name of a person.

mod examine;
mod traffic;

use std::fmt;

use crate::session::{Establishment, State};

pub use examine::examine;

/// What is known of one connection. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub now_ms: i64,
    /// For how long nothing may have passed before that counts as broken.
    pub quiet_after_ms: i64,
    pub asked: Asked,
    /// When the subscriber was registered; none: nobody was, or nobody is asked about.
    pub registered_ms: Option<i64>,
    /// The subscriber's last request, if it was refused and none was granted since.
    pub refusal: Option<Refusal>,
    pub session: Option<SessionFacts>,
}

/// By what the connection was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Subscriber,
    /// With the gateway that serves it by the configuration.
    Location {
        location: String,
        gateway: Option<String>,
    },
    Session,
}

/// A request that this server has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub at_ms: i64,
    pub ground: Ground,
    /// As the terminal was told.
    pub reason: String,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The request itself, such as a seal that does not open.
    Request,
    /// No gateway serves the location.
    NoGateway,
    /// What the subscriber has already, or has too many of; an exhausted pool, too.
    Standing,
    /// The server could not.
    Server,
}

/// A session's row, its history, its gateway and its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    pub id: String,
    pub location: String,
    pub state: State,
    pub generation: u64,
    pub establishment: Establishment,
    pub created_ms: i64,
    /// Since when it is in its state.
    pub since_ms: i64,
    pub detail: String,
    /// Where a move under way leads.
    pub target_gateway: Option<String>,
    /// The oldest first. Old ones may have been removed.
    pub steps: Vec<Step>,
    pub gateway: GatewayFacts,
    /// When its terminal was last heard by the gateway, which waits for it.
    pub silent_since_ms: Option<i64>,
    /// Its line is blocked.
    pub blocked: bool,
    /// As its gateway last counted for the present connection.
    pub traffic: Option<Traffic>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub state: State,
    pub at_ms: i64,
    pub detail: String,
    pub who: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFacts {
    pub id: String,
    pub configured: bool,
    /// Since when it has a stream to this server; none: it has not.
    pub connected_ms: Option<i64>,
    /// When any server last saw it; 0: never.
    pub seen_ms: i64,
    /// Other servers may have its stream.
    pub shared: bool,
    /// What is wrong with the operator's uplink there, by its word.
    pub uplink_problem: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub upstream_packets: u64,
    pub downstream_packets: u64,
    /// When they last grew; 0: never.
    pub moved_ms: i64,
    /// When those to the subscriber did.
    pub returned_ms: i64,
}

/// A link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Registered,
    Requested,
    Bound,
    Instructed,
    Acknowledged,
    Established,
    Traffic,
}

impl Stage {
    pub const ALL: [Stage; 7] = [
        Stage::Registered,
        Stage::Requested,
        Stage::Bound,
        Stage::Instructed,
        Stage::Acknowledged,
        Stage::Established,
        Stage::Traffic,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Registered => "registered",
            Stage::Requested => "requested",
            Stage::Bound => "bound",
            Stage::Instructed => "instructed",
            Stage::Acknowledged => "acknowledged",
            Stage::Established => "established",
            Stage::Traffic => "traffic",
        }
    }
}

/// Whether a link holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Yes,
    No,
    /// Behind the one that does not, or not to be told.
    Unknown,
}

impl Holds {
    pub fn name(self) -> &'static str {
        match self {
            Holds::Yes => "yes",
            Holds::No => "no",
            Holds::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub stage: Stage,
    pub holds: Holds,
    /// Since when it holds; 0: not known.
    pub at_ms: i64,
    pub detail: String,
}

/// In which way a chain is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotRegistered,
    NoSession,
    RequestRefused,
    NoGateway,
    AwaitingReceipt,
    Released,
    GatewayAway,
    NotAcknowledged,
    RefusedByGateway,
    TerminalSilent,
    Blocked,
    NoTraffic,
    OneWay,
    UplinkDown,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::NotRegistered,
        Kind::NoSession,
        Kind::RequestRefused,
        Kind::NoGateway,
        Kind::AwaitingReceipt,
        Kind::Released,
        Kind::GatewayAway,
        Kind::NotAcknowledged,
        Kind::RefusedByGateway,
        Kind::TerminalSilent,
        Kind::Blocked,
        Kind::NoTraffic,
        Kind::OneWay,
        Kind::UplinkDown,
    ];

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NotRegistered => "not-registered",
            Kind::NoSession => "no-session",
            Kind::RequestRefused => "request-refused",
            Kind::NoGateway => "no-gateway",
            Kind::AwaitingReceipt => "awaiting-receipt",
            Kind::Released => "released",
            Kind::GatewayAway => "gateway-away",
            Kind::NotAcknowledged => "not-acknowledged",
            Kind::RefusedByGateway => "refused-by-gateway",
            Kind::TerminalSilent => "terminal-silent",
            Kind::Blocked => "blocked",
            Kind::NoTraffic => "no-traffic",
            Kind::OneWay => "one-way",
            Kind::UplinkDown => "uplink-down",
        }
    }
}

/// On which host a command is to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Server,
    Gateway(String),
    Terminal,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Server => f.write_str("server"),
            Host::Gateway(id) => write!(f, "gateway {id}"),
            Host::Terminal => f.write_str("terminal"),
        }
    }
}

/// The first link that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    pub stage: Stage,
    pub kind: Kind,
    /// Since when; 0: not known.
    pub since_ms: i64,
    /// One line.
    pub cause: String,
    /// Where to go on, and with what.
    pub host: Host,
    pub command: String,
}

/// Every link, in the order of [`Stage::ALL`], and the first that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub links: Vec<Link>,
    pub broken: Option<Break>,
}

#[cfg(test)]
mod tests;
