//! What the two ends say to each other, as plain values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv6Net;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{Mac, Replaced};

/// Who speaks. Part of what is authenticated, so that nobody can send a message back to its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Gateway → terminal.
    FromGateway,
    /// Terminal → gateway.
    FromTerminal,
}

/// Chosen by the gateway for each establishment and echoed in everything that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 16]);

impl Nonce {
    /// A new one.
    #[must_use]
    pub fn generate(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What the gateway offers the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The gateway's name, for people.
    pub gateway_id: String,
    /// The home's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The gateway's own IPv4 address toward the line: the default route's next hop.
    pub ipv4_gateway: Option<Ipv4Addr>,
    /// The prefix delegated to the home.
    pub ipv6: Option<Ipv6Net>,
    /// The /64 of the line itself. Older states have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_line: Option<Ipv6Net>,
    /// Resolvers for the home.
    pub dns: Vec<IpAddr>,
    /// Bytes of IP on the line; 0: 1500.
    pub mtu: u32,
}

/// The message of a [`Body`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Gateway → terminal: take up this session.
    Request(Offer),
    /// Terminal → gateway: the links are up.
    Accept {
        /// The source of the session's frames from now on.
        terminal_mac: Mac,
        /// What ends once this session begins.
        replaces: Option<Replaced>,
    },
    /// Gateway → terminal: the fast path is open.
    Confirm {
        /// Where the gateway has the session: whoever knows may ask whether it is alive
        /// ([`Prober`](crate::Prober)). Older gateways say nothing.
        slot: Option<u32>,
    },
    /// Terminal → gateway: cannot.
    Refuse {
        /// Why, for people.
        detail: String,
    },
    /// Gateway → terminal: the session has ended here.
    Release,
}

impl Message {
    /// Which end says this.
    #[must_use]
    pub fn direction(&self) -> Direction {
        match self {
            Self::Request(_) | Self::Confirm { .. } | Self::Release => Direction::FromGateway,
            Self::Accept { .. } | Self::Refuse { .. } => Direction::FromTerminal,
        }
    }
}

/// A message with the establishment that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The session's generation.
    pub generation: u64,
    /// The establishment's nonce.
    pub nonce: Nonce,
    /// What is said.
    pub message: Message,
}
