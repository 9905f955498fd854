//! Frames for each verdict, made by the library that the program tests use.

use anyhow::{Result, ensure};
use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{
    Mac, Nonce, Probe, ProbeKey, SessionKey, TPID_8021AD, TPID_8021Q, Tag, Tags,
};
use doorstep_gateway::session::{Service, SessionEntry};
use doorstep_gateway_common::names::ESTABLISH_PORT;
use doorstep_gateway_common::{LineKey, Reason};
use doorstep_tests::frames::{
    Ether, arp_request, neighbour_solicitation, udp_v4, udp_v6, udp_v6_to,
};
use uuid::Uuid;

use crate::shared::{self, FRAME_LEN, Template};
use crate::subscriber;

/// The gateway's MAC address, on lines and uplink.
pub const GATEWAY: Mac = Mac([0x02, 0xd0, 0, 0, 0, 2]);
pub const NEXT_HOP: Mac = Mac([0x02, 0xd0, 0, 0, 0, 4]);

/// Subscribers of the measured sessions, by what is special about them.
pub const TWO_TAGS: u32 = 7;
pub const POLICED: u32 = 8;
/// Whose rate is next to nothing.
pub const SLOW: u32 = 9;
/// The lowest of these also says how many ordinary subscribers there may be.
pub const ONE_TAG: u32 = 1_000;
const UNTAGGED: u32 = 1_001;
/// All subscribers, and one that is none.
pub const CAPACITY: u32 = 1_003;
const NOBODY: u32 = 1_002;

const ONE_TAG_VID: u16 = 300;
const BLOCKED_VID: u16 = 666;
const UNKNOWN_VID: u16 = 999;

const WORLD_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
const GATEWAY_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Which of the gateway's ports a frame comes in at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Access,
    Uplink,
}

/// A frame and what must become of it.
pub struct Case {
    pub name: &'static str,
    pub side: Side,
    pub reason: Reason,
    /// Padded to [`FRAME_LEN`].
    pub frame: Vec<u8>,
}

impl Case {
    /// For the program that puts the frame back.
    pub fn template(&self) -> Template {
        let mut words = [0; FRAME_LEN / 8];
        for (word, bytes) in words.iter_mut().zip(self.frame.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Template { words }
    }

    /// Whether each run leaves a record that must be taken away.
    pub fn punts(&self) -> bool {
        self.reason == Reason::PuntEstablish
    }

    /// Whether it is dropped for its rate alone.
    pub fn is_policed(&self) -> bool {
        matches!(
            self.reason,
            Reason::PolicedUpstream | Reason::PolicedDownstream
        )
    }
}

/// Sessions on lines with fewer tags than two.
pub fn more_sessions(ifindex: u32) -> Result<Vec<SessionEntry>> {
    let mut one_tag = subscriber::entry(ONE_TAG, ifindex, Service::default())?;
    one_tag.line.key = line(ifindex, ONE_TAG_VID);
    one_tag.line.tags = Tags::try_from(vec![Tag {
        tpid: TPID_8021Q,
        vid: ONE_TAG_VID,
    }])?;
    let mut untagged = subscriber::entry(UNTAGGED, ifindex, Service::default())?;
    untagged.line.key = line(ifindex, 0);
    untagged.line.tags = Tags::try_from(Vec::new())?;
    Ok(vec![one_tag, untagged])
}

/// A line of the inventory that is blocked.
pub fn blocked_line(ifindex: u32) -> LineKey {
    line(ifindex, BLOCKED_VID)
}

fn line(ifindex: u32, c_vid: u16) -> LineKey {
    LineKey {
        ifindex,
        s_vid: 0,
        c_vid,
    }
}

/// Of the session on the line with two tags.
pub fn probe_key() -> Result<ProbeKey> {
    let session = SessionKey::from_slice(&[7; 32])?;
    Ok(ProbeKey::derive(
        &session,
        Uuid::from_u128(1),
        1,
        Nonce([1; 16]),
    ))
}

/// The terminal on the line with two tags asks whether its session is alive.
fn question() -> Result<Vec<u8>> {
    let (s_vid, c_vid) = shared::vlans(TWO_TAGS);
    let tags = [(TPID_8021AD, s_vid), (TPID_8021Q, c_vid)].map(|(tpid, vid)| Tag { tpid, vid });
    let probe = Probe {
        slot: TWO_TAGS,
        sequence: 1,
        nonce: 0x1112_1314_1516_1718,
    };
    let envelope = Envelope::to_gateway(subscriber::mac(TWO_TAGS), GATEWAY, Tags::new(&tags)?);
    Ok(frame::build(&envelope, &probe.ask(&probe_key()?)))
}

/// Every case.
pub fn cases() -> Result<Vec<Case>> {
    let s_tag = |i| (TPID_8021AD, shared::vlans(i).0);
    let c_tag = |i| (TPID_8021Q, shared::vlans(i).1);
    let two_tags = [s_tag(TWO_TAGS), c_tag(TWO_TAGS)];
    let policed_tags = [s_tag(POLICED), c_tag(POLICED)];
    let slow_tags = [s_tag(SLOW), c_tag(SLOW)];
    let three_tags = [s_tag(TWO_TAGS), c_tag(TWO_TAGS), c_tag(TWO_TAGS)];
    let unknown_tags = [s_tag(TWO_TAGS), (TPID_8021Q, UNKNOWN_VID + 3000)];
    let up = Ether {
        source: subscriber::mac(TWO_TAGS).0,
        destination: GATEWAY.0,
        tags: &two_tags,
    };
    let from = |i, tags| Ether {
        source: subscriber::mac(i).0,
        tags,
        ..up
    };
    let one_tag = from(ONE_TAG, &[(TPID_8021Q, ONE_TAG_VID)]);
    let untagged = from(UNTAGGED, &[]);
    let policed = from(POLICED, &policed_tags);
    let slow = from(SLOW, &slow_tags);
    let world = Ether {
        source: NEXT_HOP.0,
        destination: GATEWAY.0,
        tags: &[],
    };
    let to_all = Ether {
        destination: [0xff; 6],
        ..up
    };
    let (v4, v6) = (|i| subscriber::ipv4(i).octets(), inside);
    let world_v4 = shared::WORLD.to_be_bytes();
    let upward = |ether, i| udp_v4(ether, v4(i), world_v4, 64);
    let broken = |at: usize, value: u8| {
        let mut frame = upward(up, TWO_TAGS);
        frame[at] = value;
        frame
    };
    use Reason as R;
    use Side::{Access, Uplink};
    let rows: Vec<(&'static str, Side, R, Vec<u8>)> = vec![
        (
            "IPv4 up, no tag",
            Access,
            R::ForwardedUpstream,
            upward(untagged, UNTAGGED),
        ),
        (
            "IPv4 up, one tag",
            Access,
            R::ForwardedUpstream,
            upward(one_tag, ONE_TAG),
        ),
        (
            "IPv4 up, two tags",
            Access,
            R::ForwardedUpstream,
            upward(up, TWO_TAGS),
        ),
        (
            "IPv4 up, two tags, policed",
            Access,
            R::ForwardedUpstream,
            upward(policed, POLICED),
        ),
        (
            "IPv6 up, no tag",
            Access,
            R::ForwardedUpstream,
            udp_v6(untagged, v6(UNTAGGED), WORLD_V6, 64),
        ),
        (
            "IPv6 up, one tag",
            Access,
            R::ForwardedUpstream,
            udp_v6(one_tag, v6(ONE_TAG), WORLD_V6, 64),
        ),
        (
            "IPv6 up, two tags",
            Access,
            R::ForwardedUpstream,
            udp_v6(up, v6(TWO_TAGS), WORLD_V6, 64),
        ),
        (
            "IPv6 up, two tags, policed",
            Access,
            R::ForwardedUpstream,
            udp_v6(policed, v6(POLICED), WORLD_V6, 64),
        ),
        (
            "IPv4 down, no tag",
            Uplink,
            R::ForwardedDownstream,
            udp_v4(world, world_v4, v4(UNTAGGED), 64),
        ),
        (
            "IPv4 down, one tag",
            Uplink,
            R::ForwardedDownstream,
            udp_v4(world, world_v4, v4(ONE_TAG), 64),
        ),
        (
            "IPv4 down, two tags",
            Uplink,
            R::ForwardedDownstream,
            udp_v4(world, world_v4, v4(TWO_TAGS), 64),
        ),
        (
            "IPv4 down, two tags, policed",
            Uplink,
            R::ForwardedDownstream,
            udp_v4(world, world_v4, v4(POLICED), 64),
        ),
        (
            "IPv6 down, two tags",
            Uplink,
            R::ForwardedDownstream,
            udp_v6(world, WORLD_V6, v6(TWO_TAGS), 64),
        ),
        (
            "IPv6 down, two tags, policed",
            Uplink,
            R::ForwardedDownstream,
            udp_v6(world, WORLD_V6, v6(POLICED), 64),
        ),
        (
            "to the kernel: TTL expired, up",
            Access,
            R::KernelUpstream,
            udp_v4(up, v4(TWO_TAGS), world_v4, 1),
        ),
        (
            "to the kernel: TTL expired, down",
            Uplink,
            R::KernelDownstream,
            udp_v4(world, world_v4, v4(TWO_TAGS), 1),
        ),
        (
            "to the kernel: the host's own",
            Uplink,
            R::KernelHost,
            udp_v4(world, world_v4, [192, 0, 2, 2], 64),
        ),
        (
            "punt: establishment reply",
            Access,
            R::PuntEstablish,
            udp_v6_to(up, LINK_LOCAL, GATEWAY_LINK_LOCAL, 255, ESTABLISH_PORT),
        ),
        (
            "answer: ARP",
            Access,
            R::ArpAnswered,
            arp_request(to_all, v4(TWO_TAGS), [100, 127, 0, 1]),
        ),
        (
            "answer: neighbour solicitation",
            Access,
            R::NdAnswered,
            neighbour_solicitation(to_all, LINK_LOCAL, GATEWAY_LINK_LOCAL),
        ),
        (
            "answer: is the session alive?",
            Access,
            R::ProbeAnswered,
            question()?,
        ),
        ("drop", Access, R::PolicedUpstream, upward(slow, SLOW)),
        (
            "drop",
            Uplink,
            R::PolicedDownstream,
            udp_v4(world, world_v4, v4(SLOW), 64),
        ),
        ("drop", Access, R::SourceNotBound, upward(up, NOBODY)),
        (
            "drop",
            Access,
            R::MacNotBound,
            upward(
                Ether {
                    source: NEXT_HOP.0,
                    ..up
                },
                TWO_TAGS,
            ),
        ),
        (
            "drop",
            Access,
            R::NotOurMac,
            upward(
                Ether {
                    destination: NEXT_HOP.0,
                    ..up
                },
                TWO_TAGS,
            ),
        ),
        (
            "drop",
            Access,
            R::UnknownLine,
            upward(from(TWO_TAGS, &unknown_tags), TWO_TAGS),
        ),
        (
            "drop",
            Access,
            R::BlockedLine,
            upward(from(TWO_TAGS, &[(TPID_8021Q, BLOCKED_VID)]), TWO_TAGS),
        ),
        ("drop", Access, R::Multicast, upward(to_all, TWO_TAGS)),
        (
            "drop",
            Access,
            R::TooManyTags,
            upward(from(TWO_TAGS, &three_tags), TWO_TAGS),
        ),
        ("drop", Access, R::UnknownEtherType, broken(20, 0x99)),
        ("drop", Access, R::BadIpv4, broken(22, 0x55)),
        ("drop", Access, R::Truncated, broken(24, 0xff)),
        (
            "drop",
            Access,
            R::BadDestination,
            udp_v4(up, v4(TWO_TAGS), [127, 0, 0, 1], 64),
        ),
        (
            "drop",
            Access,
            R::LinkLocal,
            udp_v6(up, LINK_LOCAL, WORLD_V6, 64),
        ),
        (
            "drop",
            Access,
            R::ArpIgnored,
            arp_request(to_all, [0; 4], v4(TWO_TAGS)),
        ),
        (
            "drop",
            Access,
            R::NdIgnored,
            neighbour_solicitation(to_all, LINK_LOCAL, v6(NOBODY)),
        ),
        (
            "drop",
            Uplink,
            R::BadSource,
            udp_v4(world, [127, 0, 0, 1], v4(TWO_TAGS), 64),
        ),
    ];
    let case = |(name, side, reason, mut frame): (_, _, R, Vec<u8>)| {
        ensure!(frame.len() <= FRAME_LEN, "{name}: {} bytes", frame.len());
        frame.resize(FRAME_LEN, 0);
        Ok(Case {
            name,
            side,
            reason,
            frame,
        })
    };
    rows.into_iter().map(case).collect()
}

/// An address in the subscriber's prefix.
fn inside(i: u32) -> [u8; 16] {
    let mut address = subscriber::ipv6(i).octets();
    address[15] = 5;
    address
}
