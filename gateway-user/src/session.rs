//! A session as the data plane knows it: plain data, shared by the engine and the data plane.

use std::fmt;
use std::net::Ipv4Addr;

use doorstep_establish::{Mac, Tags};
use doorstep_gateway_common::{LineKey, OperatorIndex, Slot};
use ipnet::Ipv6Net;
use uuid::Uuid;

/// An access line of the inventory, resolved on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub key: LineKey,
    /// Name of the access port.
    pub port: String,
    /// Tags of the line's frames at the gateway, outer first.
    pub tags: Tags,
}

impl fmt::Display for Line {
    /// For people: `access0/101.1004`, or `access0` where the line is untagged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.port)?;
        if self.tags.as_slice().is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.tags)
        }
    }
}

/// All that the fast path holds of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    pub session: Uuid,
    pub generation: u64,
    pub slot: Slot,
    pub operator: OperatorIndex,
    pub line: Line,
    pub mac: Mac,
    pub ipv4: Option<Ipv4Addr>,
    /// Of the gateway's delegated length.
    pub ipv6: Option<Ipv6Net>,
    /// The /64 of the line itself.
    pub ipv6_line: Option<Ipv6Net>,
    /// Largest IP packet on the line, in bytes.
    pub mtu: u16,
    pub service: Service,
    /// Whether the line's port holds packets until their time; if not, what is to be shaped is policed.
    pub shaper: bool,
    /// Bits of [`doorstep_gateway_common::flag`] besides those that the service means.
    pub flags: u16,
}

/// What a subscriber has paid for. It may change while a session is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// From the subscriber, bits of IP per second; 0: unlimited.
    pub upstream_bps: u64,
    /// To the subscriber, bits of IP per second; 0: unlimited.
    pub downstream_bps: u64,
    /// Delay what is too fast toward the subscriber, instead of dropping it.
    pub shape_downstream: bool,
    /// Priority of the session's frames (PCP, IEEE 802.1Q clause 6.9.3), 0..=7.
    pub priority: u8,
    /// Seconds for which the session is served without its server; 0: for ever.
    pub time_to_live_s: u32,
}

impl Service {
    /// Whether packets to the subscriber are to wait for their time.
    pub fn is_shaped(&self) -> bool {
        self.shape_downstream && self.downstream_bps != 0
    }
}

/// What the fast path knows of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub counters: Counters,
    /// How long its terminal has not asked whether the session is alive, if that is too long. None,
    /// too, of terminals that never ask.
    pub silent: Option<std::time::Duration>,
}

impl Reading {
    /// When a silent terminal was heard last, if this is read now.
    pub fn silent_since_ms(&self, now_unix_ms: i64) -> Option<i64> {
        let silent = i64::try_from(self.silent?.as_millis()).ok()?;
        Some(now_unix_ms.saturating_sub(silent))
    }
}

/// Packets and bytes of IP of one session, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Counters {
    pub upstream_packets: u64,
    pub upstream_bytes: u64,
    pub downstream_packets: u64,
    pub downstream_bytes: u64,
    /// Packets dropped because they were above the session's rate. Not among the packets.
    pub upstream_policed: u64,
    pub downstream_policed: u64,
}
