//! What ordinary routers ask over the line: DHCPv4, DHCPv6 and router solicitations.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use doorstep_ipoe::dhcp4;
use doorstep_ipoe::dhcp6::{Binding, Client, Duid, Event, SERVER_PORT, Service};
use doorstep_ipoe::frame::{BROADCAST, Body, Datagram, HOP_LIMIT, Mac, Packet, group_mac};
use doorstep_ipoe::holder::{Holder, Replace};
use doorstep_ipoe::line6::{ALL_DHCP, ALL_NODES, ALL_ROUTERS, Gateway, Line, Session};
use doorstep_ipoe::ra;

use crate::Target;
use crate::mutate::Shape;

pub const DHCP4: Target = Target {
    name: "dhcp4",
    about: "DHCPv4 messages of a line: answered to who asked, about the session's own only",
    check: check_dhcp4,
    seeds: dhcp4_seeds,
    shape: Shape::Bytes,
    words: &["\u{35}\u{1}\u{1}", "\u{35}\u{1}\u{3}", "\u{37}\u{1}\u{79}"],
    inputs: 20_000,
};

pub const DHCP6: Target = Target {
    name: "dhcp6",
    about: "DHCPv6 messages of a line: answered to who asked, about the session's own only",
    check: check_dhcp6,
    seeds: dhcp6_seeds,
    shape: Shape::Bytes,
    words: &["\u{0}\u{3}\u{0}\u{28}", "\u{0}\u{19}\u{0}\u{29}"],
    inputs: 20_000,
};

pub const SOLICITATION: Target = Target {
    name: "router_solicitation",
    about: "frames with router solicitations: answered where RFC 4861 lets a router answer",
    check: check_solicitation,
    seeds: solicitation_seeds,
    shape: Shape::Bytes,
    words: &["\u{1}\u{1}", "\u{1}\u{0}"],
    inputs: 20_000,
};

const CPE: Mac = [2, 0, 0, 0, 0, 1];
const CPE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const NOW: Duration = Duration::from_secs(3600);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 10);
const SERVER_V4: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 1);
/// Before the options of a DHCPv4 message: what is common to all, and the magic cookie.
const FIXED_V4: usize = 240;
/// The smallest MTU of IPv6, and what a frame with two tags adds.
const FRAME_MAX: usize = 1280 + 14 + 8;

static SERVER: LazyLock<Duid> = LazyLock::new(|| Duid::of_mac(line().gateway.mac));

fn line() -> Line {
    Line {
        gateway: Gateway {
            mac: [2, 0, 0, 0, 0, 0xfe],
            address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        },
        session: Some(Session {
            line: "2001:db8:2:101::/64".parse().ok(),
            delegated: "2001:db8:1:100::/56".parse().ok(),
            dns: vec![Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53); 8],
            mtu: 1492,
            lifetime: NOW,
        }),
        holder: Some(Holder {
            mac: CPE,
            acknowledged: NOW,
        }),
        replace: Replace::Never,
    }
}

fn binding() -> Binding {
    let client = Client {
        mac: CPE,
        duid: Duid::of_mac(CPE),
    };
    Binding {
        client,
        address: Some(1),
        prefix: Some(2),
    }
}

fn dhcp4_line(lease: bool, holder: Mac) -> dhcp4::Line {
    dhcp4::Line {
        gateway_mac: line().gateway.mac,
        server: SERVER_V4,
        lease: lease.then(|| dhcp4::Lease {
            address: ADDRESS,
            prefix_len: 32,
            dns: vec![Ipv4Addr::new(192, 0, 2, 53); 8],
            mtu: 1492,
            times: dhcp4::Times::of(NOW),
            forcerenew: Some(dhcp4::Forcerenew::derive(&[7; 32], 1, holder, 1)),
        }),
        holder: Some(Holder {
            mac: holder,
            acknowledged: NOW,
        }),
        replace: Replace::Never,
    }
}

/// Messages of each type with all that clients say, as the payload of a datagram.
fn dhcp4_seeds() -> Vec<Vec<u8>> {
    let client = [&[61, 7, 1][..], &CPE].concat();
    let server = [&[54, 4][..], &SERVER_V4.octets()].concat();
    let wanted = [&[50, 4][..], &ADDRESS.octets()].concat();
    let asked: &[u8] = &[55, 4, 1, 3, 6, 121, 57, 2, 5, 220, 12, 3, b'c', b'p', b'e'];
    let message = |kind: u8, has_address: bool, options: &[&[u8]]| {
        let mut message = vec![0; FIXED_V4];
        message[..8].copy_from_slice(&[1, 1, 6, 0, 7, 8, 9, 10]);
        if has_address {
            message[12..16].copy_from_slice(&ADDRESS.octets());
        }
        message[28..34].copy_from_slice(&CPE);
        message[FIXED_V4 - 4..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, kind]);
        message.extend(options.concat());
        message.push(255);
        message
    };
    vec![
        message(1, false, &[&client, asked, &wanted]),
        message(3, false, &[&client, asked, &wanted, &server]),
        message(3, false, &[&client, asked, &wanted]),
        message(3, true, &[&client, asked]),
        message(4, false, &[&client, &wanted, &server]),
        message(7, true, &[&client, &server]),
        message(8, true, &[&client, asked]),
        message(3, false, &[&wanted, &[145, 1, 1, 82, 3, 1, 1, 7]]),
    ]
}

/// The datagram of the CPE that carries a message.
fn dhcp4_frame(payload: &[u8]) -> Option<Vec<u8>> {
    let datagram = Datagram {
        source_mac: CPE,
        destination_mac: BROADCAST,
        tags: &[0x88, 0xa8, 0, 101, 0x81, 0, 3, 0xec],
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::BROADCAST,
        source_port: dhcp4::CLIENT_PORT,
        destination_port: dhcp4::SERVER_PORT,
        payload,
    };
    datagram.build()
}

fn check_dhcp4(data: &[u8]) {
    let other = [2, 0, 0, 0, 0, 2];
    for (lease, holder) in [(true, CPE), (true, other), (false, CPE)] {
        let line = dhcp4_line(lease, holder);
        // As it is, for what is around a message; and in a datagram, for what is in it.
        let _ = dhcp4::answer(data, &line, NOW);
        let Some(frame) = dhcp4_frame(data) else {
            continue;
        };
        let Ok(answer) = dhcp4::answer(&frame, &line, NOW) else {
            continue;
        };
        if let Some(dhcp4::Event::Bound(mac) | dhcp4::Event::Released(mac)) = answer.event {
            assert!(lease, "of nothing");
            // Behind a relay it may be whom it says.
            assert_eq!(mac, holder, "another router's");
        }
        let Some(reply) = answer.frame else {
            let event = answer.event.expect("neither answered nor taken");
            assert!(!matches!(event, dhcp4::Event::Bound(_)), "not told");
            continue;
        };
        assert!(reply.len() <= 1500 + 14 + 8, "{} bytes", reply.len());
        let sent = Datagram::parse(&reply).expect("a datagram");
        assert!([CPE, BROADCAST].contains(&sent.destination_mac));
        let relayed = data[24..28] != [0; 4];
        let port = if relayed { 67 } else { 68 };
        assert_eq!((sent.source, sent.destination_port), (SERVER_V4, port));
        let (asked, told) = (&data[4..8], &sent.payload[4..8]);
        assert_eq!((sent.payload[0], told), (2, asked), "another transaction");
        let address = &sent.payload[16..20];
        assert!(address == ADDRESS.octets() || address == [0; 4]);
    }
}

/// An option of bytes.
fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("short");
    [&code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

/// Messages of each type with all that clients say, as the payload of a datagram.
fn dhcp6_seeds() -> Vec<Vec<u8>> {
    let address: Ipv6Addr = "2001:db8:2:101::1".parse().expect("an address");
    let prefix: Ipv6Addr = "2001:db8:1:100::".parse().expect("an address");
    let client = option(1, binding().client.duid.as_bytes());
    let server = option(2, SERVER.as_bytes());
    let address = option(5, &[&address.octets()[..], &[0; 8]].concat());
    let prefix = option(26, &[&[0; 8][..], &[56], &prefix.octets()].concat());
    let ia = |code, id: u8, times: usize, held: &[u8]| {
        let head = [&[0, 0, 0, id][..], &vec![0; times]].concat();
        option(code, &[&head[..], held].concat())
    };
    let na = ia(3, 1, 8, &address);
    let ta = ia(4, 3, 0, &[]);
    let pd = ia(25, 2, 8, &prefix);
    let message = |kind: u8, parts: &[&[u8]]| [&[kind, 7, 8, 9], &parts.concat()[..]].concat();
    let rapid = option(14, &[]);
    let wanted = option(6, &[0, 23, 0, 24]);
    let elapsed = option(8, &[0, 0]);
    let mut seeds = vec![
        message(1, &[&client, &rapid, &wanted, &elapsed, &na, &pd]),
        message(4, &[&client, &elapsed, &na]),
        message(6, &[&client, &elapsed, &na, &pd]),
        message(11, &[&client, &wanted, &elapsed]),
    ];
    for kind in [3, 5, 8, 9] {
        seeds.push(message(kind, &[&client, &server, &elapsed, &na, &ta, &pd]));
    }
    seeds
}

/// The datagram of the CPE that carries a message.
fn dhcp6_frame(payload: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet {
        source_mac: CPE,
        destination_mac: group_mac(ALL_DHCP),
        tags: &[0x88, 0xa8, 0, 101, 0x81, 0, 3, 0xec],
        source: CPE_ADDRESS,
        destination: ALL_DHCP,
        hop_limit: 1,
        body: Body::Udp {
            source_port: 546,
            destination_port: SERVER_PORT,
            payload,
        },
    };
    packet.build()
}

fn check_dhcp6(data: &[u8]) {
    let binding = binding();
    let ended = Line {
        session: None,
        ..line()
    };
    for line in [line(), ended] {
        for binding in [None, Some(&binding)] {
            let service = Service {
                line: &line,
                server: &SERVER,
                binding,
            };
            // As it is, for what is around a message; and in a datagram, for what is in it.
            let _ = service.answer(data, NOW);
            let Some(frame) = dhcp6_frame(data) else {
                continue;
            };
            let Ok(answer) = service.answer(&frame, NOW) else {
                continue;
            };
            let reply = answer.frame.expect("an answer to each message");
            assert!(reply.len() <= FRAME_MAX, "{} bytes", reply.len());
            let packet = Packet::parse(&reply).expect("a packet");
            assert_eq!(
                (packet.destination_mac, packet.destination),
                (CPE, CPE_ADDRESS)
            );
            let Body::Udp { payload, .. } = packet.body else {
                panic!("not UDP: {packet:?}");
            };
            assert!([2, 7].contains(&payload[0]), "type {}", payload[0]);
            assert_eq!(payload[1..4], data[1..4], "another transaction");
            match answer.event {
                Some(Event::Bound(bound)) => {
                    assert!(line.session.is_some(), "bound to nothing");
                    assert_eq!(bound.client.mac, CPE);
                }
                Some(Event::Released(given) | Event::Declined(given)) => {
                    assert_eq!(Some(&given.client), binding.map(|binding| &binding.client));
                    assert!(given.address.is_some() || given.prefix.is_some());
                }
                Some(Event::Refused(mac)) => assert_eq!(mac, CPE),
                None => {}
            }
        }
    }
}

fn solicitation_seeds() -> Vec<Vec<u8>> {
    let link_layer: &[u8] = &[1, 1, 2, 0, 0, 0, 0, 1];
    let unspecified = Ipv6Addr::UNSPECIFIED;
    [
        (CPE_ADDRESS, link_layer),
        (CPE_ADDRESS, &[]),
        (unspecified, &[]),
    ]
    .into_iter()
    .filter_map(|(source, payload)| solicitation(source, payload))
    .collect()
}

fn solicitation(source: Ipv6Addr, payload: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet {
        source_mac: CPE,
        destination_mac: group_mac(ALL_ROUTERS),
        tags: &[],
        source,
        destination: ALL_ROUTERS,
        hop_limit: HOP_LIMIT,
        body: Body::Icmp {
            header: etherparse::Icmpv6Type::RouterSolicitation,
            payload,
            intact: true,
        },
    };
    packet.build()
}

fn check_solicitation(data: &[u8]) {
    // As it is; and its end as the options of a solicitation, so that changes get past the checksum.
    let options = data.get(14 + 40 + 8..).unwrap_or_default();
    let whole = solicitation(CPE_ADDRESS, options);
    for frame in [Some(data.to_vec()), whole].into_iter().flatten() {
        let Ok(answer) = ra::answer(&frame, &line(), NOW) else {
            continue;
        };
        let asked = Packet::parse(&frame).expect("a packet");
        assert_eq!(answer.mac, asked.source_mac);
        assert_eq!(asked.hop_limit, HOP_LIMIT);
        let Some(advertisement) = answer.frame else {
            assert!(asked.source.is_unspecified());
            continue;
        };
        assert!(advertisement.len() <= FRAME_MAX);
        let packet = Packet::parse(&advertisement).expect("a packet");
        assert_eq!(packet.destination, asked.source);
        assert_ne!(packet.destination, ALL_NODES);
        assert_eq!(packet.hop_limit, HOP_LIMIT);
        let Body::Icmp { intact: true, .. } = packet.body else {
            panic!("not intact: {packet:?}");
        };
    }
}
