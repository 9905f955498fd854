//! What holds whatever is asked.

use proptest::prelude::*;

use super::*;

/// Holds for every answer, whatever was asked.
fn holds(frame: &[u8], line: &Line) {
    let Ok(answer) = answer(frame, line, HOUR) else {
        return;
    };
    let asked = Datagram::parse(frame).unwrap();
    match answer.event {
        Some(
            Event::Bound(mac) | Event::Released(mac) | Event::Declined(mac) | Event::Refused(mac),
        ) => assert_eq!(mac, asked.payload[28..34]),
        None => assert!(answer.frame.is_some()),
    }
    if answer.frame.is_none() {
        return;
    }
    let (datagram, reply) = read(&answer);
    assert_eq!(datagram.source_mac, GATEWAY.mac);
    assert_eq!(datagram.tags.len(), asked.tags.len());
    assert!([BROADCAST, asked.source_mac].contains(&datagram.destination_mac));
    assert_eq!(reply.chaddr(), &asked.payload[28..34]);
    assert_eq!(reply.xid().to_be_bytes(), asked.payload[4..8]);
    let own = line.lease.as_ref().map(|lease| lease.address);
    assert!(reply.yiaddr().is_unspecified() || Some(reply.yiaddr()) == own);
    let id = reply.opts().get(OptionCode::ServerIdentifier);
    assert_eq!(id, Some(&server(SERVER)));
}

/// Any options, each as long as it says; now and then bytes that are none.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let option = (1u8..255, bytes(12)).prop_map(|(code, data)| {
        let header = [code, data.len() as u8];
        [&header[..], &data].concat()
    });
    let whole = proptest::collection::vec(option, 0..6).prop_map(|options| options.concat());
    prop_oneof![5 => whole, 1 => bytes(60)]
}

proptest! {
    #[test]
    fn any_bytes_are_survived(frame in proptest::collection::vec(any::<u8>(), 0..600)) {
        holds(&frame, &line());
    }

    #[test]
    fn any_message_is_answered_as_promised(
        kind in 1u8..9,
        client in prop_oneof![Just(NONE), Just(ADDRESS), Just(FOREIGN)],
        options in options(),
        address in proptest::option::of(prop_oneof![Just(ADDRESS), Just(FOREIGN)]),
        flips in proptest::collection::vec((0usize..240, any::<u8>()), 0..2),
        session in any::<bool>(),
    ) {
        let said = message(MessageType::from(kind), client, &[]);
        let mut payload = { let mut said = said; said.set_chaddr(&CPE); said.to_vec().unwrap() };
        payload.pop(); // the end
        if let Some(address) = address {
            payload.extend([50, 4]);
            payload.extend(address.octets());
        }
        payload.extend(options);
        for (at, byte) in flips {
            payload[at] = byte;
        }
        let line = if session { held(CPE, Replace::Never) } else { ended() };
        holds(&wrapped(&payload, CPE), &line);
    }
}
