//! Datagrams and frames: round trips, and refusal of everything that was changed.

use std::net::Ipv6Addr;

use doorstep_establish::frame::{self, Envelope, FrameError};
use doorstep_establish::{
    Body, Direction, Mac, Message, Nonce, Offer, OpenError, Replaced, SessionKey, TPID_8021AD,
    TPID_8021Q, Tag, Tags, open, seal, session_of,
};
use proptest::prelude::*;
use uuid::Uuid;

fn offer() -> Offer {
    Offer {
        gateway_id: "gw-1".into(),
        ipv4: Some([100, 64, 1, 10].into()),
        ipv4_gateway: Some([100, 64, 0, 1].into()),
        ipv6: Some("2001:db8:1:100::/56".parse().unwrap()),
        ipv6_line: Some("2001:db8:2:101::/64".parse().unwrap()),
        dns: vec![
            "192.0.2.53".parse().unwrap(),
            "2001:db8::53".parse().unwrap(),
        ],
        mtu: 1500,
    }
}

fn body(message: Message) -> Body {
    Body {
        generation: 7,
        nonce: Nonce([9; 16]),
        message,
    }
}

fn messages() -> Vec<Message> {
    let bare = Offer {
        ipv4: None,
        ipv4_gateway: None,
        ipv6: None,
        ipv6_line: None,
        dns: vec![],
        mtu: 0,
        ..offer()
    };
    vec![
        Message::Request(offer()),
        Message::Request(bare),
        Message::Accept {
            terminal_mac: Mac([2, 0, 0, 0, 0, 1]),
            replaces: None,
        },
        Message::Accept {
            terminal_mac: Mac([2, 0, 0, 0, 0, 1]),
            replaces: Some(Replaced {
                session: Uuid::from_u128(2),
                generation: 3,
                proof: [4; 32],
            }),
        },
        Message::Confirm { slot: None },
        Message::Confirm { slot: Some(0) },
        Message::Refuse {
            detail: "no room port: room0 is not there".into(),
        },
        Message::Release,
    ]
}

#[test]
fn sealed_is_opened_and_nothing_else() {
    let (key, session) = (SessionKey::generate(), Uuid::from_u128(1));
    for message in messages() {
        let direction = message.direction();
        let back = match direction {
            Direction::FromGateway => Direction::FromTerminal,
            Direction::FromTerminal => Direction::FromGateway,
        };
        let body = body(message);
        let datagram = seal(&key, session, &body);
        let key_of = |id| (id == session).then(|| key.clone());
        assert_eq!(session_of(&datagram), Some(session));
        assert_eq!(
            open(&datagram, direction, key_of),
            Ok((session, body.clone()))
        );
        assert_eq!(
            open(&datagram, back, key_of),
            Err(OpenError::Tag(session)),
            "reflected"
        );
        assert_eq!(
            open(&datagram, direction, |_| None),
            Err(OpenError::UnknownSession(session))
        );
        let other = open(&datagram, direction, |_| Some(SessionKey::generate()));
        assert_eq!(other, Err(OpenError::Tag(session)));

        for len in 0..datagram.len() {
            assert!(
                open(&datagram[..len], direction, key_of).is_err(),
                "cut to {len}: {body:?}"
            );
        }
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                open(&changed, direction, key_of).is_err(),
                "bit {bit}: {body:?}"
            );
        }
    }
    assert_eq!(
        open(&[0; 1201], Direction::FromGateway, |_| None),
        Err(OpenError::TooLong)
    );
}

#[test]
fn any_text_fits_a_datagram() {
    let (key, session) = (SessionKey::generate(), Uuid::from_u128(1));
    let detail = "线路".repeat(1000);
    let datagram = seal(
        &key,
        session,
        &body(Message::Refuse {
            detail: detail.clone(),
        }),
    );
    let (_, opened) = open(&datagram, Direction::FromTerminal, |_| Some(key.clone())).unwrap();
    let Message::Refuse { detail: shortened } = opened.message else {
        panic!("{opened:?}")
    };
    assert!(detail.starts_with(&shortened) && shortened.len() > 250);
}

fn tag(tpid: u16, vid: u16) -> Tag {
    Tag { tpid, vid }
}

fn stacks() -> Vec<Tags> {
    vec![
        Tags::NONE,
        Tags::from_vids(&[101]).unwrap(),
        Tags::from_vids(&[101, 1004]).unwrap(),
        Tags::new(&[tag(TPID_8021Q, 1), tag(TPID_8021Q, 4094)]).unwrap(),
        Tags::new(&[tag(TPID_8021AD, 5)]).unwrap(),
    ]
}

const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 2]);

#[test]
fn frames_round_trip_under_every_stack_of_tags() {
    for tags in stacks() {
        for envelope in [
            Envelope::to_line(GATEWAY, tags),
            Envelope::to_gateway(TERMINAL, GATEWAY, tags),
        ] {
            let frame = frame::build(&envelope, b"datagram");
            let parsed = frame::parse(&frame).unwrap();
            assert_eq!(
                (parsed.envelope, parsed.payload),
                (envelope, &b"datagram"[..])
            );
            // Ethernet padding is no part of the datagram.
            let padded = [&frame[..], &[0; 7]].concat();
            assert_eq!(frame::parse(&padded), Ok(parsed));
            for len in 0..frame.len() {
                assert_eq!(
                    frame::parse(&frame[..len]),
                    Err(FrameError::Truncated),
                    "{len}"
                );
            }
        }
    }
}

#[test]
fn priority_is_not_identity() {
    let tags = Tags::from_vids(&[101, 1004]).unwrap();
    let mut frame = frame::build(&Envelope::to_line(GATEWAY, tags), b"x");
    frame[14] |= 0xf0;
    frame[18] |= 0x70;
    assert_eq!(frame::parse(&frame).unwrap().envelope.tags, tags);
    // VLAN 0 carries a priority only.
    frame[14] = 0xe0;
    frame[15] = 0;
    assert_eq!(
        frame::parse(&frame).unwrap().envelope.tags.as_slice(),
        [tag(TPID_8021Q, 1004)]
    );
}

#[test]
fn foreign_frames_are_named() {
    let good = frame::build(&Envelope::to_line(GATEWAY, Tags::NONE), b"datagram");
    let tagged = frame::build(
        &Envelope::to_line(GATEWAY, Tags::from_vids(&[1, 2]).unwrap()),
        b"datagram",
    );
    let third = [&tagged[..12], &[0x81, 0, 0, 3], &tagged[12..]].concat();
    assert_eq!(frame::parse(&third), Err(FrameError::Tags));
    let global = Envelope {
        src_ip: "2001:db8::1".parse().unwrap(),
        ..Envelope::to_line(GATEWAY, Tags::NONE)
    };
    assert_eq!(
        frame::parse(&frame::build(&global, b"")),
        Err(FrameError::SourceAddress)
    );

    let cases: &[(&str, usize, u8, FrameError)] = &[
        ("group source", 6, 0x03, FrameError::SourceMac),
        ("IPv4", 13, 0x00, FrameError::NotIpv6(0x8600)),
        (
            "payload length beyond the frame",
            18,
            0xff,
            FrameError::Truncated,
        ),
        ("TCP", 20, 6, FrameError::NotUdp(6)),
        ("routed", 21, 64, FrameError::HopLimit(64)),
        ("another port", 57, 0, FrameError::Port(0xcd00)),
        (
            "UDP length short of the segment",
            59,
            9,
            FrameError::Truncated,
        ),
        ("checksum", 61, good[61] ^ 1, FrameError::Checksum),
        ("payload", 64, b'!', FrameError::Checksum),
    ];
    for &(name, at, value, expected) in cases {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(frame::parse(&frame), Err(expected), "{name}");
    }
    let mut absent = good.clone();
    absent[60..62].fill(0);
    assert_eq!(frame::parse(&absent), Err(FrameError::Checksum));
}

#[test]
fn tags_and_addresses_as_text() {
    let texts: Vec<_> = stacks().iter().map(Tags::to_string).collect();
    assert_eq!(texts, ["untagged", "101", "101.1004", "1.4094", "5"]);
    for tags in stacks() {
        let json = serde_json::to_string(&tags).unwrap();
        assert_eq!(serde_json::from_str::<Tags>(&json).unwrap(), tags);
    }
    for bad in [&[0][..], &[4095], &[1, 2, 3]] {
        assert!(Tags::from_vids(bad).is_err(), "{bad:?}");
    }
    assert!(Tags::new(&[tag(0x9100, 5)]).is_err());

    assert_eq!(GATEWAY.to_string().parse::<Mac>(), Ok(GATEWAY));
    for bad in [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "+2:00:00:00:00:01",
    ] {
        assert!(bad.parse::<Mac>().is_err(), "{bad}");
    }
    let link_local: Ipv6Addr = "fe80::ff:fe00:2".parse().unwrap();
    assert_eq!(TERMINAL.link_local(), link_local);
    assert_eq!(format!("{:?}", SessionKey::generate()), "SessionKey(..)");
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let key = SessionKey::generate();
        prop_assert!(open(&bytes, Direction::FromGateway, |_| Some(key)).is_err());
        prop_assert!(frame::parse(&bytes).is_err());
    }

    #[test]
    fn any_frame_of_ours_is_parsed_or_refused(at in 0usize..90, value: u8) {
        let envelope = Envelope::to_line(GATEWAY, Tags::from_vids(&[101]).unwrap());
        let mut frame = frame::build(&envelope, b"datagram");
        let at = at % frame.len();
        frame[at] = value;
        if let Ok(parsed) = frame::parse(&frame) {
            prop_assert_eq!(parsed.payload, b"datagram");
        }
    }
}
