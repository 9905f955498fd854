use std::net::Ipv6Addr;

use etherparse::Icmpv6Type;
use etherparse::icmpv6::{NdpOptionSlice, NdpOptionsIterator, RouterAdvertisementHeader};
use proptest::prelude::*;

use super::*;
use crate::frame::{Body, Packet, group_mac};
use crate::holder::{Holder, Replace};
use crate::line6::{ALL_NODES, ALL_ROUTERS, Session};
use crate::testing::{
    CPE, CPE_ADDRESS, GATEWAY, HOUR, OTHER_CPE, RESOLVER, TAGS, TAGS_PLAIN, session,
};

/// Source link-layer address of the CPE.
const SOURCE_OPTION: &[u8] = &[1, 1, 2, 0, 0, 0, 0, 1];

fn line() -> Line {
    Line {
        gateway: GATEWAY,
        session: Some(session()),
        holder: None,
        replace: Replace::AtOnce,
    }
}

/// What the CPE sends, where `edit` may change what is around the options.
fn solicitation(options: &[u8], edit: impl FnOnce(&mut Packet<'_>)) -> Vec<u8> {
    let mut packet = Packet {
        source_mac: CPE,
        destination_mac: group_mac(ALL_ROUTERS),
        tags: TAGS,
        source: CPE_ADDRESS,
        destination: ALL_ROUTERS,
        hop_limit: HOP_LIMIT,
        body: Body::Icmp {
            header: Icmpv6Type::RouterSolicitation,
            payload: options,
            intact: true,
        },
    };
    edit(&mut packet);
    packet.build().unwrap()
}

fn read(frame: &[u8]) -> (Packet<'_>, RouterAdvertisementHeader, &[u8]) {
    let packet = Packet::parse(frame).unwrap();
    let Body::Icmp {
        header: Icmpv6Type::RouterAdvertisement(header),
        payload,
        intact: true,
    } = packet.body
    else {
        panic!("no advertisement: {packet:?}");
    };
    assert_eq!(packet.hop_limit, HOP_LIMIT);
    (packet, header, payload)
}

/// The options by their whole bytes.
fn options(payload: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(payload[..8], [0; 8], "reachable and retransmission time");
    NdpOptionsIterator::from_slice(&payload[8..])
        .map(|option| option.unwrap().as_bytes().to_vec())
        .collect()
}

#[test]
fn a_solicitation_is_answered_with_what_the_server_decided() {
    let frame = solicitation(SOURCE_OPTION, |_| {});
    let answer = answer(&frame, &line(), HOUR).unwrap();
    assert_eq!(answer.mac, CPE);
    let frame = answer.frame.unwrap();
    let (packet, header, payload) = read(&frame);
    assert_eq!(
        (packet.source_mac, packet.destination_mac),
        (GATEWAY.mac, CPE)
    );
    assert_eq!(
        (packet.source, packet.destination),
        (GATEWAY.address, CPE_ADDRESS)
    );
    assert_eq!(packet.tags, TAGS_PLAIN);
    assert_eq!(
        header,
        RouterAdvertisementHeader {
            cur_hop_limit: 64,
            managed_address_config: true,
            other_config: true,
            router_lifetime: 1800,
        }
    );
    let hour = 3600u32.to_be_bytes();
    let line_prefix = Ipv6Addr::new(0x2001, 0xdb8, 2, 0x101, 0, 0, 0, 0).octets();
    let resolver_lifetime = 1800u32.to_be_bytes();
    let expected = [
        vec![1, 1, 2, 0, 0, 0, 0, 0xfe],
        vec![5, 1, 0, 0, 0, 0, 5, 0xd4],
        [&[3, 4, 64, 0xc0][..], &hour, &hour, &[0; 4], &line_prefix].concat(),
        [&[25, 3, 0, 0][..], &resolver_lifetime, &RESOLVER.octets()].concat(),
    ];
    assert_eq!(options(payload), expected);
}

#[test]
fn flags_and_options_follow_the_session() {
    let advertised = |edit: fn(&mut Session)| {
        let mut session = session();
        edit(&mut session);
        let frame = advertisement(&GATEWAY, &session, Kind::Current, &[]).unwrap();
        let (_, header, payload) = read(&frame);
        let kinds: Vec<_> = options(payload).iter().map(|option| option[0]).collect();
        (
            header.managed_address_config,
            header.other_config,
            header.router_lifetime,
            kinds,
        )
    };
    type Edit = fn(&mut Session);
    #[rustfmt::skip]
    let rows: [(&str, Edit, _); 6] = [
        ("all", |_| {}, (true, true, 1800, vec![1, 5, 3, 25])),
        ("a delegated prefix alone", |session| session.line = None, (false, true, 1800, vec![1, 5, 25])),
        ("no resolvers", |session| session.dns.clear(), (true, true, 1800, vec![1, 5, 3])),
        ("less than IPv6 needs", |session| session.mtu = 1279, (true, true, 1800, vec![1, 3, 25])),
        ("a short life", |session| session.lifetime = Duration::from_secs(90), (true, true, 90, vec![1, 5, 3, 25])),
        ("for ever", |session| session.lifetime = Duration::MAX, (true, true, 1800, vec![1, 5, 3, 25])),
    ];
    for (name, edit, expected) in rows {
        assert_eq!(advertised(edit), expected, "{name}");
    }
}

#[test]
fn resolvers_are_as_many_as_fit() {
    let session = Session {
        dns: vec![RESOLVER; 200],
        ..session()
    };
    let frame = advertisement(&GATEWAY, &session, Kind::Current, &[]).unwrap();
    let (_, _, payload) = read(&frame);
    assert_eq!(options(payload)[3].len(), 8 + 8 * 16);
}

#[test]
fn a_final_advertisement_takes_everything_back() {
    let frame = advertisement(&GATEWAY, &session(), Kind::Final, TAGS).unwrap();
    let (packet, header, payload) = read(&frame);
    assert_eq!(packet.destination, ALL_NODES);
    assert_eq!(packet.destination_mac, [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(packet.tags, TAGS_PLAIN);
    assert_eq!(header.router_lifetime, 0);
    let options = options(payload);
    let lifetimes = [&options[2][4..12], &options[3][4..8]];
    assert_eq!(lifetimes, [&[0; 8][..], &[0; 4]]);
}

#[test]
fn who_has_no_address_yet_is_told_with_all() {
    let frame = solicitation(&[], |packet| packet.source = Ipv6Addr::UNSPECIFIED);
    let answer = answer(&frame, &line(), HOUR);
    let expected = Answer {
        mac: CPE,
        frame: None,
    };
    assert_eq!(answer, Ok(expected));
}

#[test]
fn what_is_not_answered_has_a_name() {
    use Ignored as I;
    let around = |edit: fn(&mut Packet<'_>)| solicitation(&[], edit);
    let message = |header: Icmpv6Type| {
        solicitation(&[0; 16], |packet| {
            packet.body = Body::Icmp {
                header,
                payload: &[0; 16],
                intact: true,
            };
        })
    };
    let at = 14 + TAGS.len();
    let patched = |place: usize, byte: u8| {
        let mut frame = around(|_| {});
        frame[at + place] = byte;
        frame
    };
    let advertised = RouterAdvertisementHeader::from_bytes([64, 0, 7, 8]);
    let code = Icmpv6Type::Unknown {
        type_u8: 133,
        code_u8: 1,
        bytes5to8: [0; 4],
    };
    let mut short = around(|_| {});
    short.pop();
    #[rustfmt::skip]
    let rows = [
        ("a packet cut short", short, I::Frame(FrameError::Truncated)),
        ("IPv4", patched(0, 0x45), I::Frame(FrameError::Header)),
        ("UDP", around(|packet| packet.body = Body::Udp { source_port: 1, destination_port: 2, payload: &[] }), I::NotSolicitation),
        ("no next header", patched(6, 59), I::NotSolicitation),
        ("a fragment", patched(6, 44), I::Frame(FrameError::Fragment)),
        ("destination options", patched(6, 60), I::Frame(FrameError::Extension)),
        ("forwarded", patched(7, 254), I::Forwarded),
        ("damaged", patched(42, 0xaa), I::Checksum),
        ("another code", message(code), I::NotSolicitation),
        ("a neighbour", message(Icmpv6Type::NeighborSolicitation), I::NotSolicitation),
        ("a spoofed router", message(Icmpv6Type::RouterAdvertisement(advertised)), I::FromRouter),
        ("a redirect", message(Icmpv6Type::Redirect), I::FromRouter),
        ("to all nodes", around(|packet| packet.destination = ALL_NODES), I::NotForRouter),
        ("to another station", around(|packet| packet.destination_mac = OTHER_CPE), I::NotForRouter),
        ("from a group", around(|packet| packet.source = ALL_NODES), I::Source),
        ("from itself", around(|packet| packet.source = Ipv6Addr::LOCALHOST), I::Source),
        ("a link-layer address of nobody", solicitation(SOURCE_OPTION, |packet| packet.source = Ipv6Addr::UNSPECIFIED), I::Source),
        ("an option of no length", solicitation(&[1, 0, 2, 0, 0, 0, 0, 1], |_| {}), I::Options),
        ("an option without end", solicitation(&[14, 2, 0, 0, 0, 0, 0, 0], |_| {}), I::Options),
        ("half an option", solicitation(&[14], |_| {}), I::Options),
    ];
    for (name, frame, expected) in rows {
        assert_eq!(answer(&frame, &line(), HOUR), Err(expected), "{name}");
    }
    let frame = around(|_| {});
    let mut ended = line();
    ended.session = None;
    assert_eq!(answer(&frame, &ended, HOUR), Err(I::NoSession));
    let mut held = line();
    held.replace = Replace::Never;
    held.holder = Some(Holder {
        mac: OTHER_CPE,
        acknowledged: HOUR,
    });
    assert_eq!(answer(&frame, &held, HOUR), Err(I::Held));
}

/// Waits between advertisements in seconds, with the same draw each time.
fn waits(lifetime: Duration, random: u32, times: usize) -> Vec<u64> {
    let session = Session {
        lifetime,
        ..session()
    };
    let mut schedule = Schedule::begin(HOUR);
    assert_eq!(schedule.due(), (HOUR, Kind::Current));
    let mut now = HOUR;
    let mut waits = Vec::new();
    for _ in 0..times {
        schedule = schedule.sent(now, &session, random).unwrap();
        let (next, _) = schedule.due();
        waits.push((next - now).as_secs());
        now = next;
    }
    waits
}

#[test]
fn advertisements_come_soon_and_then_by_interval() {
    let rows = [
        (HOUR, 0, [16, 16, 200, 200]),
        (HOUR, u32::MAX, [16, 16, 600, 600]),
        // A third of the lifetime at most; a third of that, and three seconds, at least.
        (Duration::from_secs(90), 0, [10, 10, 10, 10]),
        (Duration::from_secs(90), u32::MAX, [16, 16, 30, 30]),
        (Duration::from_secs(1), 0, [3, 3, 3, 3]),
        (Duration::from_secs(1), u32::MAX, [4, 4, 4, 4]),
    ];
    for (lifetime, random, expected) in rows {
        assert_eq!(waits(lifetime, random, 4), expected, "{lifetime:?}");
    }
}

#[test]
fn the_end_is_told_three_times_at_once_and_every_three_seconds() {
    let schedule = Schedule::begin(HOUR);
    let schedule = schedule.sent(HOUR, &session(), 7).unwrap();
    let mut now = HOUR + Duration::from_secs(1);
    let mut schedule = Some(schedule.end(now));
    let mut told = Vec::new();
    while let Some(ending) = schedule {
        let (due, kind) = ending.due();
        assert_eq!(kind, Kind::Final);
        told.push((due - HOUR).as_secs());
        now = due;
        schedule = ending.sent(now, &session(), 7);
    }
    assert_eq!(told, [1, 4, 7]);
}

#[test]
fn solicitations_and_changes_are_told_soon_but_not_more_often_than_every_three_seconds() {
    let second = Duration::from_secs(1);
    let begun = Schedule::begin(HOUR);
    assert_eq!(begun.solicited(HOUR), begun, "due anyway");
    let mut schedule = begun;
    let mut now = HOUR;
    for _ in 0..3 {
        schedule = schedule.sent(now, &session(), u32::MAX).unwrap();
        now += 16 * second;
    }
    let last = now - 16 * second;
    for asked in [Schedule::solicited, Schedule::changed] {
        for (now, due) in [(last + second, last + 3 * second), (now, now)] {
            let soon = asked(schedule, now);
            assert_eq!(soon.due(), (due, Kind::Current));
        }
    }
    // What has changed is told as often as what is new.
    let changed = schedule
        .changed(now)
        .sent(now, &session(), u32::MAX)
        .unwrap();
    assert_eq!(changed.due().0 - now, 16 * second);
    let solicited = schedule
        .solicited(now)
        .sent(now, &session(), u32::MAX)
        .unwrap();
    assert_eq!(solicited.due().0 - now, 600 * second);
}

/// Holds for every answer.
fn holds(frame: &[u8]) {
    let Ok(answer) = answer(frame, &line(), HOUR) else {
        return;
    };
    let asked = Packet::parse(frame).unwrap();
    assert_eq!(answer.mac, asked.source_mac);
    assert_eq!(asked.hop_limit, 255);
    let Some(frame) = answer.frame else {
        assert!(asked.source.is_unspecified());
        return;
    };
    let (packet, header, payload) = read(&frame);
    assert_eq!(packet.destination, asked.source);
    assert_eq!(packet.destination_mac, asked.source_mac);
    assert_eq!(header.router_lifetime, 1800);
    let source = NdpOptionsIterator::from_slice(&payload[8..]).next();
    assert!(matches!(
        source,
        Some(Ok(NdpOptionSlice::SourceLinkLayerAddress(_)))
    ));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        frame in proptest::collection::vec(any::<u8>(), 0..200),
        options in proptest::collection::vec(any::<u8>(), 0..80),
        flips in proptest::collection::vec((0usize..70, any::<u8>()), 0..3),
    ) {
        holds(&frame);
        let mut frame = solicitation(&options, |_| {});
        holds(&frame);
        for (at, byte) in flips {
            frame[at % 70] = byte;
        }
        holds(&frame);
    }
}
