//! The street: its configuration, lines and sessions, as values.

use std::net::Ipv4Addr;

use doorstep_establish::{Mac, SessionKey};
use doorstep_gateway_common::OperatorIndex;
use ipnet::Ipv6Net;
use uuid::Uuid;

use crate::engine::message::Connect;
use crate::engine::row::SessionRef;
use crate::session::Service;

pub const NORTH: OperatorIndex = 1;
pub const SOUTH: OperatorIndex = 2;
/// Has room for full packets with two tags, and no more.
pub const PORT_MTU: u32 = 1504;
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

pub const CONFIG: &str = r#"
id = "gw1"
max_sessions = 8
line_prefixes = true
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
next_hops = ["192.0.2.1"]
subscriber_prefixes = ["100.64.1.0/24", "2001:db8:1000::/40"]
gateway_addresses = ["100.64.1.1", "2001:db8:1000::1"]
[operator.server]
url = "https://198.51.100.1:7443"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
[[operator]]
name = "south-net"
uplink = "uplink1"
subscriber_prefixes = ["100.64.2.0/24", "2001:db8:2000::/40"]
[operator.server]
url = "https://198.51.100.2:7443"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
"#;

pub const INVENTORY: &str = "location,port,s_vlan,c_vlan\n\
    110103-xinjing-001-002-000,access0,,\n\
    110103-xinjing-001-002-001,access0,,1001\n\
    110103-xinjing-001-002-002,access0,101,1002\n\
    110103-xinjing-001-002-003,access0,101,1003\n";

pub fn location(number: u8) -> String {
    format!("110103-xinjing-001-002-{number:03}")
}

pub fn ports(name: &str) -> Option<u32> {
    (name == "access0").then_some(7)
}

pub fn id(number: u8) -> Uuid {
    Uuid::from_u128(0x0190_f3e8_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

pub fn session(operator: OperatorIndex, number: u8) -> SessionRef {
    SessionRef {
        operator,
        session: id(number),
    }
}

/// Each session has an address of its own, whatever its generation.
pub fn address(operator: OperatorIndex, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, operator as u8, 10 + number)
}

pub fn line_prefix(operator: OperatorIndex, number: u8) -> Ipv6Net {
    let (pool, number) = (operator * 0x1000, u16::from(number) + 1);
    format!("2001:db8:{pool:x}:ff{number:02x}::/64")
        .parse()
        .expect("a prefix")
}

pub fn prefix(operator: OperatorIndex, number: u8) -> Ipv6Net {
    let text = format!("2001:db8:{operator}000:{:x}00::/56", number + 1);
    text.parse().expect("a prefix")
}

/// The key of a session's generation, as the server would hand it to both ends.
pub fn key(operator: OperatorIndex, number: u8, generation: u64) -> SessionKey {
    let mut bytes = [number; 32];
    bytes[0] = operator as u8;
    bytes[1..9].copy_from_slice(&generation.to_be_bytes());
    SessionKey::from_slice(&bytes).expect("32 bytes")
}

pub fn connect(operator: OperatorIndex, number: u8, generation: u64, place: u8) -> Connect {
    Connect {
        session: id(number),
        generation,
        location: location(place).parse().expect("a location"),
        key: key(operator, number, generation),
        ipv4: Some(address(operator, number)),
        ipv6: Some(prefix(operator, number)),
        // Some homes have one.
        ipv6_line: (number % 2 == 1).then(|| line_prefix(operator, number)),
        ipv4_gateway: None,
        dns: vec![[192, 0, 2, 53].into()],
        mtu: 1500,
        service: Service::default(),
        service_revision: 0,
        dhcp: None,
    }
}

/// What the servers mean by a revision; none of two is the same.
pub fn service(revision: u64) -> Service {
    match revision {
        0 => Service::default(),
        _ => Service {
            upstream_bps: 1_000_000 * revision,
            downstream_bps: 3_000_000 * revision,
            shape_downstream: revision.is_multiple_of(2),
            priority: (revision % 8) as u8,
            time_to_live_s: 0,
        },
    }
}

/// A Connect whose service is that of a revision.
pub fn served(connect: Connect, revision: u64) -> Connect {
    Connect {
        service: service(revision),
        service_revision: revision,
        ..connect
    }
}
