//! The ports of this host that the gateway uses.

use doorstep_establish::Mac;
use rtnetlink::packet_route::link::LinkFlags;
use serde::Serialize;

use super::DataplaneError;
use super::netlink::{Link, Netlink};
use crate::config::Config;

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Toward the lines.
    Access,
    /// Toward the world.
    Uplink,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Uplink => "uplink",
        }
    }
}

/// Whether a port can carry anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Up,
    /// Switched off, or without carrier.
    Down,
    /// Not on this host any more.
    Absent,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Absent => "absent",
        }
    }
}

/// A port with the gateway's programs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    pub name: String,
    pub ifindex: u32,
    pub mac: Mac,
    pub mtu: u32,
    pub role: Role,
    /// Whether it holds packets until their time, so that rates to its lines can be shaped.
    pub shaper: bool,
    /// `native` or `generic`; empty before the programs are attached.
    pub xdp_mode: &'static str,
    pub state: State,
}

/// Finds every configured port.
pub(super) async fn resolve(
    config: &Config,
    netlink: &Netlink,
) -> Result<Vec<Port>, DataplaneError> {
    let links = netlink.links().await?;
    let access = config
        .access_ports
        .iter()
        .map(|port| (port.name.as_str(), Role::Access));
    let uplinks = config
        .operators
        .iter()
        .map(|operator| (operator.uplink.as_str(), Role::Uplink));
    let mut ports: Vec<Port> = Vec::new();
    for (name, role) in access.chain(uplinks) {
        if ports.iter().all(|port| port.name != name) {
            ports.push(port(&links, name, role)?);
        }
    }
    Ok(ports)
}

fn port(links: &[Link], name: &str, role: Role) -> Result<Port, DataplaneError> {
    let link =
        links
            .iter()
            .find(|link| link.name == name)
            .ok_or_else(|| DataplaneError::NoPort {
                name: name.to_owned(),
            })?;
    Ok(Port {
        name: link.name.clone(),
        ifindex: link.index,
        mac: link.mac.ok_or_else(|| DataplaneError::NoMac {
            name: name.to_owned(),
        })?,
        mtu: link.mtu,
        role,
        shaper: false,
        xdp_mode: "",
        state: match link.flags.contains(LinkFlags::Up | LinkFlags::LowerUp) {
            true => State::Up,
            false => State::Down,
        },
    })
}

/// The MAC address on every line: the first access port's own.
pub(super) fn gateway_mac(ports: &[Port]) -> Result<Mac, DataplaneError> {
    ports
        .iter()
        .find(|port| port.role == Role::Access)
        .map(|port| port.mac)
        .ok_or_else(|| DataplaneError::NoPort {
            name: String::new(),
        })
}
