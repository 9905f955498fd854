mod forcerenew;
mod properties;
mod relay;

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable as _, Decoder, Encodable as _};

use super::*;
use crate::frame::BROADCAST;
use crate::testing::{CPE, GATEWAY, HOUR, OTHER_CPE, TAGS, TAGS_PLAIN, policies};

const SERVER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 10);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 8, 7);

fn secret() -> Forcerenew {
    Forcerenew::derive(&[7; 32], 3, CPE, 1_700_000_000_000)
}

fn line() -> Line {
    Line {
        gateway_mac: GATEWAY.mac,
        server: SERVER,
        lease: Some(Lease {
            address: ADDRESS,
            prefix_len: 16,
            dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
            mtu: 1492,
            times: Times::of(HOUR),
            forcerenew: Some(secret()),
        }),
        holder: None,
        replace: Replace::AtOnce,
    }
}

fn held(mac: Mac, replace: Replace) -> Line {
    Line {
        holder: Some(Holder {
            mac,
            acknowledged: HOUR,
        }),
        replace,
        ..line()
    }
}

fn ended() -> Line {
    Line {
        lease: None,
        ..line()
    }
}

/// A client's message of a kind; the rest is for the case to set.
fn message(kind: MessageType, client: Ipv4Addr, options: &[DhcpOption]) -> Message {
    let mut message = Message::new_with_id(7, client, NONE, NONE, NONE, &CPE);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option.clone());
    }
    message
}

fn framed(message: &Message, mac: Mac) -> Vec<u8> {
    let mut message = message.clone();
    message.set_chaddr(&mac);
    wrapped(&message.to_vec().unwrap(), mac)
}

fn wrapped(payload: &[u8], mac: Mac) -> Vec<u8> {
    let datagram = Datagram {
        source_mac: mac,
        destination_mac: BROADCAST,
        tags: TAGS,
        source: NONE,
        destination: Ipv4Addr::BROADCAST,
        source_port: CLIENT_PORT,
        destination_port: SERVER_PORT,
        payload,
    };
    datagram.build().unwrap()
}

fn ask(line: &Line, message: &Message) -> Result<Answer, Ignored> {
    answer(&framed(message, CPE), line, HOUR)
}

fn read(answer: &Answer) -> (Datagram<'_>, Message) {
    let datagram = Datagram::parse(answer.frame.as_ref().unwrap()).unwrap();
    let payload = datagram.payload;
    // What is echoed may be anything, and nothing that the library reads.
    let echoed = raw_option(payload, 82).map(|(at, _)| at);
    let payload = &payload[..echoed.unwrap_or(payload.len())];
    let message = Message::decode(&mut Decoder::new(payload)).unwrap();
    (datagram, message)
}

/// Where an option of a message begins, and what it carries.
fn raw_option(payload: &[u8], wanted: u8) -> Option<(usize, &[u8])> {
    let mut at = 240;
    loop {
        match payload[at..] {
            [0, ..] => at += 1,
            [code, len, ..] if code != 255 => {
                let data = &payload[at + 2..][..usize::from(len)];
                if code == wanted {
                    return Some((at, data));
                }
                at += 2 + data.len();
            }
            _ => return None,
        }
    }
}

fn server(address: Ipv4Addr) -> DhcpOption {
    DhcpOption::ServerIdentifier(address)
}

fn requested(address: Ipv4Addr) -> DhcpOption {
    DhcpOption::RequestedIpAddress(address)
}

#[test]
fn an_offer_says_what_the_server_decided() {
    let discover = message(
        MessageType::Discover,
        NONE,
        &[DhcpOption::ClientIdentifier(vec![1, 2, 3])],
    );
    let answer = ask(&line(), &discover).unwrap();
    assert_eq!(answer.event, None);
    let (datagram, offer) = read(&answer);
    assert_eq!(
        (datagram.source_mac, datagram.destination_mac),
        (GATEWAY.mac, CPE)
    );
    assert_eq!((datagram.source, datagram.destination), (SERVER, ADDRESS));
    assert_eq!((datagram.source_port, datagram.destination_port), (67, 68));
    assert_eq!(datagram.tags, TAGS_PLAIN);
    assert!(datagram.payload.len() >= 300);
    assert_eq!(offer.opcode(), Opcode::BootReply);
    assert_eq!((offer.xid(), offer.yiaddr()), (7, ADDRESS));
    let expected = [
        DhcpOption::MessageType(MessageType::Offer),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 0, 0)),
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![Ipv4Addr::new(192, 0, 2, 53)]),
        DhcpOption::InterfaceMtu(1492),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::Renewal(1800),
        DhcpOption::Rebinding(3150),
        server(SERVER),
        DhcpOption::ClientIdentifier(vec![1, 2, 3]),
    ];
    for option in &expected {
        let code = OptionCode::from(option);
        assert_eq!(offer.opts().get(code), Some(option));
    }
    assert_eq!(offer.opts().len(), expected.len());
}

#[test]
fn requests_are_granted_or_refused_at_once() {
    let request = |client, options: &[DhcpOption]| message(MessageType::Request, client, options);
    let rows = [
        (
            "selecting",
            request(NONE, &[server(SERVER), requested(ADDRESS)]),
            true,
        ),
        (
            "selecting another",
            request(NONE, &[server(SERVER), requested(FOREIGN)]),
            false,
        ),
        ("rebooting", request(NONE, &[requested(ADDRESS)]), true),
        (
            "rebooting after a move",
            request(NONE, &[requested(FOREIGN)]),
            false,
        ),
        ("renewing", request(ADDRESS, &[]), true),
        ("renewing another", request(FOREIGN, &[]), false),
    ];
    for (name, request, granted) in rows {
        let answer = ask(&line(), &request).unwrap();
        let (datagram, reply) = read(&answer);
        if granted {
            assert_eq!(answer.event, Some(Event::Bound(CPE)), "{name}");
            assert!(reply.opts().has_msg_type(MessageType::Ack), "{name}");
            assert_eq!(reply.yiaddr(), ADDRESS, "{name}");
            assert_eq!(datagram.destination, ADDRESS, "{name}");
        } else {
            assert_eq!(answer.event, Some(Event::Refused(CPE)), "{name}");
            assert!(reply.opts().has_msg_type(MessageType::Nak), "{name}");
            assert_eq!(reply.yiaddr(), NONE, "{name}");
            assert_eq!(datagram.destination, Ipv4Addr::BROADCAST, "{name}");
        }
        let answer = ask(&ended(), &request).unwrap();
        let nak = read(&answer).1.opts().has_msg_type(MessageType::Nak);
        assert!(nak, "{name}, once the session has ended");
    }
}

#[test]
fn who_renews_is_refused_at_its_address() {
    let mut request = message(MessageType::Request, FOREIGN, &[]);
    request.set_chaddr(&CPE);
    let payload = request.to_vec().unwrap();
    for (source, destination, told_at) in [
        (FOREIGN, SERVER, FOREIGN),
        (FOREIGN, Ipv4Addr::BROADCAST, Ipv4Addr::BROADCAST),
        (ADDRESS, SERVER, Ipv4Addr::BROADCAST),
    ] {
        let datagram = Datagram {
            source_mac: CPE,
            destination_mac: GATEWAY.mac,
            tags: TAGS,
            source,
            destination,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
            payload: &payload,
        };
        let answer = answer(&datagram.build().unwrap(), &ended(), HOUR).unwrap();
        assert_eq!(answer.event, Some(Event::Refused(CPE)));
        let (datagram, nak) = read(&answer);
        assert!(nak.opts().has_msg_type(MessageType::Nak));
        assert_eq!(datagram.destination, told_at);
        let to_all = told_at == Ipv4Addr::BROADCAST;
        let mac = if to_all { BROADCAST } else { CPE };
        assert_eq!(datagram.destination_mac, mac);
        assert_eq!(nak.flags().broadcast(), to_all);
    }
}

#[test]
fn a_client_that_asks_for_it_is_answered_by_broadcast() {
    let mut discover = message(MessageType::Discover, NONE, &[]);
    discover.set_flags(Flags::default().set_broadcast());
    let answer = ask(&line(), &discover).unwrap();
    let (datagram, offer) = read(&answer);
    assert_eq!(datagram.destination_mac, BROADCAST);
    assert_eq!(datagram.destination, Ipv4Addr::BROADCAST);
    assert!(offer.flags().broadcast());
}

#[test]
fn a_router_off_the_link_is_reached_by_classless_routes() {
    let asks = DhcpOption::ParameterRequestList(vec![OptionCode::ClasslessStaticRoute]);
    let discover = message(MessageType::Discover, NONE, &[asks]);
    let routes = |line: &Line, discover: &Message| {
        let answer = ask(line, discover).unwrap();
        let (_, offer) = read(&answer);
        offer.opts().get(OptionCode::ClasslessStaticRoute).cloned()
    };
    let mut apart = line();
    apart.lease.as_mut().unwrap().prefix_len = 32;
    let expected = DhcpOption::ClasslessStaticRoute(vec![
        (ipnet::Ipv4Net::from(SERVER), NONE),
        (ipnet::Ipv4Net::default(), SERVER),
    ]);
    assert_eq!(routes(&apart, &discover), Some(expected));
    assert_eq!(
        routes(&line(), &discover),
        None,
        "the router is on the link"
    );
    let plain = message(MessageType::Discover, NONE, &[]);
    assert_eq!(routes(&apart, &plain), None, "not asked for");
}

#[test]
fn another_client_takes_over_by_policy() {
    let request = message(MessageType::Request, ADDRESS, &[]);
    let discover = message(MessageType::Discover, NONE, &[]);
    for (holder, replace, taken_over) in policies() {
        let line = held(holder, replace);
        let expected = taken_over.then_some(()).ok_or(Ignored::Held);
        assert_eq!(ask(&line, &request).map(|_| ()), expected, "{line:?}");
        assert_eq!(ask(&line, &discover).map(|_| ()), expected, "{line:?}");
    }
}

#[test]
fn only_the_holder_gives_back() {
    let release = message(MessageType::Release, ADDRESS, &[server(SERVER)]);
    let decline = message(
        MessageType::Decline,
        NONE,
        &[server(SERVER), requested(ADDRESS)],
    );
    let own = held(CPE, Replace::AtOnce);
    for (message, event) in [
        (&release, Event::Released(CPE)),
        (&decline, Event::Declined(CPE)),
    ] {
        let silent = Answer::of(None, Some(event));
        assert_eq!(ask(&own, message), Ok(silent));
        let foreign = held(OTHER_CPE, Replace::AtOnce);
        assert_eq!(ask(&foreign, message), Err(Ignored::Held));
        assert_eq!(ask(&line(), message), Err(Ignored::Held));
        assert_eq!(ask(&ended(), message), Err(Ignored::NoSession));
    }
    let foreign = message(MessageType::Release, FOREIGN, &[]);
    assert_eq!(ask(&own, &foreign), Err(Ignored::ForeignAddress));
}

#[test]
fn inform_is_answered_without_a_lease() {
    let answer = ask(&line(), &message(MessageType::Inform, ADDRESS, &[])).unwrap();
    assert_eq!(answer.event, None);
    let (datagram, ack) = read(&answer);
    assert_eq!(datagram.destination, ADDRESS);
    assert!(ack.opts().has_msg_type(MessageType::Ack));
    assert_eq!(ack.yiaddr(), NONE);
    assert!(!ack.opts().contains(OptionCode::AddressLeaseTime));
    assert!(ack.opts().contains(OptionCode::DomainNameServer));
}

#[test]
fn what_is_not_answered_has_a_name() {
    let discover = || message(MessageType::Discover, NONE, &[]);
    let payload = || {
        let mut discover = discover();
        discover.set_chaddr(&CPE);
        discover.to_vec().unwrap()
    };
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = payload();
        edit(&mut payload);
        wrapped(&payload, CPE)
    };
    let said = |message: Message| framed(&message, CPE);
    let request = |options: &[DhcpOption]| said(message(MessageType::Request, NONE, options));
    let from_server_port = |relay: Ipv4Addr| {
        let mut discover = discover();
        discover.set_giaddr(relay);
        let mut frame = said(discover);
        // Source port 67.
        frame[14 + TAGS.len() + 20 + 1] = 67;
        frame
    };
    let mut frame = said(discover());
    // Inner destination port 68: a server's message.
    let port = 14 + TAGS.len() + 20 + 3;
    frame[port] = 68;
    let rows = [
        ("spoofed server's port", frame, Ignored::NotForServer),
        (
            "spoofed server",
            said(message(MessageType::Offer, NONE, &[])),
            Ignored::FromServer,
        ),
        (
            "reply",
            edited(&|payload| payload[0] = 2),
            Ignored::FromServer,
        ),
        (
            "a relay's port without a relay",
            from_server_port(NONE),
            Ignored::NotForServer,
        ),
        (
            "relayed for no station",
            edited(&|payload| {
                payload[24..28].copy_from_slice(&RELAY.octets());
                payload[28] |= 1;
            }),
            Ignored::ForeignHardware,
        ),
        (
            "hardware address of another",
            edited(&|payload| payload[33] ^= 1),
            Ignored::ForeignHardware,
        ),
        (
            "hardware address too long",
            edited(&|payload| payload[2] = 200),
            Ignored::ForeignHardware,
        ),
        (
            "cookie",
            edited(&|payload| payload[236] = 0),
            Ignored::Malformed,
        ),
        (
            "cut short",
            edited(&|payload| payload.truncate(239)),
            Ignored::Malformed,
        ),
        (
            "no type",
            edited(&|payload| payload.truncate(240)),
            Ignored::Malformed,
        ),
        (
            "option too long",
            edited(&|payload| {
                payload.truncate(243);
                payload.extend([12, 9, b'x']);
            }),
            Ignored::Options,
        ),
        (
            "option without length",
            edited(&|payload| {
                payload.truncate(243);
                payload.push(12);
            }),
            Ignored::Options,
        ),
        (
            "lease query",
            said(message(MessageType::LeaseQuery, NONE, &[])),
            Ignored::Unserved,
        ),
        (
            "other server",
            request(&[server(FOREIGN), requested(ADDRESS)]),
            Ignored::OtherServer,
        ),
        ("no address", request(&[]), Ignored::Contradictory),
        (
            "inform without an address",
            said(message(MessageType::Inform, NONE, &[])),
            Ignored::Contradictory,
        ),
    ];
    for (name, frame, expected) in rows {
        assert_eq!(answer(&frame, &line(), HOUR), Err(expected), "{name}");
    }
    assert_eq!(ask(&ended(), &discover()), Err(Ignored::NoSession));
}
