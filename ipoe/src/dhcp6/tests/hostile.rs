//! What no ordinary client sends.

use super::*;

/// The payload of a message, changed.
fn edited(message: &Message, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = message.to_vec().unwrap();
    edit(&mut payload);
    framed(&payload, |_| {})
}

fn solicit(options: &[DhcpOption]) -> Message {
    message(MessageType::Solicit, options)
}

/// An option of bytes.
fn raw(code: u16, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(data.len()).unwrap();
    [&code.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

#[test]
fn what_is_not_answered_has_a_name() {
    let bare = || solicit(&[]).to_vec().unwrap();
    let around = |edit: fn(&mut Packet<'_>)| framed(&bare(), edit);
    let with = |option: Vec<u8>| edited(&solicit(&[]), |payload| payload.extend(option));
    let kind = |kind: u8| edited(&solicit(&[]), |payload| payload[0] = kind);
    let without_client = |kind| {
        let mut message = message(kind, &[]);
        message.opts_mut().remove(OptionCode::ClientId);
        sent(&message)
    };
    let named = |kind, duid: Duid| {
        let mut message = message(kind, &[]);
        message.opts_mut().remove_all(OptionCode::ServerId);
        let option = DhcpOption::ServerId(duid.as_bytes().to_vec());
        message.opts_mut().insert(option);
        sent(&message)
    };
    let foreign = || Duid::of_mac(OTHER_CPE);
    let unnamed = |kind| {
        let mut message = message(kind, &[]);
        message.opts_mut().remove_all(OptionCode::ServerId);
        sent(&message)
    };
    // An IA_PD of ids and times, and an option in it.
    let prefix = |option: &[u8]| raw(25, &[&[0; 12][..], option].concat());
    let mut extended = around(|_| {});
    extended[14 + TAGS.len() + 6] = 0;
    let mut fragment = around(|_| {});
    fragment[14 + TAGS.len() + 6] = 44;
    let mut short = around(|_| {});
    short.pop();
    use Ignored as I;
    use MessageType as M;
    #[rustfmt::skip]
    let rows = [
        ("hop-by-hop options", extended, I::Frame(FrameError::Extension)),
        ("a fragment", fragment, I::Frame(FrameError::Fragment)),
        ("a packet cut short", short, I::Frame(FrameError::Truncated)),
        ("to the clients' port", framed(&bare(), |packet| {
            let Body::Udp { destination_port, .. } = &mut packet.body else { unreachable!() };
            *destination_port = CLIENT_PORT;
        }), I::NotForServer),
        ("to all nodes", around(|packet| packet.destination = crate::line6::ALL_NODES), I::NotForServer),
        ("to another station", around(|packet| packet.destination_mac = OTHER_CPE), I::NotForServer),
        ("a solicit to one server", around(|packet| packet.destination = GATEWAY.address), I::NotForServer),
        ("from afar", around(|packet| packet.source = FOREIGN), I::Source),
        ("from nobody", around(|packet| packet.source = Ipv6Addr::UNSPECIFIED), I::Source),
        ("cut in the head", framed(&[1, 2, 3], |_| {}), I::Malformed),
        ("nothing", framed(&[], |_| {}), I::Malformed),
        ("a spoofed advertisement", kind(2), I::FromServer),
        ("a spoofed reply", kind(7), I::FromServer),
        ("a spoofed reconfiguration", kind(10), I::FromServer),
        ("a relay's", kind(12), I::Relayed),
        ("toward a relay", kind(13), I::FromServer),
        ("a lease query", kind(14), I::Unserved),
        ("a type that is none", kind(200), I::Unserved),
        ("an option without length", with(vec![0, 8, 0]), I::Options),
        ("an option longer than the message", with(vec![0, 8, 0, 9, 1]), I::Options),
        ("a client without a name", edited(&solicit(&[]), |payload| {
            payload.truncate(4);
            payload.extend(raw(1, &[0, 3]));
        }), I::Options),
        ("a name without end", with(raw(2, &[0; 131])), I::Options),
        ("a rapid commit with content", with(raw(14, &[1])), I::Options),
        ("an address association cut short", with(raw(3, &[0; 11])), I::Options),
        ("a temporary one cut short", with(raw(4, &[0; 3])), I::Options),
        ("a prefix cut short", with(prefix(&raw(26, &[0; 24]))), I::Options),
        ("a prefix longer than an address", with(prefix(&raw(26, &[0xff; 25]))), I::Options),
        ("longer than what it is in", with(prefix(&[0, 26, 0, 200])), I::Options),
        ("longer than the prefix it is in", with(prefix(&raw(26, &[&[0; 25][..], &[0, 13, 0, 9]].concat()))), I::Options),
        ("associations without end", with(raw(3, &[0; 12]).repeat(9)), I::TooMany),
        ("prefixes without end", with(prefix(&raw(26, &[0; 25]).repeat(9))), I::TooMany),
        ("two clients", with(raw(1, &[0, 3, 0, 1, 9])), I::Contradictory),
        ("a solicit for one server", named(M::Solicit, server()), I::Contradictory),
        ("a rebind for one server", named(M::Rebind, server()), I::Contradictory),
        ("a confirm for one server", named(M::Confirm, server()), I::Contradictory),
        ("a request for any server", unnamed(M::Request), I::Contradictory),
        ("a release for any server", unnamed(M::Release), I::Contradictory),
        ("no client", without_client(M::Solicit), I::Contradictory),
        ("a decline of nobody", without_client(M::Decline), I::Contradictory),
        ("information with a lease", sent(&message(M::InformationRequest, &[na(NA, &[])])), I::Contradictory),
        ("a request for another", named(M::Request, foreign()), I::OtherServer),
        ("a renewal for another", named(M::Renew, foreign()), I::OtherServer),
        ("information from another", named(M::InformationRequest, foreign()), I::OtherServer),
    ];
    for (name, frame, expected) in rows {
        assert_eq!(ask_as(&line(), None, &frame), Err(expected), "{name}");
    }
}

#[test]
fn options_within_each_other_do_not_recurse() {
    // Associations in associations as deep as a frame has room for: what is in the first is skipped.
    let mut nested = Vec::new();
    for _ in 0..80 {
        nested = raw(3, &[&[0; 12][..], &nested].concat());
    }
    let frame = edited(&solicit(&[]), |payload| payload.extend(nested));
    let answer = ask_as(&line(), None, &frame).unwrap();
    assert_eq!(told(&answer), ["na 0 2001:db8:2:101::1=3600"]);
}

#[test]
fn what_is_sent_to_one_server_is_told_the_group() {
    for kind in [
        MessageType::Request,
        MessageType::Renew,
        MessageType::Release,
        MessageType::Decline,
    ] {
        let message = message(kind, &[na(NA, &[ADDRESS])]);
        let frame = framed(&message.to_vec().unwrap(), |packet| {
            packet.destination = GATEWAY.address;
            packet.destination_mac = GATEWAY.mac;
        });
        let answer = ask_as(&line(), Some(&binding()), &frame).unwrap();
        assert_eq!(told(&answer), ["UseMulticast"], "{kind:?}");
        assert_eq!(answer.event, None, "{kind:?}");
    }
}
