//! What IPv6 clients on a line are told by DHCP and by router advertisements alike.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::frame::Mac;
use crate::holder::{Holder, Replace};

/// ff02::1, all nodes of a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// ff02::2, all routers of a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// ff02::1:2, all DHCP relay agents and servers of a link (RFC 8415, 7.1).
pub const ALL_DHCP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Resolvers that are told at most, by either way: an answer has to fit into the smallest MTU.
pub(crate) const MAX_DNS: usize = 8;

/// A line, its session, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The gateway toward the line.
    pub gateway: Gateway,
    /// None if there is no session with IPv6, or it has ended.
    pub session: Option<Session>,
    /// Who uses the session now, by whichever protocol.
    pub holder: Option<Holder>,
    /// When another may.
    pub replace: Replace,
}

/// The gateway toward a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// Its MAC address.
    pub mac: Mac,
    /// Its link-local address, the clients' router.
    pub address: Ipv6Addr,
}

/// What the server decided for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The line's own /64. Clients make addresses of it themselves (SLAAC), and get one by DHCP.
    pub line: Option<Ipv6Net>,
    /// The prefix that is delegated to the home.
    pub delegated: Option<Ipv6Net>,
    /// Resolvers.
    pub dns: Vec<Ipv6Addr>,
    /// Bytes of IP on the line.
    pub mtu: u16,
    /// How long addresses and prefixes hold unless they are renewed; told in whole seconds.
    pub lifetime: Duration,
}

impl Session {
    /// The address that is given by DHCP: the line prefix's first after the one that stands for its
    /// routers (RFC 4291, 2.6.1), which is also what a terminal takes.
    #[must_use]
    pub fn address(&self) -> Option<Ipv6Addr> {
        let line = self.line?;
        Some(Ipv6Addr::from_bits(line.network().to_bits() | 1))
    }

    /// Whether an address belongs on the line.
    #[must_use]
    pub fn on_link(&self, address: Ipv6Addr) -> bool {
        self.line.is_some_and(|line| line.contains(&address))
    }
}

/// A time in DHCP and in advertisements. What does not fit is for ever (RFC 8415, 7.7; RFC 4861,
/// 4.6.2).
pub(crate) fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
