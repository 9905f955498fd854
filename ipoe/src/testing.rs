//! The line of the tests, and who is on it.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::frame::Mac;
use crate::holder::Replace;
use crate::line6::{Gateway, Session};

pub const GATEWAY: Gateway = Gateway {
    mac: [2, 0, 0, 0, 0, 0xfe],
    address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
};
pub const CPE: Mac = [2, 0, 0, 0, 0, 1];
pub const OTHER_CPE: Mac = [2, 0, 0, 0, 0, 2];
pub const CPE_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
pub const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
pub const HOUR: Duration = Duration::from_secs(3600);
/// S-VLAN 101 with priority 5, C-VLAN 1004.
pub const TAGS: &[u8] = &[0x88, 0xa8, 0xa0, 101, 0x81, 0x00, 0x03, 0xec];
pub const TAGS_PLAIN: &[u8] = &[0x88, 0xa8, 0x00, 101, 0x81, 0x00, 0x03, 0xec];

/// What the server decided for the line.
pub fn session() -> Session {
    Session {
        line: "2001:db8:2:101::/64".parse().ok(),
        delegated: "2001:db8:1:100::/56".parse().ok(),
        dns: vec![RESOLVER],
        mtu: 1492,
        lifetime: HOUR,
    }
}

/// Who holds the line and by which policy, and whether [`CPE`] gets it an hour later.
pub fn policies() -> [(Mac, Replace, bool); 5] {
    [
        (OTHER_CPE, Replace::AtOnce, true),
        (
            OTHER_CPE,
            Replace::AfterHold(Duration::from_secs(60)),
            false,
        ),
        (OTHER_CPE, Replace::AfterHold(Duration::ZERO), true),
        (OTHER_CPE, Replace::Never, false),
        (CPE, Replace::Never, true),
    ]
}
