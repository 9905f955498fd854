//! What a terminal makes of a gateway's offer: links, addresses, routes.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use doorstep_establish::{Mac, Offer, Tags};
use doorstep_terminal::config::{Home, Mode, Room, Wan, WanTags};
use doorstep_terminal::links::Item;
use doorstep_terminal::links::actual::{Actual, Link};
use doorstep_terminal::links::desired::{Active, FIRST_TABLE, desired};
use doorstep_terminal::links::own_rooms::{CLOSED_TABLE, Chosen};
use doorstep_terminal::links::plan::{Plan, Step};

use super::establish::offer;
use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "terminal_links",
    about: "links that gateways' offers ask for: on our ports alone, and undone by the same plan",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "null",
        "\"::/0\"",
        "\"2001:db8::1/128\"",
        "\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127\"",
        "\"0.0.0.0\"",
        "\"255.255.255.255\"",
        "4294967295",
    ],
    inputs: 6_000,
};

pub(super) static WAN: LazyLock<Wan> = LazyLock::new(|| Wan {
    ports: vec!["wan0".to_owned()],
    tags: WanTags::Auto,
    route_metric: 52,
    garden: true,
});

pub(super) static HOME: LazyLock<Home> = LazyLock::new(|| Home {
    bridge: "br-home".to_owned(),
    room_ports: vec!["lan0".to_owned()],
    ipv4: "192.168.77.1/24".parse().ok(),
    masquerade: true,
    dhcp: true,
    mode: Mode::Routed,
    session: None,
    resolver_file: Some(PathBuf::from("/run/doorstep-terminal/resolv.conf")),
    app: None,
    rooms: BTreeMap::new(),
});

/// The same with a room of its own, on a VLAN.
pub(super) static DIVIDED: LazyLock<Home> = LazyLock::new(|| {
    let room = Room {
        session: "south".to_owned(),
        ipv4: "192.168.78.1/24".parse().ok(),
    };
    Home {
        rooms: BTreeMap::from([(OWN_ROOM.to_owned(), room)]),
        ..HOME.clone()
    }
});

/// Its port.
pub(super) const OWN_ROOM: &str = "lan1.20";

pub(super) fn active(slot: u32, offer: Offer) -> Active {
    Active {
        slot,
        port: "wan0".to_owned(),
        tags: Tags::from_vids(&[101, 1004]).expect("tags"),
        offer,
        gateway_mac: Mac([2, 0, 0, 0, 0, 2]),
    }
}

/// Offers of the sessions that are up, as the terminal keeps them.
fn seeds() -> Vec<Vec<u8>> {
    let other = Offer {
        gateway_id: "gw2".to_owned(),
        ipv4: None,
        ipv4_gateway: None,
        ipv6: "2001:db8:3000::/64".parse().ok(),
        ipv6_line: None,
        dns: Vec::new(),
        mtu: 0,
    };
    [
        vec![offer()],
        vec![offer(), other.clone()],
        vec![other, offer(), offer()],
    ]
    .map(|offers| serde_json::to_vec(&offers).expect("text"))
    .to_vec()
}

fn check(data: &[u8]) {
    let Ok(offers) = serde_json::from_slice::<Vec<Offer>>(data) else {
        return;
    };
    if offers.len() > 8 {
        return;
    }
    let sessions: Vec<Active> = (0..)
        .zip(offers)
        .map(|(slot, it)| active(slot, it))
        .collect();
    let ports = ["wan0", "lan0", "lan1"];
    let actual = Actual {
        links: ports.map(|port| (port.to_owned(), Link::default())).into(),
        ..Actual::default()
    };
    let chosen = Chosen::from([(OWN_ROOM.to_owned(), 1)]);
    let homes = [
        (None, Chosen::new()),
        (Some(&*HOME), Chosen::new()),
        (Some(&*DIVIDED), Chosen::new()),
        (Some(&*DIVIDED), chosen),
    ];
    for (home, chosen) in homes {
        let items = desired(&WAN, home, &sessions, &chosen);
        names(&items);
        kept_apart(&items, &chosen);
        let plan = Plan::diff(&items, &[], &actual);
        assert!(plan.absent.is_empty(), "{:?}", plan.absent);
        let made = plan.steps.iter().filter_map(|step| match step {
            Step::Make(own) => Some(&own.item),
            Step::Undo(_) => None,
        });
        let made: HashSet<&Item> = made.collect();
        assert_eq!(made.len(), plan.steps.len(), "made twice, or undone");
        for (at, one) in plan.owned.iter().enumerate() {
            let clash = plan.owned[..at]
                .iter()
                .find(|it| it.item.excludes(&one.item));
            assert!(clash.is_none(), "{} and {clash:?}", one.item);
        }
        // Once all is there, there is nothing to do; without sessions, all is undone.
        let again = Plan::diff(&items, &plan.owned, &actual);
        assert!(again.steps.iter().all(|step| matches!(step, Step::Make(_))));
        let end = Plan::diff(&[], &plan.owned, &actual);
        assert!(end.steps.iter().all(|step| matches!(step, Step::Undo(_))));
        assert!(end.owned.is_empty(), "{:?}", end.owned);
    }
}

/// Rules for packets of the room of its own lead to its session's table or to none, before those for
/// packets of anybody.
fn kept_apart(items: &[Item], chosen: &Chosen) {
    let rules = || {
        items.iter().filter_map(|item| match item {
            Item::Rule(rule) => Some(rule),
            _ => None,
        })
    };
    let own = chosen.get(OWN_ROOM).map(|slot| FIRST_TABLE + slot);
    let first_open = rules().filter(|rule| rule.link.is_none());
    let first_open = first_open.map(|rule| rule.priority).min();
    for rule in rules().filter(|rule| rule.link.as_deref() == Some("br-lan1.20")) {
        assert!(
            rule.table == CLOSED_TABLE || Some(rule.table) == own,
            "{rule}"
        );
        assert!(first_open.is_none_or(|open| rule.priority < open), "{rule}");
    }
}

/// No interface but the ports', those on top of them, and the bridges.
fn names(items: &[Item]) {
    for item in items {
        let link = match item {
            Item::Vlan { name, .. } | Item::Bridge { name } => name,
            Item::Mtu { link, .. }
            | Item::Port { link, .. }
            | Item::Up { link }
            | Item::Address { link, .. }
            | Item::Neighbour { link, .. } => link,
            Item::Setting { path, .. } => {
                assert!(!path.contains("..") && !path.starts_with('/'), "{path}");
                continue;
            }
            _ => continue,
        };
        let own = ["wan0", "lan0", "lan1", OWN_ROOM, "br-home", "br-lan1.20"];
        let ours =
            own.contains(&link.as_str()) || link.starts_with("wan0.") || link.starts_with("dsv");
        assert!(ours && link.len() <= 15, "{item}");
    }
}
