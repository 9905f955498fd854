//! What follows from the kernel's links, routes and neighbours: no I/O.

use std::net::IpAddr;

use doorstep_establish::Mac;
use doorstep_gateway_common::OperatorIndex;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};

use super::kernel::{Kernel, is_up};
use crate::config::Operator;
use crate::dataplane::netlink::Link;
use crate::dataplane::ports::{Port, Role, State};

/// How an operator reaches the world, for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) address: IpAddr,
    /// The link that it is a neighbour on; none while that is away or down.
    pub(super) ifindex: Option<u32>,
    /// None while it is not resolved: the kernel forwards meanwhile.
    pub(super) mac: Option<Mac>,
}

/// All that follows for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) operator: OperatorIndex,
    pub(super) v4: Option<Hop>,
    pub(super) v6: Option<Hop>,
    /// The row of `OPERATORS`.
    pub(super) value: OperatorValue,
    /// The row of `UPLINKS`; none while the port is away.
    pub(super) uplink: Option<(UplinkKey, UplinkValue)>,
}

pub(super) fn decide(operator: &Operator, kernel: &Kernel) -> Decision {
    let port = kernel.named(&operator.uplink);
    let carrier = port.and_then(|port| kernel.carrier(port, operator.uplink_vlan));
    let [v4, v6] = [false, true].map(|v6| {
        let address = match operator.routing_table {
            Some(table) => carrier.and_then(|link| routed(kernel, table, v6, link))?,
            None if v6 => IpAddr::V6(operator.next_hop_v6?),
            None => IpAddr::V4(operator.next_hop_v4?),
        };
        let ifindex = carrier.filter(|link| is_up(link)).map(|link| link.index);
        Some(Hop {
            address,
            ifindex,
            mac: ifindex.and_then(|ifindex| kernel.mac_of(ifindex, address)),
        })
    });
    let key = |port: &Link| UplinkKey {
        ifindex: port.index,
        vid: operator.uplink_vlan,
        pad: 0,
    };
    let row = |port: &Link| UplinkValue {
        operator: operator.index,
        port_mac: mac_of(port, carrier).0.into(),
        pad: [0; 3],
    };
    Decision {
        operator: operator.index,
        v4,
        v6,
        value: value(operator, port, carrier, v4, v6),
        uplink: port.map(|port| (key(port), row(port))),
    }
}

/// The gateway of a table's default route that leaves by this link: the first that is usable of
/// the route with the lowest metric. Routes by other links are other operators' or the host's
/// own; one that leads nowhere ends the search, as it does in the kernel.
fn routed(kernel: &Kernel, table: u32, v6: bool, link: &Link) -> Option<IpAddr> {
    let mut routes: Vec<_> = kernel
        .routes
        .iter()
        .filter(|route| route.table == table && route.v6 == v6)
        .collect();
    routes.sort_by_key(|route| route.metric);
    routes
        .into_iter()
        .map_while(|route| route.leads_on.then_some(&route.ways))
        .flatten()
        .filter(|way| way.ifindex == link.index && way.usable)
        .find_map(|way| way.gateway)
}

/// A VLAN link may have an address of its own.
fn mac_of(port: &Link, carrier: Option<&Link>) -> Mac {
    let carrier = carrier.and_then(|link| link.mac);
    carrier.or(port.mac).unwrap_or(Mac([0; 6]))
}

fn value(
    operator: &Operator,
    port: Option<&Link>,
    carrier: Option<&Link>,
    v4: Option<Hop>,
    v6: Option<Hop>,
) -> OperatorValue {
    let mut value = OperatorValue {
        vid: operator.uplink_vlan,
        gateway_v4_be: operator
            .gateway_v4
            .map(|v4| v4.octets())
            .unwrap_or_default(),
        gateway_v6_be: operator
            .gateway_v6
            .map(|v6| v6.octets())
            .unwrap_or_default(),
        ..OperatorValue::default()
    };
    // Without its port the operator has no uplink, and its packets are dropped as such.
    let Some(port) = port else { return value };
    let mtu = carrier.map_or(port.mtu, |link| link.mtu.min(port.mtu));
    value.ifindex = port.index;
    value.port_mac = mac_of(port, carrier).0.into();
    value.mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    if operator.hairpin {
        value.flags |= OperatorValue::HAIRPIN;
    }
    if let Some(mac) = v4.and_then(|hop| hop.mac) {
        value.next_hop_v4_mac = mac.0.into();
        value.flags |= OperatorValue::NEXT_HOP_V4;
    }
    if let Some(mac) = v6.and_then(|hop| hop.mac) {
        value.next_hop_v6_mac = mac.0.into();
        value.flags |= OperatorValue::NEXT_HOP_V6;
    }
    value
}

/// The ports as they are now.
pub(super) fn ports(started_with: &[Port], kernel: &Kernel) -> Vec<Port> {
    let now = |port: &Port| {
        let mut port = port.clone();
        match kernel.named(&port.name) {
            Some(link) => {
                port.state = if is_up(link) { State::Up } else { State::Down };
                port.mac = link.mac.unwrap_or(port.mac);
                port.mtu = link.mtu;
            }
            None => port.state = State::Absent,
        }
        port
    };
    started_with.iter().map(now).collect()
}

/// Why the data plane must be set up anew, if it must: only a start attaches programs, compiles
/// the gateway's MAC address into them, and tells the lines' sessions how much a port carries.
pub(super) fn renewal(started_with: &[Port], kernel: &Kernel) -> Option<String> {
    started_with.iter().find_map(|port| {
        let link = kernel.named(&port.name)?;
        let name = &port.name;
        if link.index != port.ifindex {
            return Some(format!("port {name} is another device now"));
        }
        if port.role == Role::Uplink {
            return None;
        }
        if let Some(mac) = link.mac.filter(|mac| *mac != port.mac) {
            return Some(format!("access port {name} has the MAC address {mac} now"));
        }
        (link.mtu != port.mtu).then(|| format!("access port {name} has the MTU {} now", link.mtu))
    })
}
