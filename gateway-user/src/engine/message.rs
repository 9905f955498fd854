//! What a server and the gateway tell each other, as plain values.

use std::net::{IpAddr, Ipv4Addr};

use doorstep_establish::{Mac, SessionKey};
use doorstep_location::LocationId;
use ipnet::Ipv6Net;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::session::{Counters, Service};

/// From a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    Connect(Connect),
    Disconnect {
        session: Uuid,
        generation: u64,
    },
    ChangeService(ChangeService),
    /// Cannot be read; refused with what it said of itself.
    Malformed(Refusal),
    /// All differences to the Hello have been sent.
    Synced,
    ReceiptAck {
        number: u64,
    },
}

/// A session to be set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    pub session: Uuid,
    pub generation: u64,
    pub location: LocationId,
    #[serde(serialize_with = "write_key", deserialize_with = "read_key")]
    pub key: SessionKey,
    pub ipv4: Option<Ipv4Addr>,
    /// Delegated.
    pub ipv6: Option<Ipv6Net>,
    /// The /64 of the line itself. Older journals have none.
    #[serde(default)]
    pub ipv6_line: Option<Ipv6Net>,
    /// The server's idea of the gateway's address; the gateway's configuration goes before it.
    pub ipv4_gateway: Option<Ipv4Addr>,
    pub dns: Vec<IpAddr>,
    /// Largest IP packet on the line, in bytes.
    pub mtu: u16,
    /// May change while the session is held. Older journals have neither.
    #[serde(default)]
    pub service: Service,
    /// Grows with each change of the service.
    #[serde(default)]
    pub service_revision: u64,
    /// Where it comes up by DHCP, and no terminal is asked. Older journals have none.
    #[serde(default)]
    pub dhcp: Option<Dhcp>,
}

/// What a router is told by DHCP besides its address, and which router may be it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dhcp {
    /// Seconds for which a lease holds unless it is renewed.
    pub lease_s: u32,
    pub replacement: CpeReplacement,
}

/// When a router may have the session that another one on the line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CpeReplacement {
    /// As soon as it asks.
    AtOnce,
    /// Once the holder has not been acknowledged for so long.
    AfterHold { hold_s: u32 },
    /// Once the holder has given it back.
    Never,
}

/// Another service for a session that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeService {
    pub session: Uuid,
    /// The Connect's.
    pub generation: u64,
    pub revision: u64,
    pub service: Service,
}

/// An instruction that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As the server wrote it, which need not be a UUID.
    pub session: String,
    pub generation: u64,
    /// Of the service, if it is a change of it that is refused.
    pub revision: u64,
    pub reason: RefusalReason,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    StaleGeneration,
    UnknownLocation,
    Malformed,
    AddressInUse,
    NoCapacity,
    Dataplane,
    /// No session of this generation.
    NotHeld,
}

/// To a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The first on every stream.
    Hello {
        held: Vec<Held>,
    },
    Ack {
        session: Uuid,
        generation: u64,
        /// Of the service that the session has, or is to be opened with; 0 where it ends.
        revision: u64,
    },
    Nack(Refusal),
    Established {
        session: Uuid,
        generation: u64,
        mac: Mac,
        line: String,
        route: String,
        at_unix_ms: i64,
    },
    Receipt(Receipt),
    Accounting(Vec<Account>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub session: Uuid,
    pub generation: u64,
    pub phase: HeldPhase,
    /// As in [`Report::Ack`].
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldPhase {
    Establishing,
    Established,
    Disconnected,
}

/// The session forwards nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Grows by one per operator.
    pub number: u64,
    pub session: Uuid,
    /// Of the Disconnect.
    pub generation: u64,
    #[serde(rename = "final")]
    pub final_counters: Counters,
    pub at_unix_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub session: Uuid,
    pub generation: u64,
    pub counters: Counters,
    /// When the terminal was heard last, if it is silent.
    pub silent_since_ms: Option<i64>,
    /// Its line is blocked.
    pub blocked: bool,
}

fn write_key<S: Serializer>(key: &SessionKey, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_bytes().serialize(serializer)
}

pub(crate) fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SessionKey, D::Error> {
    let bytes = <[u8; SessionKey::LEN]>::deserialize(deserializer)?;
    SessionKey::from_slice(&bytes).map_err(de::Error::custom)
}
