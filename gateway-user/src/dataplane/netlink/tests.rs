use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
};
use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

use super::{DefaultRoute, Way, parse};

const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

fn v4() -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new().table_id(1000)
}

fn v6() -> RouteMessageBuilder<Ipv6Addr> {
    RouteMessageBuilder::<Ipv6Addr>::new().table_id(1000)
}

fn way(ifindex: u32, gateway: impl Into<std::net::IpAddr>, usable: bool) -> Way {
    Way {
        ifindex,
        gateway: Some(gateway.into()),
        usable,
    }
}

fn hop(ifindex: u32, gateway: impl Into<std::net::IpAddr>, dead: bool) -> RouteNextHop {
    let builder = RouteNextHopBuilder::new_ipv4().interface(ifindex);
    let mut hop = builder.via(gateway.into()).expect("a gateway").build();
    if dead {
        hop.flags = RouteNextHopFlags::Linkdown;
    }
    hop
}

fn route(v6: bool, metric: u32, ways: Vec<Way>) -> Option<DefaultRoute> {
    Some(DefaultRoute {
        v6,
        table: 1000,
        metric,
        leads_on: true,
        ways,
    })
}

/// Each row: a message, and what it says.
#[test]
fn default_routes() {
    let with = |mut message: RouteMessage, change: fn(&mut RouteMessage)| {
        change(&mut message);
        message
    };
    let plain = || v4().output_interface(5).gateway(V4).build();
    #[rustfmt::skip]
    let rows = [
        ("IPv4", plain(), route(false, 0, vec![way(5, V4, true)])),
        ("a metric", v4().output_interface(5).gateway(V4).priority(7).build(),
            route(false, 7, vec![way(5, V4, true)])),
        ("IPv6", v6().output_interface(5).gateway(V6).build(),
            route(true, 1024, vec![way(5, V6, true)])),
        ("IPv4 by IPv6", v4().output_interface(5).via(V6).build(),
            route(false, 0, vec![way(5, V6, true)])),
        ("no carrier", with(plain(), |m| m.header.flags |= RouteFlags::Linkdown),
            route(false, 0, vec![way(5, V4, false)])),
        ("no gateway", v4().output_interface(5).build(),
            route(false, 0, vec![Way { ifindex: 5, gateway: None, usable: true }])),
        ("multipath", v4().multipath(vec![hop(5, V4, true), hop(6, V6, false)]).build(),
            route(false, 0, vec![way(5, V4, false), way(6, V6, true)])),
        ("a blackhole", v4().kind(RouteType::BlackHole).build(),
            route(false, 0, Vec::new()).map(|route| DefaultRoute { leads_on: false, ..route })),
        ("to a prefix", v4().destination_prefix(V4, 24).build(), None),
        ("for a TOS", v4().tos(4).output_interface(5).build(), None),
        ("from a prefix", v6().source_prefix(V6, 64).output_interface(5).build(), None),
        ("of MPLS", with(plain(), |m| m.header.address_family = AddressFamily::Mpls), None),
        ("a table below 256", with(plain(), |m| {
            m.header.table = 254;
            m.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Table(_)));
        }), route(false, 0, vec![way(5, V4, true)]).map(|route| DefaultRoute { table: 254, ..route })),
    ];
    for (name, message, expected) in rows {
        assert_eq!(parse::default_route(&message), expected, "{name}");
    }
}

/// A port that leaves a bridge is not gone.
#[test]
fn what_a_bridge_says_of_its_ports_is_no_link() {
    let mut message = LinkMessage::default();
    message.header.index = 5;
    let name = LinkAttribute::IfName("port0".to_owned());
    message.attributes.push(name);
    assert!(parse::link(message.clone()).is_some());
    message.header.interface_family = AddressFamily::Bridge;
    assert!(parse::link(message).is_none());
}
