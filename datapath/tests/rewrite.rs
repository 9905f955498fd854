//! Rewriting on the host: whatever the tags before and after, the packet within stays whole.

use doorstep_datapath::rewrite::{NO_TAG, NewLink, ONE_TAG, TWO_TAGS};
use doorstep_datapath::slice::SliceFrame;
use doorstep_datapath::verdict::Family;
use doorstep_datapath::{parse, rewrite};
use doorstep_gateway_common::Reason;
use doorstep_gateway_common::downstream::WireTag;
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders};

const HOME: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0x01];
const S: (u16, u16) = (0x88a8, 101);
const C: (u16, u16) = (0x8100, 1004);

/// Every number of tags; both TPIDs in either place.
const TAGGINGS: [&[(u16, u16)]; 6] = [&[], &[C], &[S], &[S, C], &[C, C], &[S, S]];

fn packet(family: Family, hops: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = match family {
        Family::V4 => PacketBuilder::ipv4([100, 64, 1, 10], [198, 51, 100, 7], hops),
        Family::V6 => PacketBuilder::ipv6([0x20; 16], [0x21; 16], hops),
    };
    builder.udp(4000, 80).write(&mut bytes, b"payload").unwrap();
    bytes
}

fn frame(tags: &[(u16, u16)], ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = [GATEWAY, HOME].concat();
    for (tpid, vid) in tags {
        bytes.extend(tpid.to_be_bytes());
        bytes.extend(vid.to_be_bytes());
    }
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(packet);
    bytes
}

fn wire(tag: Option<&(u16, u16)>) -> WireTag {
    tag.map(|&(tpid, vid)| WireTag::new(tpid, vid, 0))
        .unwrap_or_default()
}

/// Rewrites a frame that has `old` tags so that it has `new` ones.
fn forward(
    frame: &mut SliceFrame,
    family: Family,
    old: &[(u16, u16)],
    new: &[(u16, u16)],
) -> Result<(), Reason> {
    let (outer, inner) = match new {
        [outer, inner] => (Some(outer), Some(inner)),
        rest => (None, rest.first()),
    };
    let link = NewLink {
        destination: HOME.into(),
        source: GATEWAY.into(),
        outer: wire(outer),
        inner: wire(inner),
    };
    match old.len() {
        0 => rewrite::forward::<_, NO_TAG>(frame, &link, family),
        1 => rewrite::forward::<_, ONE_TAG>(frame, &link, family),
        _ => rewrite::forward::<_, TWO_TAGS>(frame, &link, family),
    }
}

#[test]
fn any_tags_to_any_tags() {
    for family in [Family::V4, Family::V6] {
        for old in TAGGINGS {
            for new in TAGGINGS {
                let before = packet(family, 64);
                let mut bytes = SliceFrame::new(&frame(old, family.ether_type(), &before));
                forward(&mut bytes, family, old, new).unwrap();
                let expected = frame(new, family.ether_type(), &packet(family, 63));
                let mut expected = expected;
                expected[..6].copy_from_slice(&HOME);
                expected[6..12].copy_from_slice(&GATEWAY);
                assert_eq!(bytes.as_slice(), expected, "{family:?} {old:?} → {new:?}");
                let link = parse::link(&bytes).unwrap();
                assert_eq!(link.len, 14 + 4 * new.len());
                assert_eq!(link.ether_type, family.ether_type());
            }
        }
    }
}

#[test]
fn tags_carry_their_priority() {
    let ip = packet(Family::V4, 64);
    let mut bytes = SliceFrame::new(&frame(&[], Family::V4.ether_type(), &ip));
    let link = NewLink {
        outer: WireTag::new(0x88a8, 101, 5),
        inner: WireTag::new(0x8100, 1004, 0).with_priority(7),
        ..NewLink::default()
    };
    rewrite::forward::<_, NO_TAG>(&mut bytes, &link, Family::V4).unwrap();
    let tags = &bytes.as_slice()[12..20];
    assert_eq!(tags, [0x88, 0xa8, 0xa0, 101, 0x81, 0x00, 0xe3, 0xec]);
    let link = parse::link(&bytes).unwrap();
    assert_eq!((link.s_vid, link.c_vid), (101, 1004), "not part of the key");
}

#[test]
fn priority_tags_count_as_none() {
    const PRIORITY: (u16, u16) = (0x8100, 0xe000);
    for (tags, expected) in [
        (&[PRIORITY][..], (0, 0)),
        (&[PRIORITY, C], (0, 1004)),
        (&[C, PRIORITY], (0, 1004)),
        (&[PRIORITY, PRIORITY], (0, 0)),
        (&[C, C], (1004, 1004)),
    ] {
        let bytes = frame(tags, Family::V4.ether_type(), &packet(Family::V4, 64));
        let link = parse::link(&SliceFrame::new(&bytes)).unwrap();
        assert_eq!((link.s_vid, link.c_vid), expected, "{tags:?}");
        assert_eq!(link.len, 14 + 4 * tags.len());
    }
}

#[test]
fn the_checksum_is_right_for_every_ttl() {
    for ttl in 1..=255 {
        let bytes = frame(&[], Family::V4.ether_type(), &packet(Family::V4, ttl));
        let mut bytes = SliceFrame::new(&bytes);
        forward(&mut bytes, Family::V4, &[], &[]).unwrap();
        let headers = PacketHeaders::from_ethernet_slice(bytes.as_slice()).unwrap();
        let Some(NetHeaders::Ipv4(header, _)) = headers.net else {
            panic!("not IPv4")
        };
        assert_eq!(header.time_to_live, ttl - 1);
        assert_eq!(
            header.header_checksum,
            header.calc_header_checksum(),
            "TTL {ttl}"
        );
    }
}

#[test]
fn tags_come_off_for_the_kernel() {
    for tags in TAGGINGS {
        let ip = packet(Family::V6, 1);
        let mut bytes = SliceFrame::new(&frame(tags, Family::V6.ether_type(), &ip));
        rewrite::strip_tags(&mut bytes, 14 + 4 * tags.len(), Family::V6).unwrap();
        assert_eq!(
            bytes.as_slice(),
            frame(&[], Family::V6.ether_type(), &ip),
            "{tags:?}"
        );
    }
}

#[test]
fn every_cut_is_an_error_and_no_panic() {
    let whole = frame(&[S, C], Family::V4.ether_type(), &packet(Family::V4, 64));
    for len in 0..whole.len() {
        let cut = SliceFrame::new(&whole[..len]);
        let parsed = parse::link(&cut).and_then(|link| parse::ipv4(&cut, link.len));
        assert_eq!(parsed.unwrap_err(), Reason::Truncated, "{len} bytes");
    }
    let three = frame(&[S, C, C], Family::V4.ether_type(), &packet(Family::V4, 64));
    assert_eq!(
        parse::link(&SliceFrame::new(&three)).unwrap_err(),
        Reason::TooManyTags
    );
}
