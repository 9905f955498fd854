//! What should be there for the sessions that are up. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use doorstep_establish::{GATEWAY_LINK_LOCAL, Mac, Offer, TPID_8021AD, Tags};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use super::own_rooms::{self, CLOSED_TABLE, Chosen};
use super::room_port::RoomPort;
use super::{Item, NatRule, Route, Rule};
use crate::config::{Home, Wan, is_switch};

/// The kernel's main routing table.
pub const MAIN_TABLE: u32 = 254;
/// Sessions have a table each, from this one on.
pub const FIRST_TABLE: u32 = 52_500;
/// Place of the sessions' rules: before the main table's (32766).
pub const RULE_PRIORITY: u32 = 5_250;
const TABLE_METRIC: u32 = 52;
pub(super) const UNREACHABLE_METRIC: u32 = 65_535;
/// IFNAMSIZ without the final zero.
const MAX_NAME_LEN: usize = 15;

/// A session whose links are to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Small number of its own: chooses the routing table.
    pub slot: u32,
    /// The WAN port on which its request came.
    pub port: String,
    /// The tags of its frames.
    pub tags: Tags,
    /// What the gateway offers.
    pub offer: Offer,
    /// The gateway's Ethernet address on this line.
    pub gateway_mac: Mac,
}

impl Active {
    /// The interface that carries the session.
    #[must_use]
    pub fn wan_interface(&self) -> String {
        top(&self.port, self.tags)
    }
}

/// The interface on top of a stack of tags.
fn top(port: &str, tags: Tags) -> String {
    interfaces(port, tags)
        .pop()
        .map_or_else(|| port.to_owned(), |(name, ..)| name)
}

/// The VLAN interfaces of a stack of tags, outer first: name, parent, tag.
fn interfaces(port: &str, tags: Tags) -> Vec<(String, String, doorstep_establish::Tag)> {
    let mut out = Vec::new();
    let (mut parent, mut suffix) = (port.to_owned(), String::new());
    for &tag in tags.as_slice() {
        let mark = if tag.tpid == TPID_8021AD { "s" } else { "" };
        suffix = format!("{suffix}.{mark}{}", tag.vid);
        let name = vlan_name(port, &suffix);
        out.push((name.clone(), parent, tag));
        parent = name;
    }
    out
}

/// `wan0.s101.1004`; where that is too long for the kernel, a hash stands for it.
pub(super) fn vlan_name(port: &str, suffix: &str) -> String {
    let name = format!("{port}{suffix}");
    if name.len() <= MAX_NAME_LEN {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
    format!("dsv{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// Everything that should be there; `sessions` are in the order of their age, the oldest first.
/// Rooms with a session of their own use the `chosen` ones.
#[must_use]
pub fn desired(wan: &Wan, home: Option<&Home>, sessions: &[Active], chosen: &Chosen) -> Vec<Item> {
    let up = |link: &str| Item::Up {
        link: link.to_owned(),
    };
    let mut items: Vec<Item> = wan.ports.iter().map(|port| up(port)).collect();
    if let Some(home) = home.filter(|home| is_switch(Some(home))) {
        switch(&mut items, wan, home);
        return items;
    }
    // Whoever asks for the first session in the rooms has to reach the terminal before.
    let has_app = home.is_some_and(|home| home.app.is_some());
    if sessions.is_empty() && !has_app {
        return items;
    }
    for session in sessions {
        line(&mut items, session);
    }
    if let Some(home) = home {
        let mut nat = own_rooms::desired(&mut items, home, sessions, chosen);
        if home.session.is_none() {
            let common = own_rooms::common(Some(home), sessions, chosen);
            nat.extend(rooms(&mut items, home, &common));
        }
        if !nat.is_empty() {
            items.push(Item::Nat { rules: nat });
        }
    }
    routes(&mut items, wan, home, sessions, chosen);
    resolvers(&mut items, home, sessions);
    items
}

pub(super) fn set(path: String, value: &str) -> Item {
    Item::Setting {
        path,
        value: value.to_owned(),
    }
}

/// The line as a port of the rooms' bridge. The terminal itself says nothing there.
fn switch(items: &mut Vec<Item>, wan: &Wan, home: &Home) {
    join(
        items,
        &home.bridge,
        home.room_ports.iter().map(String::as_str),
    );
    let tags = wan.tags.resolve(Tags::NONE);
    for port in &wan.ports {
        let link = vlans(items, port, tags);
        items.push(Item::Port {
            link,
            bridge: home.bridge.clone(),
        });
    }
    items.push(set(format!("ipv6/conf/{}/disable_ipv6", home.bridge), "1"));
}

/// The interface with that stack of tags on a port; its name.
pub(super) fn interface(items: &mut Vec<Item>, port: &str, tags: Tags, mtu: u32) -> String {
    let link = vlans(items, port, tags);
    let bytes = if mtu == 0 { 1500 } else { mtu };
    items.push(Item::Mtu {
        link: link.clone(),
        bytes,
    });
    link
}

/// The VLAN interfaces of that stack of tags; the name of the last one.
fn vlans(items: &mut Vec<Item>, port: &str, tags: Tags) -> String {
    for (name, parent, tag) in interfaces(port, tags) {
        items.push(Item::Vlan {
            name: name.clone(),
            parent,
            tag,
        });
        items.push(Item::Up { link: name });
    }
    top(port, tags)
}

/// The interface, its address and its neighbour.
fn line(items: &mut Vec<Item>, session: &Active) {
    let offer = &session.offer;
    let link = interface(items, &session.port, session.tags, offer.mtu);
    if let Some(address) = offer.ipv4 {
        items.push(Item::Address {
            link: link.clone(),
            address: host(address.into()),
        });
        if let Some(gateway) = offer.ipv4_gateway {
            items.push(neighbour(&link, gateway.into(), session.gateway_mac));
        }
    }
    // The home speaks by the line's own prefix, if there is one; by the delegated one it is known to
    // those who have its address already.
    for prefix in [offer.ipv6_line, offer.ipv6].into_iter().flatten() {
        ipv6(items, &link, own_address(prefix), session.gateway_mac);
    }
    if let Some(prefix) = offer.ipv6_line {
        items.push(Item::Route(unused(prefix)));
    }
}

/// What no address of the home's is for must not circle between gateway and terminal (RFC 7084,
/// WPD-5).
pub(super) fn unused(prefix: Ipv6Net) -> Route {
    Route {
        destination: prefix.trunc().into(),
        table: MAIN_TABLE,
        via: None,
        link: None,
        source: None,
        metric: UNREACHABLE_METRIC,
    }
}

/// An own IPv6 address on the line, and the gateway as its neighbour.
pub(super) fn ipv6(items: &mut Vec<Item>, link: &str, own: Ipv6Addr, gateway_mac: Mac) {
    // Whoever sends router advertisements on the line, the session's routes are these.
    items.push(set(format!("ipv6/conf/{link}/accept_ra"), "0"));
    items.push(Item::Address {
        link: link.to_owned(),
        address: host(own.into()),
    });
    items.push(neighbour(link, GATEWAY_LINK_LOCAL.into(), gateway_mac));
}

pub(super) fn neighbour(link: &str, address: IpAddr, mac: Mac) -> Item {
    Item::Neighbour {
        link: link.to_owned(),
        address,
        mac,
    }
}

pub(super) fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// `<prefix>::1`
pub(crate) fn own_address(prefix: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.network().to_bits() | 1)
}

/// A bridge with rooms' ports.
pub(super) fn join<'a>(items: &mut Vec<Item>, bridge: &str, ports: impl Iterator<Item = &'a str>) {
    items.push(Item::Bridge {
        name: bridge.to_owned(),
    });
    // A configuration that has been read has no other ones.
    for port in ports.flat_map(RoomPort::parse) {
        port.desired(items);
        items.push(Item::Port {
            link: port.link(),
            bridge: bridge.to_owned(),
        });
    }
    items.push(Item::Up {
        link: bridge.to_owned(),
    });
}

/// The rooms' bridge and its addresses; how they leave.
fn rooms(items: &mut Vec<Item>, home: &Home, sessions: &[Active]) -> Vec<NatRule> {
    let bridge = &home.bridge;
    join(items, bridge, home.room_ports.iter().map(String::as_str));
    if let Some(own) = home.ipv4.filter(|_| home.app.is_some()) {
        items.push(Item::Address {
            link: bridge.clone(),
            address: own.into(),
        });
    }
    let mut nat: Vec<NatRule> = Vec::new();
    for session in sessions {
        let link = session.wan_interface();
        if let (Some(rooms), Some(to)) = (home.ipv4, session.offer.ipv4) {
            items.push(Item::Address {
                link: bridge.clone(),
                address: rooms.into(),
            });
            for name in [bridge, &link] {
                items.push(set(format!("ipv4/conf/{name}/forwarding"), "1"));
            }
            if home.masquerade && !nat.iter().any(|rule| rule.link == link) {
                nat.push(NatRule {
                    source: rooms.trunc(),
                    link,
                    to,
                });
            }
        }
        if let Some(prefix) = session.offer.ipv6 {
            // IPv6 has no forwarding per interface that all kernels honour.
            items.push(set("ipv6/conf/all/forwarding".into(), "1"));
            let len = prefix.prefix_len().max(64);
            if let Ok(network) = Ipv6Net::new(own_address(prefix), len) {
                items.push(Item::Address {
                    link: bridge.clone(),
                    address: network.into(),
                });
            }
            if prefix.prefix_len() < 64 {
                items.push(Item::Route(unused(prefix)));
            }
        }
    }
    nat
}

/// The oldest session's default routes, and a table per session as soon as there are several.
fn routes(
    items: &mut Vec<Item>,
    wan: &Wan,
    home: Option<&Home>,
    sessions: &[Active],
    chosen: &Chosen,
) {
    for session in sessions {
        // Of routes that exclude each other the first counts: the oldest session's.
        let defaults = default_routes(session, MAIN_TABLE, wan.route_metric);
        items.extend(defaults.into_iter().map(Item::Route));
    }
    let has_tables = sessions.len() > 1 || !chosen.is_empty();
    let with_table = sessions.iter().filter(|_| has_tables);
    for session in with_table.clone() {
        let table = FIRST_TABLE + session.slot;
        let defaults = default_routes(session, table, TABLE_METRIC);
        items.extend(defaults.into_iter().map(Item::Route));
        items.extend(sources(session).map(|source| {
            Item::Rule(Rule {
                source,
                link: None,
                table,
                priority: RULE_PRIORITY,
            })
        }));
    }
    // Such a table must know the rooms too, or what the terminal sends them goes out.
    let closed = home.filter(|home| home.choices().next().is_some());
    let closed = closed.map(|_| CLOSED_TABLE);
    let tables = with_table.map(|session| FIRST_TABLE + session.slot);
    let networks = home.map(|home| room_networks(home, sessions, chosen));
    let networks = networks.unwrap_or_default();
    for table in tables.chain(closed) {
        items.extend(networks.iter().map(|(destination, link)| {
            Item::Route(Route {
                destination: *destination,
                table,
                via: None,
                link: Some(link.clone()),
                source: None,
                metric: TABLE_METRIC,
            })
        }));
    }
}

/// The addresses that are the session's.
pub(super) fn sources(session: &Active) -> impl Iterator<Item = IpNet> {
    let v4 = session.offer.ipv4.map(|address| host(address.into()));
    let prefixes = [session.offer.ipv6_line, session.offer.ipv6];
    let [line, rooms] = prefixes.map(|prefix| prefix.map(|prefix| prefix.trunc().into()));
    [v4, line, rooms].into_iter().flatten()
}

/// Networks of the rooms, and by which interface they are reached.
fn room_networks(home: &Home, sessions: &[Active], chosen: &Chosen) -> Vec<(IpNet, String)> {
    let v4 = home.ipv4.filter(|_| home.session.is_none());
    let v4 = v4.map(|rooms| IpNet::from(rooms.trunc()));
    let common = own_rooms::common(Some(home), sessions, chosen);
    let v6 = common
        .iter()
        .filter_map(|session| session.offer.ipv6)
        .map(|prefix| {
            let len = prefix.prefix_len().max(64);
            Ipv6Net::new(prefix.network(), len).map_or(prefix.into(), IpNet::from)
        });
    let joined = v4.into_iter().chain(v6);
    let joined = joined.map(|network| (network, home.bridge.clone()));
    joined
        .chain(own_rooms::networks(home, sessions, chosen))
        .collect()
}

fn default_routes(session: &Active, table: u32, metric: u32) -> Vec<Route> {
    let link = Some(session.wan_interface());
    let offer = &session.offer;
    let v4 = offer.ipv4.map(|address| Route {
        destination: Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        table,
        via: offer.ipv4_gateway.map(IpAddr::V4),
        link: link.clone(),
        source: Some(address.into()),
        metric,
    });
    let v6 = offer.ipv6_line.or(offer.ipv6).map(|prefix| Route {
        destination: Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
        table,
        via: Some(GATEWAY_LINK_LOCAL.into()),
        link,
        source: Some(own_address(prefix).into()),
        metric,
    });
    [v4, v6].into_iter().flatten().collect()
}

fn resolvers(items: &mut Vec<Item>, home: Option<&Home>, sessions: &[Active]) {
    let Some(path) = home.and_then(|home| home.resolver_file.clone()) else {
        return;
    };
    let mut text = String::from("# Written by doorstep-terminal: the resolvers of its sessions.\n");
    let mut known = Vec::new();
    for address in sessions.iter().flat_map(|session| &session.offer.dns) {
        if !known.contains(address) {
            known.push(*address);
            text.push_str(&format!("nameserver {address}\n"));
        }
    }
    if !known.is_empty() {
        items.push(Item::File { path, text });
    }
}
