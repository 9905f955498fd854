//! What comes over the line: frames, the datagrams in them, the messages in those.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;
use std::time::Duration;

use doorstep_datapath::parse::link;
use doorstep_datapath::slice::SliceFrame;
use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{
    Body, Direction, Garden, GardenOffer, MAX_DATAGRAM_LEN, Mac, Message, Nonce, Offer, OpenError,
    Probe, ProbeKey, SessionKey, TPID_8021AD, TPID_8021Q, Tag, Tags, Way, open, seal, session_of,
};
use doorstep_proto::v1 as pb;
use hmac::{Hmac, KeyInit as _, Mac as _};
use prost::Message as _;
use sha2::Sha256;
use uuid::Uuid;

use super::reread;
use crate::Target;
use crate::mutate::Shape;

pub const FRAME: Target = Target {
    name: "establish_frame",
    about: "frames of the exchange: read, built and read again; tags as the fast path sees them",
    check: check_frame,
    seeds: frame_seeds,
    shape: Shape::Bytes,
    words: &["\u{1}\u{0}", "`"],
    inputs: 20_000,
};

pub const DATAGRAM: Target = Target {
    name: "establish_datagram",
    about: "datagrams of the exchange: what was not sealed so never opens; the garden's come back",
    check: check_datagram,
    seeds: datagram_seeds,
    shape: Shape::Protobuf,
    words: &["gw1"],
    inputs: 10_000,
};

pub const BODY: Target = Target {
    name: "establish_body",
    about: "messages that are authentic: refused by the field's name, or the same once sealed",
    check: check_body,
    seeds: body_seeds,
    shape: Shape::Protobuf,
    words: &[
        "::ffff:192.0.2.1",
        "::/0",
        "2001:db8::1/128",
        "0.0.0.0",
        "/",
    ],
    inputs: 10_000,
};

pub(super) const SESSION: Uuid = Uuid::from_u128(0x0190_f3e8_0000_7000_8000_0000_0000_0001);
static KEY: LazyLock<SessionKey> =
    LazyLock::new(|| SessionKey::from_slice(&[7; SessionKey::LEN]).expect("a key"));

pub(super) fn offer() -> Offer {
    Offer {
        gateway_id: "gw1".to_owned(),
        ipv4: Some(Ipv4Addr::new(100, 64, 1, 10)),
        ipv4_gateway: Some(Ipv4Addr::new(100, 64, 1, 1)),
        ipv6: "2001:db8:1000:100::/56".parse().ok(),
        ipv6_line: "2001:db8:2:101::/64".parse().ok(),
        dns: vec![
            Ipv4Addr::new(192, 0, 2, 53).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53).into(),
        ],
        mtu: 1500,
    }
}

/// One of each kind.
pub(super) fn bodies() -> Vec<Body> {
    let messages = [
        Message::Request(offer()),
        Message::Accept {
            terminal_mac: Mac([2, 0, 0, 0, 0, 1]),
            replaces: None,
        },
        Message::Confirm { slot: None },
        Message::Confirm { slot: Some(0) },
        Message::Refuse {
            detail: "no such port".to_owned(),
        },
        Message::Release,
    ];
    messages
        .map(|message| Body {
            generation: 3,
            nonce: Nonce([9; 16]),
            message,
        })
        .to_vec()
}

fn gardens() -> [Garden; 2] {
    let ways = vec![
        Way {
            ipv4: Some(Ipv4Addr::new(100, 127, 0, 9)),
            ipv6: "fd00:0:9:41::1".parse().ok(),
            servers: vec![Ipv4Addr::new(198, 51, 100, 9).into()],
        },
        Way {
            ipv4: None,
            ipv6: "fd00:0:9:42::1".parse().ok(),
            servers: vec!["2001:db8:ff00::9".parse().expect("an address")],
        },
    ];
    let offer = GardenOffer {
        gateway_id: "gw1".to_owned(),
        lifetime: Duration::from_secs(600),
        mtu: 1500,
        ways,
    };
    [Garden::Ask, Garden::Offer(offer)]
}

pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let terminal = Mac([2, 0, 0, 0, 0, 1]);
    let gateway = Mac([2, 0, 0, 0, 0, 2]);
    let c_tag = Tag {
        tpid: TPID_8021Q,
        vid: 1004,
    };
    let s_tag = Tag {
        tpid: TPID_8021AD,
        vid: 101,
    };
    let mut frames = Vec::new();
    for stack in [&[][..], &[c_tag], &[s_tag, c_tag]] {
        let tags = Tags::new(stack).expect("tags");
        let ask = Garden::Ask.encode().expect("short");
        frames.push(frame::build(
            &Envelope::to_any_gateway(terminal, tags),
            &ask,
        ));
        let (question, answer) = (PROBE.ask(&probe_key()), PROBE.answer(&probe_key()));
        let upward = Envelope::to_gateway(terminal, gateway, tags);
        frames.push(frame::build(&upward, &question));
        frames.push(frame::build(&Envelope::to_line(gateway, tags), &answer));
        for body in bodies() {
            let envelope = match body.message.direction() {
                Direction::FromGateway => Envelope::to_line(gateway, tags),
                Direction::FromTerminal => Envelope::to_gateway(terminal, gateway, tags),
            };
            frames.push(frame::build(&envelope, &seal(&KEY, SESSION, &body)));
        }
    }
    frames
}

fn check_frame(data: &[u8]) {
    let mended = with_checksum(data);
    for data in [data, &mended] {
        let Ok(parsed) = frame::parse(data) else {
            continue;
        };
        assert!(parsed.envelope.src_mac.is_station());
        assert!(parsed.envelope.src_ip.is_unicast_link_local());
        let built = frame::build(&parsed.envelope, parsed.payload);
        assert_eq!(frame::parse(&built), Ok(parsed));
        // The gateway knows the line by the fast path, and the terminal's tags by this.
        if let Ok(link) = link(&SliceFrame::new(data)) {
            let vids: Vec<u16> = [link.s_vid, link.c_vid]
                .into_iter()
                .filter(|vid| *vid != 0)
                .collect();
            let tags = parsed.envelope.tags;
            let seen: Vec<u16> = tags.as_slice().iter().map(|tag| tag.vid).collect();
            assert_eq!(seen, vids, "two readers, two lines");
        }
        let _ = session_of(parsed.payload);
        let _ = Garden::decode(parsed.payload);
        for (read, said) in [
            (
                Probe::open_ask(parsed.payload, &probe_key()),
                PROBE.ask(&probe_key()),
            ),
            (
                Probe::open_answer(parsed.payload, &probe_key()),
                PROBE.answer(&probe_key()),
            ),
        ] {
            assert!(
                read.is_none() || parsed.payload == said,
                "nobody has said so"
            );
        }
    }
}

const PROBE: Probe = Probe {
    slot: 3,
    sequence: 5,
    nonce: 0x1112_1314_1516_1718,
};

fn probe_key() -> ProbeKey {
    ProbeKey::derive(&KEY, SESSION, 3, Nonce([9; 16]))
}

/// The same frame with the checksum that its content has, so that changes get past it.
fn with_checksum(data: &[u8]) -> Vec<u8> {
    const IPV6: usize = 40;
    let mut frame = data.to_vec();
    let mut start = 14;
    while let Some([0x81 | 0x88, 0 | 0xa8]) = frame.get(start - 2..start) {
        start += 4;
        if start > 14 + 16 {
            return frame;
        }
    }
    let Some(length) = frame.get(start + 4..start + 6) else {
        return frame;
    };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let udp = start + IPV6;
    if length < 8 || frame.len() < udp + length {
        return frame;
    }
    frame[udp + 6..udp + 8].fill(0);
    let addresses = &frame[start + 8..udp];
    let segment = &frame[udp..udp + length];
    let mut sum = length as u64 + 17;
    for part in [addresses, segment] {
        for pair in part.chunks(2) {
            let pair = [pair[0], pair.get(1).copied().unwrap_or_default()];
            sum += u64::from(u16::from_be_bytes(pair));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Zero stands for no checksum (RFC 768), so that it is sent as its complement.
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn datagram_seeds() -> Vec<Vec<u8>> {
    let sealed = bodies().into_iter().map(|body| seal(&KEY, SESSION, &body));
    let gardens = gardens();
    let gardens = gardens.iter().filter_map(Garden::encode);
    sealed.chain(gardens).collect()
}

fn check_datagram(data: &[u8]) {
    reread::<pb::EstablishDatagram>(data);
    let session = session_of(data);
    for direction in [Direction::FromGateway, Direction::FromTerminal] {
        match open(data, direction, |id| (id == SESSION).then(|| KEY.clone())) {
            Ok((id, body)) => {
                // Around the tag, protobuf may write the same in other ways.
                assert_eq!(session, Some(id));
                assert_eq!((id, body.message.direction()), (SESSION, direction));
                assert!(bodies().contains(&body), "nobody has sealed {body:?}");
            }
            Err(OpenError::UnknownSession(id)) => assert_eq!(session, Some(id)),
            Err(OpenError::Tag(id)) => assert_eq!((session, id), (Some(id), SESSION)),
            Err(OpenError::TooLong | OpenError::Envelope) => assert_eq!(session, None),
            Err(error @ OpenError::Content { .. }) => panic!("authentic, and yet {error}"),
        }
    }
    if let Some(garden) = Garden::decode(data) {
        let again = garden.encode().expect("no longer than it came");
        assert_eq!(Garden::decode(&again), Some(garden));
    }
}

fn body_seeds() -> Vec<Vec<u8>> {
    bodies()
        .iter()
        .map(|body| {
            let sealed = seal(&KEY, SESSION, body);
            let datagram = pb::EstablishDatagram::decode(&sealed[..]).expect("a datagram");
            datagram.body
        })
        .collect()
}

fn check_body(data: &[u8]) {
    for (direction, number) in [(Direction::FromGateway, 1), (Direction::FromTerminal, 2)] {
        let datagram = authentic(number, data);
        match open(&datagram, direction, |_| Some(KEY.clone())) {
            Ok((session, body)) => {
                assert_eq!((session, body.message.direction()), (SESSION, direction));
                let again = seal(&KEY, SESSION, &body);
                assert!(again.len() <= MAX_DATAGRAM_LEN, "{}", again.len());
                let again = open(&again, direction, |_| Some(KEY.clone()));
                assert_eq!(again, Ok((SESSION, body)));
            }
            Err(OpenError::TooLong) => assert!(datagram.len() > MAX_DATAGRAM_LEN),
            Err(OpenError::Content { session, field }) => {
                assert_eq!(session, SESSION);
                assert!(FIELDS.contains(&field), "{field} is no field");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a refusal may name.
const FIELDS: [&str; 11] = [
    "body",
    "message",
    "terminal_mac",
    "detail",
    "nonce",
    "gateway_id",
    "dns",
    "ipv4_address",
    "ipv4_gateway",
    "ipv6_prefix",
    "ipv6_line_prefix",
];

/// As establish.proto has it: `direction` is 1 from the gateway, 2 from the terminal.
fn authentic(direction: u8, body: &[u8]) -> Vec<u8> {
    let tag = Hmac::<Sha256>::new_from_slice(KEY.as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update([direction])
        .chain_update(SESSION.as_bytes())
        .chain_update(body)
        .finalize();
    pb::EstablishDatagram {
        session_id: SESSION.as_bytes().to_vec(),
        body: body.to_vec(),
        tag: tag.into_bytes().to_vec(),
        garden: None,
    }
    .encode_to_vec()
}
