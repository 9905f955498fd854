//! Messages of the kernel as plain values.

use std::net::IpAddr;

use doorstep_establish::Mac;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteType, RouteVia,
};

use super::{DefaultRoute, Link, Neighbour, Way};

/// The metric of an IPv6 route that names none, as linux/ipv6_route.h has it.
const DEFAULT_METRIC_V6: u32 = 1024;

/// A link. None for what a bridge says of its ports: that is not the whole link.
pub(super) fn link(message: LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        flags: message.header.flags,
        vlan: None,
    };
    let (mut vid, mut below) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
            LinkAttribute::Link(index) => below = Some(index),
            LinkAttribute::LinkInfo(infos) => vid = vid.or_else(|| vlan_id(&infos)),
            _ => {}
        }
    }
    link.vlan = vid.zip(below);
    (!link.name.is_empty()).then_some(link)
}

fn vlan_id(infos: &[LinkInfo]) -> Option<u16> {
    infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|item| match item {
            InfoVlan::Id(vid) => Some(*vid),
            _ => None,
        }),
        _ => None,
    })
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let (mut address, mut lladdr) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => lladdr = mac(bytes),
            _ => {}
        }
    }
    Some(Neighbour {
        ifindex: message.header.ifindex,
        address: address?,
        mac: lladdr.filter(|_| usable),
    })
}

/// A default route; none if it is of another kind: to a prefix, for some TOS, or only for packets
/// from some sources.
pub(super) fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let header = &message.header;
    let v6 = match header.address_family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let is_default = header.destination_prefix_length == 0
        && header.source_prefix_length == 0
        && header.tos == 0
        && !header.flags.contains(RouteFlags::Cloned);
    if !is_default {
        return None;
    }
    let mut route = DefaultRoute {
        v6,
        table: header.table.into(),
        metric: if v6 { DEFAULT_METRIC_V6 } else { 0 },
        leads_on: header.kind == RouteType::Unicast,
        ways: Vec::new(),
    };
    let (mut ifindex, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::MultiPath(hops) => route.ways.extend(hops.iter().map(multipath)),
            other => gateway = gateway.or_else(|| via(other)),
        }
    }
    if let Some(ifindex) = ifindex.filter(|_| route.ways.is_empty()) {
        let dead = RouteFlags::Dead | RouteFlags::Linkdown;
        route.ways.push(Way {
            ifindex,
            gateway,
            usable: !header.flags.intersects(dead),
        });
    }
    Some(route)
}

fn multipath(hop: &RouteNextHop) -> Way {
    let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    Way {
        ifindex: hop.interface_index,
        gateway: hop.attributes.iter().find_map(via),
        usable: !hop.flags.intersects(dead),
    }
}

/// A gateway of the route's own family, or of the other one (RFC 5549).
fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}
