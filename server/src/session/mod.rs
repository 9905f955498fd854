//! A session's life, without I/O: what a row says, what an event makes of it, and what a gateway
//! must be told. The store keeps these values; the engine carries events to them.

pub mod establishment;
pub mod instruct;
pub mod machine;
pub mod service;

use std::fmt;
use std::net::Ipv4Addr;

use doorstep_location::LocationId;
use ipnet::Ipv6Net;
use uuid::Uuid;

pub use establishment::Establishment;
use service::Grant;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    Connecting,
    Establishing,
    Established,
    Disconnecting,
    DisconnectingUnconfirmed,
    Refused,
    Released,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Connecting,
        State::Establishing,
        State::Established,
        State::Disconnecting,
        State::DisconnectingUnconfirmed,
        State::Refused,
        State::Released,
    ];

    /// The name in the database, the command line and JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Establishing => "establishing",
            State::Established => "established",
            State::Disconnecting => "disconnecting",
            State::DisconnectingUnconfirmed => "disconnecting-unconfirmed",
            State::Refused => "refused",
            State::Released => "released",
        }
    }

    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Nothing more is under way.
    pub fn is_settled(self) -> bool {
        matches!(self, State::Established | State::Refused | State::Released)
    }

    /// The gateway has been told to connect, or will be.
    pub fn is_connected_side(self) -> bool {
        matches!(
            self,
            State::Connecting | State::Establishing | State::Established
        )
    }

    /// Waits for a gateway's receipt.
    pub fn is_disconnecting(self) -> bool {
        matches!(self, State::Disconnecting | State::DisconnectingUnconfirmed)
    }

    /// Something at a gateway belongs to it: a refused or released session holds nothing.
    pub fn is_live(self) -> bool {
        self.is_connected_side() || self.is_disconnecting()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a session has been given at a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// In the gateway's pools; none where they were other pools when it was given.
    pub place: Option<i64>,
    pub ipv4: Option<Ipv4Addr>,
    /// Delegated.
    pub ipv6: Option<Ipv6Net>,
    /// The /64 of the line itself.
    pub ipv6_line: Option<Ipv6Net>,
}

/// A session key as it lies in the database: sealed, so that it may be cloned and compared freely.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SealedSecret(pub Vec<u8>);

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret({} bytes)", self.0.len())
    }
}

/// One end of a session: a home, the gateway that serves it, and what was given for it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub location: LocationId,
    pub gateway: String,
    pub addresses: Addresses,
    /// Authenticates the establishment exchange of this connection's generation.
    pub key: SealedSecret,
}

/// Where a session goes once the receipt for its present connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub generation: u64,
    pub connection: Connection,
}

/// The part of a session's row that decisions are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: Uuid,
    pub subscriber: Uuid,
    /// Of the instruction that the state stands for: the Connect's, or the Disconnect's.
    pub generation: u64,
    pub state: State,
    /// Stays the same on a move.
    pub establishment: Establishment,
    pub connection: Connection,
    /// A move under way. `None` while disconnecting means: release.
    pub target: Option<Target>,
    /// What the subscriber has paid for; goes along on a move.
    pub service: Grant,
    pub detail: String,
}
