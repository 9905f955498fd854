//! The gateway's configuration: TOML, checked as a whole before anything is touched.

pub mod garden;
mod index;
mod operator;
mod problem;
mod raw;
#[cfg(test)]
mod tests;
mod validate;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use doorstep_gateway_common::{OperatorIndex, flag};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub use index::{IndexError, Indexes};
pub use problem::{ConfigError, Position, Problem};

/// Where the daemon listens and its commands look for it, unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/doorstep-gateway/admin.sock";

/// A configuration that has been checked; paths are as the daemon opens them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// Name of the gateway, as in its client certificates.
    pub id: String,
    pub state_dir: PathBuf,
    pub pin_path: PathBuf,
    pub admin_socket: PathBuf,
    pub inventory: PathBuf,
    /// Length of the IPv6 prefixes delegated to subscribers, 48..=64.
    pub delegated_prefix_len: u8,
    /// The maps have room for a /64 of the line's own for each session.
    pub line_prefixes: bool,
    pub max_sessions: u32,
    pub xdp_mode: XdpMode,
    pub shaper: ShaperKind,
    /// How often each server is told the counters.
    pub accounting_interval_ms: u64,
    /// For all lines without a session.
    pub garden: garden::Limits,
    /// Where Prometheus may ask; without it nowhere.
    pub metrics: Option<doorstep_daemon::metrics::Config>,
    /// Who collects traces; without it nobody.
    pub traces: Option<doorstep_daemon::traces::Config>,
    pub access_ports: Vec<AccessPort>,
    pub operators: Vec<Operator>,
}

/// How XDP programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where the driver can, generic otherwise.
    #[default]
    Auto,
    Native,
    Generic,
}

/// What holds the packets of shaped sessions until their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShaperKind {
    /// The queueing discipline `fq`, at the root of each access port.
    #[default]
    Fq,
    /// Nothing: what is too fast is dropped.
    None,
}

/// A port toward the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPort {
    pub name: String,
}

/// An operator that the gateway serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    pub name: String,
    /// 1..=63: part of the keys of maps and journal. What the journal says of it stands only once
    /// [`Config::set_indexes`] was told.
    pub index: OperatorIndex,
    /// The index that the file asks for.
    pub fixed_index: Option<OperatorIndex>,
    /// Port toward the world.
    pub uplink: String,
    /// VLAN id on the uplink; 0: untagged.
    pub uplink_vlan: u16,
    /// Fixed; none of either family where a routing table has them.
    pub next_hop_v4: Option<Ipv4Addr>,
    pub next_hop_v6: Option<Ipv6Addr>,
    /// The kernel's routing table whose default routes have the next hops.
    pub routing_table: Option<u32>,
    /// What the operator's sessions may have as addresses.
    pub subscriber_v4: Vec<Ipv4Net>,
    pub subscriber_v6: Vec<Ipv6Net>,
    /// The gateway's own addresses toward this operator's lines.
    pub gateway_v4: Option<Ipv4Addr>,
    pub gateway_v6: Option<Ipv6Addr>,
    /// Its homes reach each other at the gateway; otherwise only by the uplink, if its router lets them.
    pub hairpin: bool,
    /// The MSS of its homes' TCP connections is lowered to what line and uplink take.
    pub clamp_mss: bool,
    pub tag_priority: TagPriority,
    /// What lines without a session reach of it, if anything.
    pub garden: Option<garden::Garden>,
    pub server: Server,
}

/// Where the priority (PCP) of the tags that the gateway pushes comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagPriority {
    /// The session's service.
    #[default]
    Session,
    /// The class selector of each packet's DSCP (RFC 2474 section 4.2.2).
    Dscp,
}

/// Where an operator's server is, and how both ends prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub address: Address,
    /// Where else the same server is found.
    pub replicas: Vec<Address>,
    pub ca: PathBuf,
    pub cert: PathBuf,
    /// The same file as `cert`, where that holds both and is replaced as a whole.
    pub key: PathBuf,
}

/// Where to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `https://host:port`
    pub url: String,
    /// Name in the server's certificate.
    pub server_name: String,
}

impl Server {
    /// All addresses, in the order in which they are tried.
    pub fn addresses(&self) -> impl Iterator<Item = Address> {
        std::iter::once(&self.address)
            .chain(&self.replicas)
            .cloned()
    }
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(file, &text)
    }

    /// Checks the text of a configuration file; `file` is for messages and relative paths.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let raw: raw::Config = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        validate::config(file, text, raw)
    }

    /// Gives every operator its index, with respect to those that were given out before.
    pub fn set_indexes(&mut self, known: &Indexes) -> Result<(), IndexError> {
        let indexes = index::assign(&self.operators, known)?;
        for operator in &mut self.operators {
            operator.index = indexes[&operator.name];
        }
        Ok(())
    }

    /// The indexes that the operators have.
    pub fn indexes(&self) -> Indexes {
        let operators = self.operators.iter();
        operators
            .map(|operator| (operator.name.clone(), operator.index))
            .collect()
    }

    pub fn operator(&self, index: OperatorIndex) -> Option<&Operator> {
        self.operators
            .iter()
            .find(|operator| operator.index == index)
    }
}

impl Operator {
    /// Whether a session of the operator may have this address.
    pub fn owns_v4(&self, address: Ipv4Addr) -> bool {
        self.subscriber_v4
            .iter()
            .any(|prefix| prefix.contains(&address))
    }

    /// Whether a session of the operator may have this prefix.
    pub fn owns_v6(&self, prefix: Ipv6Net) -> bool {
        self.subscriber_v6.iter().any(|own| own.contains(&prefix))
    }

    /// What is special about all its sessions: bits of [`flag`].
    pub fn session_flags(&self) -> u16 {
        let mut flags = 0;
        if self.clamp_mss {
            flags |= flag::CLAMP_MSS;
        }
        if self.tag_priority == TagPriority::Dscp {
            flags |= flag::PRIORITY_FROM_DSCP;
        }
        flags
    }

    /// How its packets leave, for people: `uplink0 via 192.0.2.1`, `uplink0 by table 254`.
    pub fn route(&self) -> String {
        let port = match self.uplink_vlan {
            0 => self.uplink.clone(),
            vid => format!("{}.{vid}", self.uplink),
        };
        if let Some(table) = self.routing_table {
            return format!("{port} by table {table}");
        }
        let v4 = self.next_hop_v4.map(|address| address.to_string());
        let v6 = self.next_hop_v6.map(|address| address.to_string());
        match v4.or(v6) {
            Some(next_hop) => format!("{port} via {next_hop}"),
            None => port,
        }
    }
}
