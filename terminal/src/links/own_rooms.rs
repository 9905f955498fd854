//! What should be there for rooms with a session of their own: a bridge each, whose packets look at
//! that session's table, and at no other. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest as _, Sha256};

use super::desired::{Active, FIRST_TABLE, RULE_PRIORITY, UNREACHABLE_METRIC, own_address, set};
use super::{Item, NatRule, Route};
use crate::config::{Home, Room};

/// The sessions that rooms use, by port: their slots. A room that is missing uses none.
pub type Chosen = BTreeMap<String, u32>;

/// Its routes lead nowhere.
pub const CLOSED_TABLE: u32 = FIRST_TABLE - 1;

/// A room, with the session that it uses.
#[derive(Debug, Clone)]
pub struct OwnRoom<'a> {
    /// The interface of its devices.
    pub bridge: String,
    /// What is configured.
    pub room: &'a Room,
    /// The session, if there is one.
    pub session: Option<&'a Active>,
    /// The room's part of the session's prefix.
    pub ipv6: Option<Ipv6Net>,
    port: &'a str,
}

/// The rooms with a session of their own.
#[must_use]
pub fn own_rooms<'a>(home: &'a Home, sessions: &'a [Active], chosen: &Chosen) -> Vec<OwnRoom<'a>> {
    let room = |(number, (port, room)): (u128, (&'a String, &'a Room))| {
        let slot = chosen.get(port);
        let session = slot.and_then(|slot| sessions.iter().find(|own| own.slot == *slot));
        OwnRoom {
            bridge: bridge(port),
            room,
            session,
            // The first /64 is the home bridge's.
            ipv6: session
                .and_then(|session| session.offer.ipv6)
                .and_then(|prefix| subnet(prefix, number)),
            port,
        }
    };
    (1..).zip(&home.rooms).map(room).collect()
}

/// The sessions of all other rooms: those that no room has for itself, and the oldest one in any case,
/// which has the home's default route.
#[must_use]
pub fn common(sessions: &[Active], chosen: &Chosen) -> Vec<Active> {
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

/// `br-room1`; where that is too long for the kernel, a hash stands for the port.
fn bridge(port: &str) -> String {
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
    for own in own_rooms(home, sessions, chosen) {
        let link = &own.bridge;
        items.push(Item::Bridge { name: link.clone() });
        items.push(Item::Port {
            link: own.port.to_owned(),
            bridge: link.clone(),
        });
        for link in [own.port, link] {
            items.push(Item::Up {
                link: link.to_owned(),
            });
        }
        items.push(set(format!("ipv6/conf/{link}/accept_ra"), "0"));
        closed(items, link);
        if let Some(rooms) = own.room.ipv4 {
            items.push(Item::Address {
                link: link.clone(),
                address: rooms.into(),
            });
        }
        let Some(session) = own.session else {
            continue;
        };
        let table = FIRST_TABLE + session.slot;
        for v6 in [false, true] {
            items.push(rule(link, v6, table, RULE_PRIORITY - 1));
        }
        let wan = session.wan_interface();
        if let (Some(rooms), Some(to)) = (own.room.ipv4, session.offer.ipv4) {
            for name in [link, &wan] {
                items.push(set(format!("ipv4/conf/{name}/forwarding"), "1"));
            }
            if home.masquerade {
                nat.push(NatRule {
                    source: rooms.trunc(),
                    link: wan,
                    to,
                });
            }
        }
        if let Some(network) = own.ipv6 {
            items.push(set("ipv6/conf/all/forwarding".into(), "1"));
            let address = Ipv6Net::new_assert(own_address(network), 64);
            items.push(Item::Address {
                link: link.clone(),
                address: address.into(),
            });
        }
    }
    nat
}

/// What finds no way by the room's session goes no other one.
fn closed(items: &mut Vec<Item>, link: &str) {
    for v6 in [false, true] {
        items.push(rule(link, v6, CLOSED_TABLE, RULE_PRIORITY + 1));
    }
    let everywhere: [IpNet; 2] = [
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    ];
    items.extend(everywhere.map(|destination| {
        Item::Route(Route {
            destination,
            table: CLOSED_TABLE,
            via: None,
            link: None,
            source: None,
            metric: UNREACHABLE_METRIC,
        })
    }));
}

fn rule(link: &str, v6: bool, table: u32, priority: u32) -> Item {
    Item::RoomRule {
        link: link.to_owned(),
        v6,
        table,
        priority,
    }
}

/// Their networks, and by which interface they are reached.
pub(super) fn networks(home: &Home, sessions: &[Active], chosen: &Chosen) -> Vec<(IpNet, String)> {
    let of = |own: OwnRoom<'_>| {
        let v4 = own.room.ipv4.map(|net| IpNet::from(net.trunc()));
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
