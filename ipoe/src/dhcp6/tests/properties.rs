//! What holds whatever is asked.

use proptest::prelude::*;

use super::*;

/// The smallest MTU of IPv6, and what a frame adds.
const FRAME_MAX: usize = 1280 + 14 + 8;

/// Holds for every answer.
fn holds(frame: &[u8], line: &Line, binding: Option<&Binding>) {
    let Ok(answer) = ask_as(line, binding, frame) else {
        return;
    };
    let asked = Packet::parse(frame).unwrap();
    let (packet, reply) = read(&answer);
    assert!(answer.frame.as_ref().unwrap().len() <= FRAME_MAX);
    assert_eq!(packet.source_mac, GATEWAY.mac);
    assert_eq!(packet.destination_mac, asked.source_mac);
    assert_eq!(packet.destination, asked.source);
    assert_eq!(packet.tags.len(), asked.tags.len());
    let server = DhcpOption::ServerId(server().as_bytes().to_vec());
    assert_eq!(reply.opts().get(OptionCode::ServerId), Some(&server));
    let mut valid = Vec::new();
    for option in reply.opts().iter() {
        let (DhcpOption::IANA(IANA { t1, t2, opts, .. })
        | DhcpOption::IAPD(IAPD { t1, t2, opts, .. })) = option
        else {
            continue;
        };
        assert!(t1 <= t2);
        valid.extend(opts.iter().filter_map(|option| match option {
            DhcpOption::IAAddr(lease) if lease.valid_life > 0 => Some(Ipv6Net::from(lease.addr)),
            DhcpOption::IAPrefix(lease) if lease.valid_lifetime > 0 => {
                Ipv6Net::new(lease.prefix_ip, lease.prefix_len).ok()
            }
            _ => None,
        }));
    }
    // Nothing but what the server has decided, and once.
    let session = line.session.as_ref();
    let address = session.and_then(Session::address).map(Ipv6Net::from);
    let prefix = session.and_then(|session| session.delegated);
    assert!(valid.len() <= 2);
    assert!(
        valid
            .iter()
            .all(|net| [address, prefix].contains(&Some(*net)))
    );
    match answer.event {
        Some(Event::Bound(bound)) => {
            assert!(session.is_some(), "bound to nothing");
            assert_eq!(bound.client.mac, asked.source_mac);
        }
        Some(Event::Released(given) | Event::Declined(given)) => {
            assert_eq!(Some(&given.client), binding.map(|binding| &binding.client));
            assert_eq!(given.client.mac, asked.source_mac);
        }
        Some(Event::Refused(mac)) => {
            assert_eq!(mac, asked.source_mac);
            assert_eq!(valid, []);
        }
        None => {}
    }
}

/// Any options, each as long as it says; now and then bytes that are none.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let option = (1u16..30, bytes(50)).prop_map(|(code, data)| raw(code, &data));
    let whole = proptest::collection::vec(option, 0..6).prop_map(|options| options.concat());
    prop_oneof![5 => whole, 1 => bytes(60)]
}

fn raw(code: u16, data: &[u8]) -> Vec<u8> {
    [
        &code.to_be_bytes()[..],
        &(data.len() as u16).to_be_bytes(),
        data,
    ]
    .concat()
}

/// Associations as clients have them.
fn associations() -> impl Strategy<Value = Vec<DhcpOption>> {
    let address = prop_oneof![
        Just(ADDRESS),
        Just(NEARBY),
        Just(FOREIGN),
        Just(Ipv6Addr::UNSPECIFIED)
    ];
    let prefix = prop_oneof![Just(delegated()), Just(foreign()), Just(net("::/48"))];
    let addresses = proptest::collection::vec(address, 0..3);
    let prefixes = proptest::collection::vec(prefix, 0..3);
    let id = prop_oneof![Just(NA), Just(PD), any::<u32>()];
    let association =
        (0..3, id, addresses, prefixes).prop_map(|(what, id, addresses, prefixes)| match what {
            0 => na(id, &addresses),
            1 => ta(id, &addresses),
            _ => pd(id, &prefixes),
        });
    proptest::collection::vec(association, 0..5)
}

proptest! {
    #[test]
    fn any_bytes_are_survived(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        holds(&framed(&payload, |_| {}), &line(), Some(&binding()));
        holds(&payload, &line(), None);
    }

    #[test]
    fn any_message_is_answered_as_promised(
        kind in 1u8..14,
        associations in associations(),
        options in options(),
        flips in proptest::collection::vec((0usize..200, any::<u8>()), 0..2),
        session in any::<bool>(),
        bound in any::<bool>(),
    ) {
        let said = message(MessageType::from(kind), &associations);
        let mut payload = said.to_vec().unwrap();
        payload.extend(options);
        for (at, byte) in flips {
            if let Some(place) = payload.get_mut(at) {
                *place = byte;
            }
        }
        let line = if session { held(CPE, Replace::Never) } else { ended() };
        let binding = binding();
        holds(&framed(&payload, |_| {}), &line, bound.then_some(&binding));
    }

    /// What is granted is granted again, by the same association, as long as it is renewed.
    #[test]
    fn a_renewal_gives_what_was_given(associations in associations()) {
        let line = held(CPE, Replace::Never);
        let solicit = message(MessageType::Request, &associations);
        let answer = ask(&line, &solicit).unwrap();
        let Some(Event::Bound(bound)) = answer.event else {
            return Ok(());
        };
        let mut renewed = Vec::new();
        renewed.extend(bound.address.map(|id| na(id, &[ADDRESS])));
        renewed.extend(bound.prefix.map(|id| pd(id, &[delegated()])));
        let renew = sent(&message(MessageType::Renew, &renewed));
        for binding in [None, Some(&bound)] {
            let answer = ask_as(&line, binding, &renew).unwrap();
            prop_assert_eq!(&answer.event, &Some(Event::Bound(bound.clone())));
            prop_assert!(told(&answer).iter().all(|told| told.ends_with("=3600")));
        }
    }
}
