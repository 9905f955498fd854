//! Where everything is: tags, location ids, addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The internet.
pub const WORLD_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub const WORLD_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);

pub(super) fn world(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(WORLD_V6)
    } else {
        IpAddr::V4(WORLD_V4)
    }
}

/// The tags of the line of a home in a building, (TPID, VLAN id), outer first.
pub fn line_tags(tags: usize, building: usize, home: usize) -> Vec<(u16, u16)> {
    let s = (0x88a8, 101 + building as u16);
    let c = (0x8100, 1004 + 100 * building as u16 + home as u16);
    match tags {
        0 => Vec::new(),
        1 => vec![c],
        _ => vec![s, c],
    }
}

/// The location id of a home in a building.
pub fn location(building: usize, home: usize) -> String {
    format!("{}-002-{:03}", building_prefix(building), home + 4)
}

/// The locations that a gateway serves.
pub(super) fn building_prefix(building: usize) -> String {
    format!("110103-xinjingjiayuan-{:03}", building + 1)
}

/// What an operator gives out at a gateway.
pub(super) struct Pool {
    pub v4: String,
    /// What the server gives sessions: its lower half, so that the rest is nobody's.
    pub v4_given: String,
    /// The gateway's own address toward the lines.
    pub gateway: String,
    pub v6: String,
    /// For the lines' own prefixes.
    pub lines: String,
}

pub(super) fn pool(operator: usize, gateway: usize) -> Pool {
    let (o, n) = (operator, gateway + 1);
    Pool {
        v4: format!("100.{}.{n}.0/24", 64 + o),
        v4_given: format!("100.{}.{n}.0/25", 64 + o),
        gateway: format!("100.{}.{n}.1", 64 + o),
        v6: format!("2001:db8:{}{n}00::/40", 1 + o),
        lines: format!("2001:db8:e{o}{n}0::/48"),
    }
}

/// The cable between a gateway and an operator's router.
pub(super) struct Uplink {
    /// Its name at the gateway and at the router.
    pub near_port: String,
    pub far_port: String,
    /// Of a /30.
    pub near_v4: String,
    pub far_v4: String,
    /// Of a /64.
    pub near_v6: String,
    pub far_v6: String,
}

pub(super) fn uplink(operator: usize, gateway: usize) -> Uplink {
    let (o, n) = (operator, gateway + 1);
    let base = 64 * o + 4 * n;
    let net = format!("2001:db8:f{:x}{n}", 15 - o);
    Uplink {
        near_port: format!("uplink{o}"),
        far_port: if o == 0 {
            format!("gw{n}")
        } else {
            format!("gw{n}-{o}")
        },
        near_v4: format!("192.0.2.{}", base + 2),
        far_v4: format!("192.0.2.{}", base + 1),
        near_v6: format!("{net}::2"),
        far_v6: format!("{net}::1"),
    }
}

/// An operator's server, in the management network.
pub(super) fn server(operator: usize) -> String {
    format!("198.18.0.{}", 1 + operator)
}
