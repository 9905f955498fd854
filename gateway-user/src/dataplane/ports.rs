//! The ports of this host that the gateway uses.

use doorstep_establish::Mac;
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

/// A port with the gateway's programs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    pub name: String,
    pub ifindex: u32,
    pub mac: Mac,
    pub mtu: u32,
    pub role: Role,
    /// `native` or `generic`; empty before the programs are attached.
    pub xdp_mode: &'static str,
    /// Where the kernel keeps the neighbours of each VLAN on the port: (VLAN id, ifindex).
    #[serde(skip)]
    pub(super) vlans: Vec<(u16, u32)>,
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
    let above = links.iter().filter_map(|upper| match upper.vlan {
        Some((vid, below)) if below == link.index => Some((vid, upper.index)),
        _ => None,
    });
    Ok(Port {
        name: link.name.clone(),
        ifindex: link.index,
        mac: link.mac.ok_or_else(|| DataplaneError::NoMac {
            name: name.to_owned(),
        })?,
        mtu: link.mtu,
        role,
        xdp_mode: "",
        vlans: above.collect(),
    })
}

impl Port {
    /// The link on which the kernel resolves neighbours of that VLAN of the port (0: untagged).
    pub(super) fn neighbour_ifindex(&self, vid: u16) -> Option<u32> {
        match vid {
            0 => Some(self.ifindex),
            _ => self
                .vlans
                .iter()
                .find(|(id, _)| *id == vid)
                .map(|(_, index)| *index),
        }
    }
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

pub(super) fn find<'p>(ports: &'p [Port], name: &str) -> Result<&'p Port, DataplaneError> {
    ports
        .iter()
        .find(|port| port.name == name)
        .ok_or_else(|| DataplaneError::NoPort {
            name: name.to_owned(),
        })
}
