use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use doorstep_establish::Mac;
use doorstep_gateway_common::operator::OperatorValue;
use rtnetlink::packet_route::link::LinkFlags;

use super::decide::{Hop, decide, ports, renewal};
use super::kernel::{Effect, Kernel};
use crate::config::{Config, Operator};
use crate::dataplane::netlink::{DefaultRoute, Event, Link, Neighbour, Way};
use crate::dataplane::ports::{Port, Role, State};

const PORT_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const UPLINK: u32 = 5;
const VLAN: u32 = 6;
const OTHER: u32 = 7;
const TABLE: u32 = 100;

fn operator(how: &str) -> Operator {
    let text = format!(
        "id = \"gw1\"\n[[access_port]]\nname = \"access0\"\n[[operator]]\nname = \"north-net\"\n\
         uplink = \"uplink0\"\n{how}\nsubscriber_prefixes = [\"100.64.1.0/24\"]\n\
         [operator.server]\nurl = \"https://h:1\"\nca = \"c\"\ncert = \"c\"\nkey = \"k\"\n"
    );
    let config = Config::parse(Path::new("/gateway.toml"), &text).expect("valid");
    config.operators[0].clone()
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some(PORT_MAC),
        mtu: 1500,
        flags: LinkFlags::Up | LinkFlags::LowerUp,
        vlan: None,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn way(ifindex: u32, gateway: &str) -> Way {
    Way {
        ifindex,
        gateway: Some(address(gateway)),
        usable: true,
    }
}

fn route(metric: u32, ways: Vec<Way>) -> DefaultRoute {
    DefaultRoute {
        v6: false,
        table: TABLE,
        metric,
        leads_on: true,
        ways,
    }
}

fn kernel(routes: Vec<DefaultRoute>) -> Kernel {
    let vlan = Link {
        vlan: Some((7, UPLINK)),
        mac: Some(Mac([2, 0, 0, 0, 0, 7])),
        mtu: 1496,
        ..link(VLAN, "uplink0.7")
    };
    let links = vec![link(UPLINK, "uplink0"), vlan, link(OTHER, "uplink1")];
    let neighbours = ["192.0.2.1", "192.0.2.9", "fe80::1"].map(|text| Neighbour {
        ifindex: UPLINK,
        address: address(text),
        mac: Some(ROUTER),
    });
    let mut kernel = Kernel::new(links, neighbours.to_vec());
    kernel.routes = routes;
    kernel
}

/// Each row: the operator's configuration, the default routes for IPv4, and the next hop.
#[test]
fn next_hops_from_routes() {
    const BY_TABLE: &str = "routing_table = 100";
    let hop = |text: &str, mac| {
        Some(Hop {
            address: address(text),
            ifindex: Some(UPLINK),
            mac,
        })
    };
    let resolved = |text| hop(text, Some(ROUTER));
    let dead = |ifindex, gateway| Way {
        usable: false,
        ..way(ifindex, gateway)
    };
    let on_link = Way {
        gateway: None,
        ..way(UPLINK, "192.0.2.1")
    };
    let blackhole = |metric| DefaultRoute {
        leads_on: false,
        ..route(metric, Vec::new())
    };
    let of_another = |change: fn(&mut DefaultRoute)| {
        let mut route = route(0, vec![way(UPLINK, "192.0.2.1")]);
        change(&mut route);
        route
    };
    #[rustfmt::skip]
    let rows = [
        ("fixed", "next_hops = [\"192.0.2.1\"]", vec![], resolved("192.0.2.1")),
        ("fixed, unresolved", "next_hops = [\"192.0.2.2\"]", vec![], hop("192.0.2.2", None)),
        ("fixed, whatever the tables say", "next_hops = [\"192.0.2.1\"]",
            vec![route(0, vec![way(UPLINK, "192.0.2.9")])], resolved("192.0.2.1")),
        ("none", "", vec![route(0, vec![way(UPLINK, "192.0.2.1")])], None),
        ("no route", BY_TABLE, vec![], None),
        ("a route", BY_TABLE, vec![route(0, vec![way(UPLINK, "192.0.2.1")])], resolved("192.0.2.1")),
        ("unresolved", BY_TABLE, vec![route(0, vec![way(UPLINK, "192.0.2.2")])], hop("192.0.2.2", None)),
        ("the lower metric", BY_TABLE,
            vec![route(20, vec![way(UPLINK, "192.0.2.1")]), route(10, vec![way(UPLINK, "192.0.2.9")])],
            resolved("192.0.2.9")),
        ("another's uplink comes first", BY_TABLE,
            vec![route(0, vec![way(OTHER, "198.51.100.1")]), route(10, vec![way(UPLINK, "192.0.2.1")])],
            resolved("192.0.2.1")),
        ("another's uplink only", BY_TABLE, vec![route(0, vec![way(OTHER, "198.51.100.1")])], None),
        ("multipath", BY_TABLE,
            vec![route(0, vec![way(OTHER, "198.51.100.1"), way(UPLINK, "192.0.2.9"), way(UPLINK, "192.0.2.1")])],
            resolved("192.0.2.9")),
        ("multipath, the first is dead", BY_TABLE,
            vec![route(0, vec![dead(UPLINK, "192.0.2.9"), way(UPLINK, "192.0.2.1")])],
            resolved("192.0.2.1")),
        ("dead, and a worse one", BY_TABLE,
            vec![route(0, vec![dead(UPLINK, "192.0.2.9")]), route(10, vec![way(UPLINK, "192.0.2.1")])],
            resolved("192.0.2.1")),
        ("by IPv6", BY_TABLE, vec![route(0, vec![way(UPLINK, "fe80::1")])], resolved("fe80::1")),
        ("no gateway", BY_TABLE, vec![route(0, vec![on_link])], None),
        ("a blackhole first", BY_TABLE,
            vec![blackhole(0), route(10, vec![way(UPLINK, "192.0.2.1")])], None),
        ("a blackhole last", BY_TABLE,
            vec![blackhole(100), route(10, vec![way(UPLINK, "192.0.2.1")])], resolved("192.0.2.1")),
        ("of another table", BY_TABLE, vec![of_another(|route| route.table = 254)], None),
        ("of the other family", BY_TABLE, vec![of_another(|route| route.v6 = true)], None),
        ("a VLAN's is not the port's", "uplink_vlan = 7\nrouting_table = 100",
            vec![route(0, vec![way(UPLINK, "192.0.2.1")])], None),
        ("on the VLAN", "uplink_vlan = 7\nrouting_table = 100",
            vec![route(0, vec![way(VLAN, "192.0.2.1")])],
            Some(Hop { address: address("192.0.2.1"), ifindex: Some(VLAN), mac: None })),
        ("a VLAN without a link", "uplink_vlan = 8\nnext_hops = [\"192.0.2.1\"]", vec![],
            Some(Hop { address: address("192.0.2.1"), ifindex: None, mac: None })),
    ];
    for (name, how, routes, expected) in rows {
        let decision = decide(&operator(how), &kernel(routes));
        assert_eq!(decision.v4, expected, "{name}");
        let has_mac = expected.is_some_and(|hop| hop.mac.is_some());
        let value = decision.value;
        assert_eq!(
            value.flags & OperatorValue::NEXT_HOP_V4 != 0,
            has_mac,
            "{name}"
        );
        assert_eq!(value.ifindex, UPLINK, "{name}");
        if has_mac {
            assert_eq!(value.next_hop_v4_mac.bytes(), ROUTER.0, "{name}");
        }
    }
}

/// Each row: what becomes of the uplink's link, and the rows that follow.
#[test]
fn rows_from_links() {
    let operator = operator("next_hops = [\"192.0.2.1\"]");
    let up = LinkFlags::Up | LinkFlags::LowerUp;
    #[rustfmt::skip]
    let rows = [
        (Some((1500, PORT_MAC, up)), (UPLINK, 1500, PORT_MAC.0, true)),
        (Some((9000, PORT_MAC, up)), (UPLINK, 9000, PORT_MAC.0, true)),
        (Some((1500, ROUTER, up)), (UPLINK, 1500, ROUTER.0, true)),
        (Some((100_000, PORT_MAC, up)), (UPLINK, u16::MAX, PORT_MAC.0, true)),
        (Some((1500, PORT_MAC, LinkFlags::Up)), (UPLINK, 1500, PORT_MAC.0, false)),
        (Some((1500, PORT_MAC, LinkFlags::empty())), (UPLINK, 1500, PORT_MAC.0, false)),
        (None, (0, 0, [0; 6], false)),
    ];
    for (now, expected) in rows {
        let mut kernel = kernel(Vec::new());
        match now {
            Some((mtu, mac, flags)) => {
                let link = kernel.links.get_mut(&UPLINK).expect("there");
                (link.mtu, link.mac, link.flags) = (mtu, Some(mac), flags);
            }
            None => drop(kernel.links.remove(&UPLINK)),
        }
        let decision = decide(&operator, &kernel);
        let value = decision.value;
        let resolved = value.flags & OperatorValue::NEXT_HOP_V4 != 0;
        let found = (value.ifindex, value.mtu, value.port_mac.bytes(), resolved);
        assert_eq!(found, expected, "{now:?}");
        let uplink = decision
            .uplink
            .map(|(key, value)| (key.ifindex, value.port_mac.bytes()));
        assert_eq!(uplink, now.map(|_| (UPLINK, expected.2)), "{now:?}");
    }
}

#[test]
fn homes_turn_round_where_the_operator_says_so() {
    for (how, expected) in [
        ("", false),
        ("hairpin = false", false),
        ("hairpin = true", true),
    ] {
        let decision = decide(&operator(how), &kernel(Vec::new()));
        let turns = decision.value.flags & OperatorValue::HAIRPIN != 0;
        assert_eq!(turns, expected, "{how}");
    }
}

#[test]
fn a_vlan_link_has_its_own_mac_and_mtu() {
    let operator = operator("uplink_vlan = 7\nrouting_table = 100");
    let decision = decide(&operator, &kernel(Vec::new()));
    let own = [2, 0, 0, 0, 0, 7];
    let value = decision.value;
    assert_eq!((value.ifindex, value.vid), (UPLINK, 7));
    assert_eq!((value.port_mac.bytes(), value.mtu), (own, 1496));
    let (key, row) = decision.uplink.expect("a port");
    assert_eq!(
        (key.ifindex, key.vid, row.port_mac.bytes()),
        (UPLINK, 7, own)
    );
}

/// Each row: an event, and what it asks for.
#[test]
fn effects_of_events() {
    let change = |change: fn(&mut Link)| {
        let mut link = link(UPLINK, "uplink0");
        change(&mut link);
        Event::Link(link)
    };
    let neighbour = |text: &str, mac| {
        Event::Neighbour(Neighbour {
            ifindex: UPLINK,
            address: address(text),
            mac,
        })
    };
    let none = Effect::default();
    let decide = Effect {
        decide: true,
        ..none
    };
    let list = Effect {
        list_routes: true,
        ..none
    };
    let all = Effect {
        decide: true,
        list_routes: true,
        put_routes: true,
    };
    #[rustfmt::skip]
    let rows = [
        (change(|_| {}), none),
        (change(|link| link.mtu = 1400), decide),
        (change(|link| link.mac = Some(ROUTER)), decide),
        (change(|link| link.flags = LinkFlags::Up), all),
        (Event::Link(link(8, "new0")), all),
        (Event::LinkGone(UPLINK), all),
        (Event::LinkGone(99), none),
        (neighbour("192.0.2.1", Some(ROUTER)), none),
        (neighbour("192.0.2.1", Some(PORT_MAC)), decide),
        (neighbour("192.0.2.1", None), decide),
        (neighbour("192.0.2.77", None), none),
        (Event::DefaultRoute { table: TABLE }, list),
        (Event::DefaultRoute { table: 254 }, none),
        (Event::Address { ifindex: UPLINK }, Effect { put_routes: true, ..list }),
        (Event::Address { ifindex: 99 }, none),
    ];
    let tables = BTreeSet::from([TABLE]);
    for (event, expected) in rows {
        let effect = kernel(Vec::new()).take(event.clone(), &tables);
        assert_eq!(effect, expected, "{event:?}");
    }
}

#[test]
fn a_link_takes_its_neighbours_with_it() {
    let mut kernel = kernel(Vec::new());
    assert_eq!(kernel.mac_of(UPLINK, address("192.0.2.1")), Some(ROUTER));
    kernel.take(Event::LinkGone(UPLINK), &BTreeSet::new());
    assert_eq!(kernel.mac_of(UPLINK, address("192.0.2.1")), None);
}

/// Each row: a port's role, the link of its name now, its state, and why to start anew.
#[test]
fn ports_that_change() {
    let same = |role| Port {
        name: "port0".to_owned(),
        ifindex: 9,
        mac: PORT_MAC,
        mtu: 1500,
        role,
        shaper: false,
        xdp_mode: "native",
        state: State::Up,
    };
    let now = |change: fn(&mut Link)| {
        let mut link = link(9, "port0");
        change(&mut link);
        Some(link)
    };
    #[rustfmt::skip]
    let rows = [
        (Role::Uplink, now(|_| {}), State::Up, None),
        (Role::Uplink, now(|link| link.flags = LinkFlags::Up), State::Down, None),
        (Role::Uplink, now(|link| link.mac = Some(ROUTER)), State::Up, None),
        (Role::Uplink, now(|link| link.mtu = 9000), State::Up, None),
        (Role::Uplink, now(|link| link.index = 10), State::Up, Some("port port0 is another device now")),
        (Role::Uplink, None, State::Absent, None),
        (Role::Access, now(|_| {}), State::Up, None),
        (Role::Access, now(|link| link.flags = LinkFlags::empty()), State::Down, None),
        (Role::Access, now(|link| link.mac = Some(ROUTER)), State::Up,
            Some("access port port0 has the MAC address 02:00:00:00:00:09 now")),
        (Role::Access, now(|link| link.mtu = 1504), State::Up, Some("access port port0 has the MTU 1504 now")),
        (Role::Access, now(|link| link.index = 10), State::Up, Some("port port0 is another device now")),
        (Role::Access, None, State::Absent, None),
    ];
    for (role, link, state, why) in rows {
        let kernel = Kernel::new(link.clone().into_iter().collect(), Vec::new());
        let started_with = [same(role)];
        let [port] = &ports(&started_with, &kernel)[..] else {
            panic!("one port")
        };
        assert_eq!(port.state, state, "{role:?} {link:?}");
        assert_eq!(port.mtu, link.as_ref().map_or(1500, |link| link.mtu));
        assert_eq!(
            renewal(&started_with, &kernel).as_deref(),
            why,
            "{role:?} {link:?}"
        );
    }
}
