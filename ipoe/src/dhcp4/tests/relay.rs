//! What stands between a client and the gateway: a relay, or a switch that says where the client is.

use super::*;

/// What an access switch says: circuit and remote id (RFC 3046, 3), and a suboption that nobody knows.
const SAID: &[u8] = &[
    1, 7, b'p', b'o', b'r', b't', b' ', b'1', b'7', 2, 3, 9, 9, 9, 200, 1, 0,
];

/// A client's message with more options at its end, before what ends them.
fn with(message: &Message, mac: Mac, more: &[u8]) -> Vec<u8> {
    let mut message = message.clone();
    message.set_chaddr(&mac);
    let mut payload = message.to_vec().unwrap();
    payload.pop();
    payload.extend_from_slice(more);
    payload.push(255);
    payload
}

fn said() -> Vec<u8> {
    [&[82, SAID.len() as u8], SAID].concat()
}

/// What follows the option in which the answer returns what was said.
fn returned(answer: &Answer) -> Option<(Vec<u8>, Vec<u8>)> {
    let datagram = Datagram::parse(answer.frame.as_ref().unwrap()).unwrap();
    let (at, data) = raw_option(datagram.payload, 82)?;
    let after = datagram.payload[at + 2 + data.len()..].to_vec();
    Some((data.to_vec(), after))
}

#[test]
fn what_a_switch_says_is_returned_last_and_decides_nothing() {
    let messages = [
        message(MessageType::Discover, NONE, &[]),
        message(MessageType::Request, NONE, &[requested(ADDRESS)]),
        message(MessageType::Request, NONE, &[requested(FOREIGN)]),
        message(MessageType::Inform, ADDRESS, &[]),
    ];
    for message in &messages {
        let plain = ask(&line(), message).unwrap();
        assert_eq!(returned(&plain), None);
        let frame = wrapped(&with(message, CPE, &said()), CPE);
        let told = answer(&frame, &line(), HOUR).unwrap();
        assert_eq!(told.event, plain.event);
        let (data, after) = returned(&told).unwrap();
        assert_eq!(data, SAID);
        assert_eq!(after[0], 255, "the last one");
        assert!(after[1..].iter().all(|byte| *byte == 0));
        let ((datagram, reply), (alone, without)) = (read(&told), read(&plain));
        assert_eq!(reply.opts(), without.opts());
        assert_eq!(reply.yiaddr(), without.yiaddr());
        assert_eq!(datagram.destination, alone.destination);
        assert_eq!(datagram.destination_mac, alone.destination_mac);
    }
}

#[test]
fn whatever_is_said_the_line_has_its_own_session_only() {
    // Another's circuit, and another's address as the relay's: the same address, the same holder.
    let other = held(OTHER_CPE, Replace::Never);
    let discover = message(MessageType::Discover, NONE, &[]);
    let forged = with(&discover, CPE, &said());
    let told = answer(&wrapped(&forged, CPE), &other, HOUR);
    assert_eq!(told, Err(Ignored::Held));
    let mut relayed = discover;
    relayed.set_giaddr(ADDRESS);
    let forged = with(&relayed, CPE, &said());
    let told = answer(&wrapped(&forged, CPE), &other, HOUR);
    assert_eq!(told, Err(Ignored::Held));
    let told = answer(&wrapped(&forged, CPE), &ended(), HOUR);
    assert_eq!(told, Err(Ignored::NoSession));
}

#[test]
fn a_relay_is_answered_for_its_client() {
    let relay_mac = OTHER_CPE;
    let request = |wanted| {
        let mut request = message(MessageType::Request, NONE, &[requested(wanted)]);
        request.set_giaddr(RELAY);
        let payload = with(&request, CPE, &said());
        // From the one port, and from the other: relays do both.
        [CLIENT_PORT, SERVER_PORT].map(|source_port| {
            let datagram = Datagram {
                source_mac: relay_mac,
                destination_mac: GATEWAY.mac,
                tags: TAGS,
                source: RELAY,
                destination: SERVER,
                source_port,
                destination_port: SERVER_PORT,
                payload: &payload,
            };
            datagram.build().unwrap()
        })
    };
    for (wanted, event) in [(ADDRESS, Event::Bound(CPE)), (FOREIGN, Event::Refused(CPE))] {
        for frame in request(wanted) {
            assert_eq!(client(&Datagram::parse(&frame).unwrap()), CPE);
            let told = answer(&frame, &line(), HOUR).unwrap();
            assert_eq!(told.event, Some(event));
            assert_eq!(returned(&told).unwrap().0, SAID);
            let (datagram, reply) = read(&told);
            assert_eq!(datagram.destination_mac, relay_mac);
            assert_eq!(datagram.destination, RELAY);
            assert_eq!((datagram.source_port, datagram.destination_port), (67, 67));
            assert_eq!(reply.giaddr(), RELAY);
            assert_eq!(reply.chaddr(), CPE);
        }
    }
}
