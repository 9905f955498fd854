//! What clients of DHCP say reaches the daemon, whatever address they have; nothing else does by it.

use anyhow::{Context as _, ensure};
use doorstep_establish::TPID_8021Q;
use doorstep_gateway_common::Reason;
use doorstep_gateway_common::punt::PuntHeader;
use doorstep_tests::frames::{
    Ether, GATEWAY_V4, WORLD_V4, between, dhcp_v4, router_solicitation, udp_v6_to,
};
use doorstep_tests::programs::{Loaded, Side, XDP_DROP, model};
use doorstep_tests::suite::CaseResult;

use crate::fixture::{self, BLOCKED_TAGS, Home};

const BROADCAST: [u8; 6] = [0xff; 6];
const ELSEWHERE_V4: [u8; 4] = [100, 99, 0, 7];

/// From the home to all.
fn to_all(home: &Home) -> Ether<'static> {
    Ether {
        destination: BROADCAST,
        ..home.up()
    }
}

fn rows(home: &Home) -> Vec<(&'static str, Vec<u8>, Reason)> {
    let stranger = Ether {
        source: [2, 9, 9, 9, 9, 9],
        ..home.up()
    };
    let relay = between(
        to_all(home),
        false,
        ([0; 4], 67).into(),
        ([255; 4], 67).into(),
    );
    let other_port = between(
        to_all(home),
        false,
        ([0; 4], 68).into(),
        ([255; 4], 69).into(),
    );
    let first = 14 + 4 * home.tags.len();
    let mut fragment = dhcp_v4(to_all(home), [0; 4], [255; 4]);
    fragment[first + 6] |= 0x20;
    let mut cut = dhcp_v4(to_all(home), [0; 4], [255; 4]);
    cut.truncate(first + 20 + 6);
    cut[first + 2..first + 4].copy_from_slice(&26u16.to_be_bytes());
    let punted = Reason::PuntDhcp;
    vec![
        (
            "without an address",
            dhcp_v4(to_all(home), [0; 4], [255; 4]),
            punted,
        ),
        ("renewing", dhcp_v4(home.up(), home.v4, GATEWAY_V4), punted),
        (
            "rebinding",
            dhcp_v4(to_all(home), home.v4, [255; 4]),
            punted,
        ),
        (
            "renewing elsewhere",
            dhcp_v4(home.up(), ELSEWHERE_V4, GATEWAY_V4),
            punted,
        ),
        (
            "another device",
            dhcp_v4(stranger, home.v4, GATEWAY_V4),
            punted,
        ),
        (
            "to all, at the gateway's address",
            dhcp_v4(home.up(), home.v4, [255; 4]),
            punted,
        ),
        (
            "through the session",
            dhcp_v4(home.up(), home.v4, WORLD_V4),
            Reason::ForwardedUpstream,
        ),
        ("a relay", relay, punted),
        ("another port", other_port, Reason::Multicast),
        ("a fragment", fragment, Reason::Multicast),
        ("cut off in its ports", cut, Reason::Multicast),
    ]
}

pub fn punts_clients() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        for (what, bytes, reason) in rows(&home) {
            let name = || format!("{}: {what}", home.name);
            let before = loaded.count(reason)?;
            let fate = loaded.run(Side::Access, &bytes)?;
            let (_, _, expected) = model(&fixture::model(), Side::Access, &bytes);
            ensure!(expected == reason, "{}: {}", name(), expected.name());
            ensure!(
                loaded.count(reason)? == before + 1,
                "{}: not counted",
                name()
            );
            let record = loaded.next_punt();
            if reason != Reason::PuntDhcp {
                ensure!(record.is_none(), "{}: punted", name());
                continue;
            }
            ensure!(fate.action == XDP_DROP, "{}: {}", name(), fate.action);
            let record = record.with_context(name)?;
            let (header, frame) = record.split_at(size_of::<PuntHeader>());
            ensure!(header[4..6] == home.line().s_vid.to_ne_bytes());
            ensure!(header[6..8] == home.line().c_vid.to_ne_bytes());
            ensure!(frame[..bytes.len()] == bytes, "{}: another frame", name());
        }
    }
    Ok(())
}

/// What routers ask over IPv6: for a router, and by DHCPv6.
pub fn punts_over_ipv6() -> CaseResult {
    const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];
    const ALL_DHCP: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    let mut loaded = Loaded::new(&fixture::model())?;
    for home in fixture::homes() {
        let to = |group| Ether {
            destination: [0x33, 0x33, 0, 0, 0, group],
            ..home.up()
        };
        let to_dhcp = Ether {
            destination: [0x33, 0x33, 0, 1, 0, 2],
            ..home.up()
        };
        for (what, bytes, reason) in [
            (
                "by its address",
                router_solicitation(to(2), LINK_LOCAL),
                Reason::PuntSolicitation,
            ),
            (
                "without one",
                router_solicitation(to(2), [0; 16]),
                Reason::PuntSolicitation,
            ),
            (
                "DHCPv6",
                udp_v6_to(to_dhcp, LINK_LOCAL, ALL_DHCP, 1, 547),
                Reason::PuntDhcp,
            ),
            (
                "another port",
                udp_v6_to(to_dhcp, LINK_LOCAL, ALL_DHCP, 1, 546),
                Reason::Multicast,
            ),
        ] {
            let name = || format!("{}: {what}", home.name);
            let before = loaded.count(reason)?;
            loaded.run(Side::Access, &bytes)?;
            let (_, _, expected) = model(&fixture::model(), Side::Access, &bytes);
            ensure!(expected == reason, "{}: {}", name(), expected.name());
            ensure!(
                loaded.count(reason)? == before + 1,
                "{}: not counted",
                name()
            );
            let punted = loaded.next_punt().is_some();
            ensure!(punted != reason.is_drop(), "{}: punted: {punted}", name());
        }
    }
    Ok(())
}

pub fn not_from_lines_that_have_none() -> CaseResult {
    let mut loaded = Loaded::new(&fixture::model())?;
    let unknown: &[(u16, u16)] = &[(TPID_8021Q, 999)];
    for (tags, reason) in [
        (unknown, Reason::UnknownLine),
        (BLOCKED_TAGS, Reason::BlockedLine),
    ] {
        let home = Ether {
            tags,
            ..to_all(&fixture::homes()[0])
        };
        let before = loaded.count(reason)?;
        loaded.run(Side::Access, &dhcp_v4(home, [0; 4], [255; 4]))?;
        ensure!(loaded.count(reason)? == before + 1, "{}", reason.name());
        ensure!(loaded.next_punt().is_none(), "punted: {}", reason.name());
    }
    Ok(())
}
