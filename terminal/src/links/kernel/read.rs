//! Dumps of the kernel's tables as plain data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use doorstep_establish::{Mac, Tag};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};
use rtnetlink::{Error, Handle, IpVersion, RouteMessageBuilder};

use super::{MAIN_TABLE, Names};
use crate::links::actual::{Actual, Link};
use crate::links::{Route, Rule};

pub(super) async fn actual(handle: &Handle) -> Result<Actual, Error> {
    let mut actual = Actual::default();
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let names: Names = links
        .iter()
        .filter_map(|link| Some((link.header.index, name(link)?.to_owned())))
        .collect();
    for message in &links {
        if let Some(name) = name(message) {
            actual.links.insert(name.to_owned(), link(message, &names));
        }
    }

    let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
    for message in addresses {
        let Some(name) = names.get(&message.header.index) else {
            continue;
        };
        // IPv4 on a point-to-point link: Local is the address, Address the peer.
        let mut address = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(local) => address = Some(*local),
                AddressAttribute::Address(other) => address = address.or(Some(*other)),
                _ => {}
            }
        }
        if let Some(Ok(net)) = address.map(|a| IpNet::new(a, message.header.prefix_len)) {
            actual.addresses.insert((name.clone(), net));
        }
    }

    let neighbours: Vec<_> = handle.neighbours().get().execute().try_collect().await?;
    for message in neighbours {
        let Some(name) = names.get(&message.header.ifindex) else {
            continue;
        };
        if message.header.state != NeighbourState::Permanent {
            continue;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    address = Some(IpAddr::V4(*a));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    address = Some(IpAddr::V6(*a));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(&bytes[..]).ok().map(Mac);
                }
                _ => {}
            }
        }
        if let (Some(address), Some(mac)) = (address, mac) {
            actual.neighbours.insert((name.clone(), address, mac));
        }
    }

    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for family in [v4, v6] {
        let routes: Vec<_> = handle.route().get(family).execute().try_collect().await?;
        actual
            .routes
            .extend(routes.iter().filter_map(|message| route(message, &names)));
    }
    for v6 in [false, true] {
        let version = if v6 { IpVersion::V6 } else { IpVersion::V4 };
        let rules: Vec<_> = match handle.rule().get(version).execute().try_collect().await {
            Ok(rules) => rules,
            // A kernel without policy routing: fails where a rule is wanted.
            Err(Error::NetlinkError(error)) if error.raw_code() == -libc::EOPNOTSUPP => continue,
            Err(error) => return Err(error),
        };
        let rules = rules.iter().filter_map(|message| rule(message, v6));
        actual.rules.extend(rules);
    }
    Ok(actual)
}

fn name(message: &LinkMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}

fn link(message: &LinkMessage, names: &Names) -> Link {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    let (mut parent, mut vlan) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(&bytes[..]).map(Mac).unwrap_or_default();
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.bridge = names.get(index).cloned(),
            LinkAttribute::Link(index) => parent = names.get(index).cloned(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Bridge) => link.is_bridge = true,
                        LinkInfo::Data(InfoData::Vlan(data)) => vlan = Some(tag(data)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.vlan = parent.zip(vlan);
    link
}

fn tag(data: &[InfoVlan]) -> Tag {
    let mut tag = Tag::default();
    for info in data {
        match info {
            InfoVlan::Id(vid) => tag.vid = *vid,
            InfoVlan::Protocol(protocol) => tag.tpid = u16::from(*protocol),
            _ => {}
        }
    }
    tag
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(a) => Some((*a).into()),
        RouteAddress::Inet6(a) => Some((*a).into()),
        _ => None,
    }
}

fn route(message: &RouteMessage, names: &Names) -> Option<Route> {
    let unspecified: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut destination = unspecified;
    let mut out = Route {
        destination: IpNet::new(unspecified, 0).ok()?,
        table: message.header.table.into(),
        via: None,
        link: None,
        source: None,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(a) => destination = ip(a)?,
            RouteAttribute::Table(table) => out.table = *table,
            RouteAttribute::Gateway(a) => out.via = ip(a),
            RouteAttribute::Oif(index) => out.link = names.get(index).cloned(),
            RouteAttribute::PrefSource(a) => out.source = ip(a),
            RouteAttribute::Priority(metric) => out.metric = *metric,
            _ => {}
        }
    }
    match message.header.kind {
        RouteType::Unicast => {}
        // IPv6 shows the loopback interface.
        RouteType::Unreachable => out.link = None,
        _ => return None,
    }
    out.destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    if out.table == 0 {
        out.table = MAIN_TABLE;
    }
    Some(out)
}

/// By source and interface; what else a rule may ask for, none of ours does.
fn rule(message: &RuleMessage, v6: bool) -> Option<Rule> {
    let mut source: IpAddr = match v6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let (mut link, mut table, mut priority) = (None, u32::from(message.header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(a) => source = *a,
            RuleAttribute::Iifname(name) => link = Some(name.clone()),
            RuleAttribute::Table(t) => table = *t,
            RuleAttribute::Priority(p) => priority = *p,
            _ => {}
        }
    }
    Some(Rule {
        source: IpNet::new(source, message.header.src_len).ok()?,
        link,
        table,
        priority,
    })
}
