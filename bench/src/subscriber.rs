//! Subscriber number `i` and the session of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use doorstep_establish::{Mac, TPID_8021AD, TPID_8021Q, Tag, Tags};
use doorstep_gateway::session::{Line, Service, SessionEntry};
use doorstep_gateway_common::{LineKey, OperatorIndex};
use ipnet::Ipv6Net;
use uuid::Uuid;

use crate::shared;

/// The one operator.
pub const OPERATOR: OperatorIndex = 1;
/// Length of the subscribers' prefixes, in bits.
pub const DELEGATED_LEN: u8 = 56;
/// Largest IP packet on a line, in bytes.
pub const LINE_MTU: u16 = 1500;
/// Most subscribers that the addresses and VLANs are enough for.
pub const MAX: u32 = 1 << 22;

/// The session of subscriber `i` on a line of the port with that ifindex; two tags.
pub fn entry(i: u32, ifindex: u32, service: Service) -> Result<SessionEntry> {
    let (s_vid, c_vid) = shared::vlans(i);
    let tags = vec![
        Tag {
            tpid: TPID_8021AD,
            vid: s_vid,
        },
        Tag {
            tpid: TPID_8021Q,
            vid: c_vid,
        },
    ];
    Ok(SessionEntry {
        session: Uuid::from_u128(u128::from(i) + 1),
        generation: 1,
        slot: i,
        operator: OPERATOR,
        line: Line {
            key: LineKey {
                ifindex,
                s_vid,
                c_vid,
            },
            port: crate::lab::ACCESS.to_owned(),
            tags: Tags::try_from(tags)?,
        },
        mac: mac(i),
        ipv4: Some(ipv4(i)),
        ipv6: Some(Ipv6Net::new(ipv6(i), DELEGATED_LEN)?),
        ipv6_line: None,
        mtu: LINE_MTU,
        service,
        shaper: true,
        flags: 0,
    })
}

pub fn ipv4(i: u32) -> Ipv4Addr {
    shared::address(i).into()
}

/// Prefix number `i` below 2001:db8::/32.
pub fn ipv6(i: u32) -> Ipv6Addr {
    Ipv6Addr::from((0x2001_0db8_u128 << 96) | (u128::from(i) << (128 - DELEGATED_LEN)))
}

pub fn mac(i: u32) -> Mac {
    let [_, _, mac @ ..] = shared::mac(i).to_be_bytes();
    Mac(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_each_other_without_gaps() {
        for i in [0, 1, 3_999, 4_000, 999_999, MAX - 1] {
            let (s, c) = shared::vlans(i);
            assert_eq!(u32::from(s), 100 + i / 4000, "{i}");
            assert_eq!(u32::from(c), 2 + i % 4000, "{i}");
        }
    }

    #[test]
    fn subscribers_differ() {
        let [a, b] = [255, 256].map(|i| entry(i, 3, Service::default()).expect("an entry"));
        assert_eq!(a.ipv4, Some(Ipv4Addr::new(100, 64, 0, 255)));
        assert_eq!(b.ipv4, Some(Ipv4Addr::new(100, 64, 1, 0)));
        assert_eq!(
            a.ipv6.map(|net| net.to_string()).as_deref(),
            Some("2001:db8:0:ff00::/56")
        );
        assert_eq!(b.mac, Mac([2, 0, 0, 0, 1, 0]));
    }
}
