//! Ordinary routers: what they ask by DHCP, and what they are told.

use std::net::Ipv4Addr;

use doorstep_establish::Mac;
use doorstep_gateway_common::LineKey;
use doorstep_ipoe::dhcp4::{CLIENT_PORT, SERVER_PORT};
use doorstep_ipoe::dhcp6::Duid;
use doorstep_ipoe::frame::{BROADCAST, Body, Datagram, Packet, group_mac};
use doorstep_ipoe::line6::{ALL_DHCP, ALL_NODES, ALL_ROUTERS};
use etherparse::Icmpv6Type;
use ipnet::Ipv6Net;

use super::World;
use super::given::{GATEWAY_MAC, connect};
use crate::engine::message::{Connect, CpeReplacement, Dhcp};
use crate::engine::{Engine, Event};

pub const ROUTER: Mac = Mac([2, 7, 0, 0, 0, 1]);
pub const OTHER_ROUTER: Mac = Mac([2, 7, 0, 0, 0, 2]);
pub const LEASE_S: u32 = 600;
const XID: [u8; 4] = [7, 8, 9, 10];
/// Before the options of a message: what is common to all, and the magic cookie.
const FIXED: usize = 240;

/// What a router asks (RFC 2131, 3 and 4.3).
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Discover,
    /// After an offer.
    Select {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// After a start, with what it had before.
    Reboot(Ipv4Addr),
    /// From its address, to the server.
    Renew(Ipv4Addr),
    Release {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Offer(Ipv4Addr),
    Ack(Ipv4Addr),
    Nak,
    /// To renew at once.
    Forcerenew,
}

/// A Connect of a session that comes up by DHCP.
pub fn by_dhcp(operator: u16, number: u8, generation: u64, place: u8) -> Connect {
    Connect {
        dhcp: Some(Dhcp {
            lease_s: LEASE_S,
            replacement: CpeReplacement::AtOnce,
        }),
        ..connect(operator, number, generation, place)
    }
}

/// As [`by_dhcp`], where another router may have it by this rule.
pub fn replaced(connect: Connect, replacement: CpeReplacement) -> Connect {
    Connect {
        dhcp: Some(Dhcp {
            lease_s: LEASE_S,
            replacement,
        }),
        ..connect
    }
}

/// The line of a place, by its tags.
pub fn line(place: u8) -> LineKey {
    let (s_vid, c_vid) = match place {
        0 => (0, 0),
        1 => (0, 1001),
        _ => (101, 1000 + u16::from(place)),
    };
    LineKey {
        ifindex: 7,
        s_vid,
        c_vid,
    }
}

/// A message as it comes from a line with two tags.
pub fn frame(router: Mac, ask: Ask) -> Vec<u8> {
    frame_with(router, ask, &[])
}

/// As [`frame`], with more options.
pub fn frame_with(router: Mac, ask: Ask, more: &[u8]) -> Vec<u8> {
    let unspecified = Ipv4Addr::UNSPECIFIED;
    let (kind, own, wanted, server) = match ask {
        Ask::Discover => (1, unspecified, None, None),
        Ask::Select { address, server } => (3, unspecified, Some(address), Some(server)),
        Ask::Reboot(address) => (3, unspecified, Some(address), None),
        Ask::Renew(address) => (3, address, None, None),
        Ask::Release { address, server } => (7, address, None, Some(server)),
    };
    let mut message = vec![0; FIXED];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&XID);
    message[12..16].copy_from_slice(&own.octets());
    message[28..34].copy_from_slice(&router.0);
    message[FIXED - 4..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    for (code, address) in [(50, wanted), (54, server)] {
        if let Some(address) = address {
            message.extend([code, 4]);
            message.extend(address.octets());
        }
    }
    message.extend_from_slice(more);
    message.push(255);
    let to_all = own.is_unspecified();
    let datagram = Datagram {
        source_mac: router.0,
        destination_mac: if to_all { BROADCAST } else { GATEWAY_MAC.0 },
        tags: &[0x88, 0xa8, 0, 101, 0x81, 0, 3, 0xea],
        source: own,
        destination: if to_all {
            Ipv4Addr::BROADCAST
        } else {
            server.unwrap_or(Ipv4Addr::new(100, 64, 1, 1))
        },
        source_port: CLIENT_PORT,
        destination_port: SERVER_PORT,
        payload: &message,
    };
    datagram.build().expect("short")
}

impl World {
    /// A router asks on the line of a place.
    pub fn ask(&mut self, place: u8, router: Mac, ask: Ask) {
        self.feed(Event::Frame {
            line: line(place),
            frame: frame(router, ask),
        });
    }

    /// As [`World::ask`]; what is told at once.
    pub fn asked(&mut self, place: u8, router: Mac, ask: Ask) -> Vec<Told> {
        self.frames.clear();
        self.ask(place, router, ask);
        self.told()
    }

    /// What routers have been told since the last look.
    pub fn told(&mut self) -> Vec<Told> {
        let (v4, v6) = std::mem::take(&mut self.frames)
            .into_iter()
            .partition(|(_, bytes)| Datagram::parse(bytes).is_ok());
        self.frames = v6;
        v4.iter().map(|(_, bytes)| told(bytes)).collect()
    }

    /// A router asks over IPv6 on the line of a place.
    pub fn ask6(&mut self, place: u8, router: Mac, ask: &Ask6) {
        self.feed(Event::Frame {
            line: line(place),
            frame: frame6(router, ask),
        });
    }

    /// What the line has been told over IPv6 since the last look.
    pub fn told6(&mut self) -> Vec<Told6> {
        let (v4, v6) = std::mem::take(&mut self.frames)
            .into_iter()
            .partition(|(_, bytes)| Datagram::parse(bytes).is_ok());
        self.frames = v4;
        v6.iter().map(|(_, bytes)| told6(bytes)).collect()
    }
}

/// What a router asks over IPv6.
#[derive(Clone, Copy, Debug)]
pub enum Ask6 {
    /// For routers (RFC 4861, 4.1).
    Solicit,
    /// For a delegated prefix, by DHCPv6: the message type, and the prefix that it lists.
    Prefix(u8, Option<Ipv6Net>),
}

/// What the line is told over IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told6 {
    /// A router advertisement: to all, and its router lifetime in seconds.
    Router { to_all: bool, lifetime_s: u16 },
    /// A message of DHCPv6: its type, and the prefix that it delegates for some time.
    Prefix(u8, Option<Ipv6Net>),
}

const IAID: [u8; 4] = [0, 0, 0, 1];
const IA_PD: u16 = 25;
const IA_PREFIX: u16 = 26;

fn option6(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).expect("short");
    [&code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

/// As it comes from a line with two tags.
fn frame6(router: Mac, ask: &Ask6) -> Vec<u8> {
    let mut message = Vec::new();
    let (destination, body) = match ask {
        Ask6::Solicit => (
            ALL_ROUTERS,
            Body::Icmp {
                header: Icmpv6Type::RouterSolicitation,
                payload: &[],
                intact: true,
            },
        ),
        Ask6::Prefix(kind, listed) => {
            let listed = listed.map_or(Vec::new(), |net| {
                let prefix = [&[0; 8][..], &[net.prefix_len()], &net.network().octets()];
                option6(IA_PREFIX, &prefix.concat())
            });
            message.extend([*kind, 7, 8, 9]);
            message.extend(option6(1, Duid::of_mac(router.0).as_bytes()));
            // A Solicit and a Rebind are for every server.
            if !matches!(kind, 1 | 6) {
                message.extend(option6(2, Duid::of_mac(GATEWAY_MAC.0).as_bytes()));
            }
            message.extend(option6(8, &[0, 0]));
            message.extend(option6(IA_PD, &[&IAID[..], &[0; 8], &listed].concat()));
            let body = Body::Udp {
                source_port: 546,
                destination_port: 547,
                payload: &message,
            };
            (ALL_DHCP, body)
        }
    };
    let packet = Packet {
        source_mac: router.0,
        destination_mac: group_mac(destination),
        tags: &[0x88, 0xa8, 0, 101, 0x81, 0, 3, 0xea],
        source: router.link_local(),
        destination,
        hop_limit: 255,
        body,
    };
    packet.build().expect("short")
}

fn told6(bytes: &[u8]) -> Told6 {
    let packet = Packet::parse(bytes).expect("a packet");
    assert_eq!(packet.source_mac, GATEWAY_MAC.0);
    assert_eq!(packet.tags, [0x88, 0xa8, 0, 101, 0x81, 0, 3, 0xea]);
    match packet.body {
        Body::Icmp {
            header: Icmpv6Type::RouterAdvertisement(header),
            ..
        } => Told6::Router {
            to_all: packet.destination == ALL_NODES,
            lifetime_s: header.router_lifetime,
        },
        Body::Udp { payload, .. } => {
            let wanted = IA_PREFIX.to_be_bytes();
            let found = payload
                .windows(4)
                .position(|at| at[..2] == wanted && at[3] == 25);
            let prefix = found.and_then(|at| {
                let data = &payload[at + 4..at + 29];
                let holds = data[4..8] != [0; 4];
                let address = <[u8; 16]>::try_from(&data[9..]).expect("16 bytes");
                holds.then(|| Ipv6Net::new(address.into(), data[8]).expect("a prefix"))
            });
            Told6::Prefix(payload[0], prefix)
        }
        other => panic!("neither DHCPv6 nor an advertisement: {other:?}"),
    }
}

/// Whether a frame is DHCP or an advertisement, and not of the exchange.
pub fn is_for_routers(bytes: &[u8]) -> bool {
    let over_ipv6 = |packet: Packet<'_>| Engine::asks_over_ipv6(&packet) || is_from_dhcp6(&packet);
    Datagram::parse(bytes).is_ok() || Packet::parse(bytes).is_ok_and(over_ipv6)
}

fn is_from_dhcp6(packet: &Packet<'_>) -> bool {
    matches!(
        packet.body,
        Body::Udp {
            source_port: 547,
            ..
        }
    )
}

/// The address and the router of an acknowledgement.
pub fn acknowledged(bytes: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let Ok(datagram) = Datagram::parse(bytes) else {
        return None;
    };
    let Told::Ack(address) = told(bytes) else {
        return None;
    };
    let router = <[u8; 6]>::try_from(&datagram.payload[28..34]).expect("six bytes");
    Some((address, Mac(router)))
}

fn told(bytes: &[u8]) -> Told {
    let datagram = Datagram::parse(bytes).expect("a datagram");
    assert_eq!(datagram.source_mac, GATEWAY_MAC.0);
    assert_eq!(
        (datagram.source_port, datagram.destination_port),
        (SERVER_PORT, CLIENT_PORT)
    );
    let message = datagram.payload;
    assert_eq!((message[0], &message[4..8]), (2, &XID[..]));
    let [.., a, b, c, d] = message[..20] else {
        panic!("short")
    };
    let address = Ipv4Addr::new(a, b, c, d);
    let mut options = &message[FIXED..];
    loop {
        match options {
            [53, 1, kind, ..] => {
                return match kind {
                    2 => Told::Offer(address),
                    5 => Told::Ack(address),
                    6 => Told::Nak,
                    9 => Told::Forcerenew,
                    other => panic!("message type {other}"),
                };
            }
            [0, rest @ ..] => options = rest,
            [_, len, rest @ ..] => options = &rest[usize::from(*len)..],
            _ => panic!("no message type"),
        }
    }
}
