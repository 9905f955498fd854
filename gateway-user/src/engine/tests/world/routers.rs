//! Ordinary routers: what they ask by DHCP, and what they are told.

use std::net::Ipv4Addr;

use doorstep_establish::Mac;
use doorstep_gateway_common::LineKey;
use doorstep_ipoe::dhcp4::{CLIENT_PORT, SERVER_PORT};
use doorstep_ipoe::frame::{BROADCAST, Datagram};

use super::World;
use super::given::{GATEWAY_MAC, connect};
use crate::engine::Event;
use crate::engine::message::{Connect, CpeReplacement, Dhcp};

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
        let frames = std::mem::take(&mut self.frames);
        frames.iter().map(|(_, bytes)| told(bytes)).collect()
    }
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
                    other => panic!("message type {other}"),
                };
            }
            [0, rest @ ..] => options = rest,
            [_, len, rest @ ..] => options = &rest[usize::from(*len)..],
            _ => panic!("no message type"),
        }
    }
}
