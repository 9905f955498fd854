//! A home and its sessions, as a configuration and gateways declare them.

use std::collections::BTreeMap;

use doorstep_establish::{Mac, Offer, Tags};
use doorstep_terminal::config::{Home, Mode, Wan, WanTags};
use doorstep_terminal::links::Item;
use doorstep_terminal::links::actual::{Actual, Link};
use doorstep_terminal::links::desired::Active;

pub fn session(port: &str, vids: &[u16]) -> Active {
    Active {
        slot: 0,
        port: port.into(),
        tags: Tags::from_vids(vids).unwrap(),
        offer: Offer {
            gateway_id: "gw-1".into(),
            ipv4: Some([100, 64, 1, 10].into()),
            ipv4_gateway: Some([100, 64, 0, 1].into()),
            ipv6: Some("2001:db8::/56".parse().unwrap()),
            ipv6_line: None,
            dns: vec![],
            mtu: 0,
        },
        gateway_mac: Mac([2, 0, 0, 0, 0, 1]),
    }
}

pub fn wan() -> Wan {
    let ports = vec!["wan0".into(), "wan1".into()];
    Wan {
        ports,
        tags: WanTags::Auto,
        route_metric: 52,
        garden: true,
    }
}

/// What would be there if everything in `items` had been made.
pub fn made(items: &[Item]) -> Actual {
    let mut actual = Actual::default();
    for name in ["wan0", "wan1", "room0", "room1"] {
        let link = Link {
            up: true,
            mtu: 1500,
            ..Link::default()
        };
        actual.links.insert(name.into(), link);
    }
    for item in items {
        match item.clone() {
            Item::Vlan { name, parent, tag } => {
                let link = actual.links.entry(name).or_default();
                link.vlan = Some((parent, tag));
            }
            Item::Bridge { name } => actual.links.entry(name).or_default().is_bridge = true,
            Item::Mtu { link, bytes } => actual.links.entry(link).or_default().mtu = bytes,
            Item::Setting { path, value } => drop(actual.settings.insert(path, value)),
            Item::Port { link, bridge } => {
                // A port that is not there cannot be made.
                if let Some(link) = actual.links.get_mut(&link) {
                    link.bridge = Some(bridge);
                }
            }
            Item::Up { link } => {
                if let Some(link) = actual.links.get_mut(&link) {
                    link.up = true;
                }
            }
            Item::Address { link, address } => drop(actual.addresses.insert((link, address))),
            Item::Neighbour { link, address, mac } => {
                actual.neighbours.insert((link, address, mac));
            }
            Item::Route(route) => drop(actual.routes.insert(route)),
            Item::Rule(rule) => drop(actual.rules.insert(rule)),
            Item::Nat { .. } => {}
            Item::File { path, text } => drop(actual.files.insert(path, text)),
        }
    }
    actual
}

pub fn home() -> Home {
    Home {
        bridge: "br-home".into(),
        room_ports: vec!["room0".into(), "absent0".into()],
        ipv4: Some("192.168.77.1/24".parse().unwrap()),
        masquerade: true,
        dhcp: true,
        mode: Mode::Routed,
        session: None,
        resolver_file: None,
        app: None,
        rooms: BTreeMap::new(),
    }
}
