//! The terminal's links: declared as plain data, compared with what is there, then changed.
//!
//! [`desired`] says what should be there for the sessions that are up; [`plan`] compares it with
//! what [`kernel`] found and what [`journal`] says is ours; [`reconcile`] carries the plan out.
//! What is there already is used and never deleted.

pub mod actual;
pub mod desired;
pub mod difference;
pub mod garden;
pub mod journal;
pub mod kernel;
mod nat;
pub mod own_rooms;
pub mod plan;
pub mod reconcile;
pub mod room_port;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use doorstep_establish::{Mac, Tag};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// One thing in the kernel (or one file) that a session needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Item {
    /// A VLAN interface.
    Vlan {
        /// Its name.
        name: String,
        /// The interface that carries its frames.
        parent: String,
        /// Its tag.
        tag: Tag,
    },
    /// A bridge.
    Bridge {
        /// Its name.
        name: String,
    },
    /// An interface's MTU.
    Mtu {
        /// The interface.
        link: String,
        /// Bytes of IP.
        bytes: u32,
    },
    /// A kernel setting of the network, below `/proc/sys/net`.
    Setting {
        /// Path relative to `/proc/sys/net`.
        path: String,
        /// Its text.
        value: String,
    },
    /// An interface that is a port of a bridge.
    Port {
        /// The interface.
        link: String,
        /// The bridge.
        bridge: String,
    },
    /// An interface that is up.
    Up {
        /// The interface.
        link: String,
    },
    /// An address.
    Address {
        /// The interface.
        link: String,
        /// The address with the length of its network.
        address: IpNet,
    },
    /// A permanent neighbour, which saves its resolution.
    Neighbour {
        /// The interface.
        link: String,
        /// Its IP address.
        address: IpAddr,
        /// Its Ethernet address.
        mac: Mac,
    },
    /// A route.
    Route(Route),
    /// A rule.
    Rule(Rule),
    /// The table of address translations.
    Nat {
        /// What is translated to what.
        rules: Vec<NatRule>,
    },
    /// A text file.
    File {
        /// Its path.
        path: PathBuf,
        /// Its content.
        text: String,
    },
}

/// A route. Without `link` it answers that the destination cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The next hop, reached on the link itself.
    pub via: Option<IpAddr>,
    /// The interface.
    pub link: Option<String>,
    /// The source address that the host itself uses.
    pub source: Option<IpAddr>,
    /// Lower is preferred.
    pub metric: u32,
}

/// A rule: packets from `source` look at `table`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The source addresses; those of a whole family have a length of 0.
    pub source: IpNet,
    /// The interface by which they come in, if only those are meant.
    #[serde(default)]
    pub link: Option<String>,
    /// The routing table.
    pub table: u32,
    /// Its place among the rules.
    pub priority: u32,
}

/// The rooms' addresses leave an interface under the session's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatRule {
    /// The rooms' addresses.
    pub source: Ipv4Net,
    /// The interface.
    pub link: String,
    /// The session's address.
    pub to: Ipv4Addr,
}

impl Item {
    /// The interface that it is about, where it is about one.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        match self {
            Self::Vlan { name, .. } | Self::Bridge { name } => Some(name),
            Self::Mtu { link, .. }
            | Self::Port { link, .. }
            | Self::Up { link }
            | Self::Address { link, .. }
            | Self::Neighbour { link, .. } => Some(link),
            Self::Route(route) => route.link.as_deref(),
            Self::Setting { path, .. } => path.split('/').nth(2),
            Self::Rule(rule) => rule.link.as_deref(),
            Self::Nat { .. } | Self::File { .. } => None,
        }
    }

    /// Place in the order of making; things are undone in the opposite order.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Vlan { .. } => 0,
            Self::Bridge { .. } => 1,
            Self::Mtu { .. } => 2,
            Self::Setting { .. } => 3,
            // What keeps a room from other sessions is there before the room has ports, and after.
            Self::Route(route) if route.link.is_none() => 3,
            Self::Rule(rule) if rule.link.is_some() => 3,
            Self::Port { .. } => 4,
            Self::Up { .. } => 5,
            Self::Address { .. } => 6,
            Self::Neighbour { .. } => 7,
            Self::Route(_) => 8,
            Self::Rule(_) => 9,
            Self::Nat { .. } => 10,
            Self::File { .. } => 11,
        }
    }

    /// Whether it is undone only after everything new has been made.
    #[must_use]
    pub fn goes_last(&self) -> bool {
        matches!(
            self,
            Self::Vlan { .. } | Self::Bridge { .. } | Self::Address { .. }
        )
    }

    /// Whether both cannot be there at once, such as two values of one setting.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vlan { name: a, .. }, Self::Vlan { name: b, .. })
            | (Self::Mtu { link: a, .. }, Self::Mtu { link: b, .. })
            | (Self::Setting { path: a, .. }, Self::Setting { path: b, .. })
            | (Self::Port { link: a, .. }, Self::Port { link: b, .. }) => a == b,
            (
                Self::Neighbour {
                    link: a,
                    address: x,
                    ..
                },
                Self::Neighbour {
                    link: b,
                    address: y,
                    ..
                },
            ) => a == b && x == y,
            (Self::Route(a), Self::Route(b)) => {
                (a.table, a.destination, a.metric) == (b.table, b.destination, b.metric)
            }
            (Self::Nat { .. }, Self::Nat { .. }) => true,
            (Self::File { path: a, .. }, Self::File { path: b, .. }) => a == b,
            _ => self == other,
        }
    }
}

/// What a value was before it was changed.
pub type Former = Option<String>;

/// Something that this terminal has made, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owned {
    /// The thing.
    pub item: Item,
    /// What was there before, to be put back.
    pub former: Former,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vlan { name, parent, tag } => {
                write!(f, "VLAN interface {name} (VLAN {} on {parent})", tag.vid)
            }
            Self::Bridge { name } => write!(f, "bridge {name}"),
            Self::Mtu { link, bytes } => write!(f, "MTU {bytes} of {link}"),
            Self::Setting { path, value } => write!(f, "setting net/{path} = {value}"),
            Self::Port { link, bridge } => write!(f, "{link} as a port of {bridge}"),
            Self::Up { link } => write!(f, "{link} up"),
            Self::Address { link, address } => write!(f, "address {address} on {link}"),
            Self::Neighbour { link, address, mac } => {
                write!(f, "neighbour {address} at {mac} on {link}")
            }
            Self::Route(route) => write!(f, "route {route}"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
            Self::Nat { .. } => f.write_str("address translation of the rooms"),
            Self::File { path, .. } => write!(f, "file {}", path.display()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {}", self.source)?;
        if let Some(link) = &self.link {
            write!(f, " by {link}")?;
        }
        write!(f, " to table {}", self.table)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        match &self.link {
            Some(link) => write!(f, " dev {link}")?,
            None => f.write_str(" unreachable")?,
        }
        write!(f, " table {} metric {}", self.table, self.metric)
    }
}
