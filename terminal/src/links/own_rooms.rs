//! What should be there for rooms with a session of their own: a bridge, whose packets look at that
//! session's table, and at no other. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use super::desired::{
    Active, FIRST_TABLE, RULE_PRIORITY, UNREACHABLE_METRIC, join, own_address, set, sources, unused,
};
use super::{Item, NatRule, Route, Rule};
use crate::config::{Home, Room};

/// The sessions that rooms use, as [`Home::choices`] names the rooms: their slots. A room that is
/// missing uses none.
pub type Chosen = BTreeMap<String, u32>;

/// Its routes lead to the rooms and nowhere else.
pub const CLOSED_TABLE: u32 = FIRST_TABLE - 1;

/// Rooms on one bridge, with the session that they use.
#[derive(Debug, Clone)]
pub struct OwnRoom<'a> {
    /// The interface of their devices.
    pub bridge: String,
    /// The terminal's address toward them.
    pub ipv4: Option<Ipv4Net>,
    /// The session, if there is one.
    pub session: Option<&'a Active>,
    /// Their part of the session's prefix.
    pub ipv6: Option<Ipv6Net>,
    ports: Vec<&'a str>,
}

/// The rooms with a session of their own.
#[must_use]
pub fn own_rooms<'a>(home: &'a Home, sessions: &'a [Active], chosen: &Chosen) -> Vec<OwnRoom<'a>> {
    let session = |name: &str| {
        let slot = chosen.get(name)?;
        sessions.iter().find(|own| own.slot == *slot)
    };
    let ipv6 = |session: Option<&Active>, number| subnet(session?.offer.ipv6?, number);
    // The first /64 is the home bridge's.
    let joined = home.session.iter().map(|_| {
        let session = session(&home.bridge);
        OwnRoom {
            bridge: home.bridge.clone(),
            ipv4: home.ipv4,
            session,
            ipv6: ipv6(session, 0),
            ports: home.room_ports.iter().map(String::as_str).collect(),
        }
    });
    let room = |(number, (port, room)): (u128, (&'a String, &'a Room))| {
        let session = session(port);
        OwnRoom {
            bridge: bridge(port),
            ipv4: room.ipv4,
            session,
            ipv6: ipv6(session, number),
            ports: vec![port],
        }
    };
    joined.chain((1..).zip(&home.rooms).map(room)).collect()
}

/// The sessions of all other rooms: those that no room has for itself, and the oldest one in any case,
/// which has the home's default route.
#[must_use]
pub fn common(home: Option<&Home>, sessions: &[Active], chosen: &Chosen) -> Vec<Active> {
    if home.is_some_and(|home| home.session.is_some()) {
        return Vec::new();
    }
    let is_common = |(at, session): &(usize, &Active)| {
        *at == 0 || !chosen.values().any(|slot| *slot == session.slot)
    };
    let common = sessions.iter().enumerate().filter(is_common);
    common.map(|(_, session)| session.clone()).collect()
}

/// The n-th /64 of a prefix.
fn subnet(prefix: Ipv6Net, number: u128) -> Option<Ipv6Net> {
    let bits = 64_u8.checked_sub(prefix.prefix_len())?;
    let network = prefix.network().to_bits() | (number << 64);
    (number >> bits == 0).then(|| Ipv6Net::new_assert(Ipv6Addr::from_bits(network), 64))
}

/// The bridge of a room of its own: `br-room1`; where that is too long for the kernel, a hash stands
/// for the port.
pub(crate) fn bridge(port: &str) -> String {
    let name = format!("br-{port}");
    if name.len() <= 15 {
        return name;
    }
    let digest = Sha256::digest(port.as_bytes());
    let [a, b, c, d] = [digest[0], digest[1], digest[2], digest[3]];
    format!("br-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// Adds what they need; how their IPv4 leaves is returned.
pub(super) fn desired(
    items: &mut Vec<Item>,
    home: &Home,
    sessions: &[Active],
    chosen: &Chosen,
) -> Vec<NatRule> {
    let mut nat = Vec::new();
    let common = common(Some(home), sessions, chosen);
    if home.session.is_none() {
        // No other room uses such a session, whatever addresses its devices have.
        let own = sessions.iter().filter(|session| !common.contains(session));
        items.extend(
            own.flat_map(sources)
                .map(|source| rule(source, &home.bridge, CLOSED_TABLE, RULE_PRIORITY - 1)),
        );
    }
    for own in own_rooms(home, sessions, chosen) {
        let link = &own.bridge;
        closed(items, link);
        join(items, link, own.ports.iter().copied());
        items.push(set(format!("ipv6/conf/{link}/accept_ra"), "0"));
        if let Some(rooms) = own.ipv4 {
            items.push(set(format!("ipv4/conf/{link}/forwarding"), "1"));
            items.push(Item::Address {
                link: link.clone(),
                address: rooms.into(),
            });
        }
        let Some(session) = own.session else {
            continue;
        };
        let table = FIRST_TABLE + session.slot;
        // By other sources, such as a device has that was in another room, the line might take it
        // for another session's.
        let v4 = own.ipv4.map(|rooms| IpNet::from(rooms.trunc()));
        let own_sources = v4.into_iter().chain(own.ipv6.map(IpNet::from));
        items.extend(own_sources.map(|source| rule(source, link, table, RULE_PRIORITY - 2)));
        let wan = session.wan_interface();
        if let (Some(rooms), Some(to)) = (own.ipv4, session.offer.ipv4) {
            items.push(set(format!("ipv4/conf/{wan}/forwarding"), "1"));
            if home.masquerade {
                nat.push(NatRule {
                    source: rooms.trunc(),
                    link: wan,
                    to,
                });
            }
        }
        if let (Some(network), Some(prefix)) = (own.ipv6, session.offer.ipv6) {
            items.push(set("ipv6/conf/all/forwarding".into(), "1"));
            let address = Ipv6Net::new_assert(own_address(network), 64);
            items.push(Item::Address {
                link: link.clone(),
                address: address.into(),
            });
            if prefix.prefix_len() < 64 {
                items.push(Item::Route(unused(prefix)));
            }
        }
    }
    nat
}

/// Both families.
const EVERYWHERE: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// What finds no way by the room's session goes no other one, whatever source it has: before the rules
/// of the other sessions.
fn closed(items: &mut Vec<Item>, link: &str) {
    for all in EVERYWHERE {
        items.push(Item::Route(Route {
            destination: all,
            table: CLOSED_TABLE,
            via: None,
            link: None,
            source: None,
            metric: UNREACHABLE_METRIC,
        }));
        items.push(rule(all, link, CLOSED_TABLE, RULE_PRIORITY - 1));
    }
}

fn rule(source: IpNet, link: &str, table: u32, priority: u32) -> Item {
    Item::Rule(Rule {
        source,
        link: Some(link.to_owned()),
        table,
        priority,
    })
}

/// Their networks, and by which interface they are reached.
pub(super) fn networks(home: &Home, sessions: &[Active], chosen: &Chosen) -> Vec<(IpNet, String)> {
    let of = |own: OwnRoom<'_>| {
        let v4 = own.ipv4.map(|net| IpNet::from(net.trunc()));
        let v6 = own.ipv6.map(IpNet::from);
        let bridge = own.bridge;
        v4.into_iter()
            .chain(v6)
            .map(move |network| (network, bridge.clone()))
    };
    own_rooms(home, sessions, chosen)
        .into_iter()
        .flat_map(of)
        .collect()
}
