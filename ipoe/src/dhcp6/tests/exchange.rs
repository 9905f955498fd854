//! What ordinary clients ask.

use super::*;

const NA_OWN: &str = "na 11 2001:db8:2:101::1=3600";
const PD_OWN: &str = "pd 22 2001:db8:1:100::/56=3600";

fn both(kind: MessageType) -> Message {
    message(kind, &[na(NA, &[ADDRESS]), pd(PD, &[delegated()])])
}

#[test]
fn an_advertisement_says_what_the_server_decided() {
    let solicit = message(MessageType::Solicit, &[na(NA, &[]), pd(PD, &[])]);
    let answer = ask(&line(), &solicit).unwrap();
    assert_eq!(answer.event, None);
    let (packet, advertise) = read(&answer);
    assert_eq!(
        (packet.source_mac, packet.destination_mac),
        (GATEWAY.mac, CPE)
    );
    assert_eq!(
        (packet.source, packet.destination),
        (GATEWAY.address, CPE_ADDRESS)
    );
    assert_eq!(packet.tags, TAGS_PLAIN);
    assert_eq!(advertise.msg_type(), MessageType::Advertise);
    assert_eq!(advertise.xid(), XID);
    let lease = |opts: DhcpOptions, option: DhcpOption| {
        let mut opts = opts;
        opts.insert(option);
        opts
    };
    let expected = [
        DhcpOption::ClientId(client().duid.as_bytes().to_vec()),
        DhcpOption::ServerId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe]),
        DhcpOption::IANA(IANA {
            id: NA,
            t1: 1800,
            t2: 2880,
            opts: lease(
                DhcpOptions::new(),
                DhcpOption::IAAddr(IAAddr {
                    addr: ADDRESS,
                    preferred_life: 3600,
                    valid_life: 3600,
                    opts: DhcpOptions::new(),
                }),
            ),
        }),
        DhcpOption::Preference(255),
        DhcpOption::DomainNameServers(vec![RESOLVER]),
        DhcpOption::IAPD(IAPD {
            id: PD,
            t1: 1800,
            t2: 2880,
            opts: lease(
                DhcpOptions::new(),
                DhcpOption::IAPrefix(IAPrefix {
                    preferred_lifetime: 3600,
                    valid_lifetime: 3600,
                    prefix_len: 56,
                    prefix_ip: delegated().addr(),
                    opts: DhcpOptions::new(),
                }),
            ),
        }),
    ];
    let found: Vec<_> = advertise.opts().iter().cloned().collect();
    assert_eq!(found, expected);
}

#[test]
fn a_rapid_commit_binds_at_once() {
    let asks = |options: &[DhcpOption]| {
        let mut solicit = message(MessageType::Solicit, options);
        solicit.opts_mut().insert(DhcpOption::RapidCommit);
        let answer = ask(&line(), &solicit).unwrap();
        let (_, reply) = read(&answer);
        let rapid = reply.opts().get(OptionCode::RapidCommit).is_some();
        (reply.msg_type(), rapid, answer.event)
    };
    let bound = Some(Event::Bound(binding()));
    let all = asks(&[na(NA, &[]), pd(PD, &[])]);
    assert_eq!(all, (MessageType::Reply, true, bound));
    // There is nothing to be committed.
    let none = asks(&[ta(5, &[])]);
    assert_eq!(none, (MessageType::Advertise, false, None));
}

#[test]
fn associations_are_told_by_table() {
    use MessageType::{Rebind, Renew, Request, Solicit};
    let hint = net("::/48");
    let unspecified = Ipv6Addr::UNSPECIFIED;
    #[rustfmt::skip]
    let rows: &[(&str, MessageType, Vec<DhcpOption>, &[&str])] = &[
        ("hints are no leases", Solicit, vec![na(NA, &[unspecified]), pd(PD, &[hint])], &[NA_OWN, PD_OWN]),
        ("other hints neither", Solicit, vec![na(NA, &[FOREIGN]), pd(PD, &[foreign()])], &[NA_OWN, PD_OWN]),
        ("only a prefix", Request, vec![pd(PD, &[delegated()])], &[PD_OWN]),
        ("another prefix", Request, vec![pd(PD, &[foreign()])], &[PD_OWN]),
        ("host bits of a prefix", Renew, vec![pd(PD, &[net("2001:db8:1:1ff::/56")])], &[PD_OWN]),
        ("an address of the line", Request, vec![na(NA, &[NEARBY])], &[NA_OWN]),
        ("an address of another link", Request, vec![na(NA, &[FOREIGN])], &["na 11 NotOnLink"]),
        ("one of two of another link", Request, vec![na(NA, &[ADDRESS, FOREIGN])], &["na 11 NotOnLink"]),
        ("another association is on the link", Request, vec![na(NA, &[FOREIGN]), na(12, &[])],
            &["na 11 NotOnLink", "na 12 2001:db8:2:101::1=3600"]),
        ("temporary", Request, vec![ta(5, &[])], &["ta 5 NoAddrsAvail"]),
        ("the same twice", Request, vec![na(NA, &[]), na(NA, &[])], &[NA_OWN, "na 11 NoAddrsAvail"]),
        ("one address for two", Solicit, vec![na(12, &[]), na(NA, &[])], &["na 12 NoAddrsAvail", NA_OWN]),
        ("one prefix for two", Solicit, vec![pd(PD, &[]), pd(23, &[])], &[PD_OWN, "pd 23 NoPrefixAvail"]),
        ("who lists it has it", Renew, vec![na(NA, &[]), na(12, &[ADDRESS])],
            &["na 11 NoAddrsAvail", "na 12 2001:db8:2:101::1=3600"]),
        ("renewed", Renew, vec![na(NA, &[ADDRESS]), pd(PD, &[delegated()])], &[NA_OWN, PD_OWN]),
        ("renewed after a change", Renew, vec![na(NA, &[NEARBY]), pd(PD, &[foreign()])],
            &["na 11 2001:db8:2:101::1=3600 2001:db8:2:101::9=0",
              "pd 22 2001:db8:1:100::/56=3600 2001:db8:77:100::/56=0"]),
        ("rebound after a move", Rebind, vec![pd(PD, &[foreign()])],
            &["pd 22 2001:db8:1:100::/56=3600 2001:db8:77:100::/56=0"]),
        ("a temporary one of elsewhere", Rebind, vec![ta(5, &[FOREIGN])], &["ta 5 2001:db8:4d::1=0"]),
        ("nothing had, nothing to be had", Renew, vec![ta(5, &[])], &["ta 5 NoAddrsAvail"]),
    ];
    for (name, kind, options, expected) in rows {
        let answer = ask(&line(), &message(*kind, options)).unwrap();
        assert_eq!(told(&answer), *expected, "{name}");
    }
}

#[test]
fn the_association_that_is_recorded_keeps_the_address() {
    let binding = Binding {
        address: Some(12),
        ..binding()
    };
    let request = sent(&message(
        MessageType::Request,
        &[na(NA, &[ADDRESS]), na(12, &[])],
    ));
    let answer = ask_as(&line(), Some(&binding), &request).unwrap();
    let expected = ["na 11 NoAddrsAvail", "na 12 2001:db8:2:101::1=3600"];
    assert_eq!(told(&answer), expected);
    // What is not asked for now stays.
    assert_eq!(answer.event, Some(Event::Bound(binding.clone())));
    // Another client's record is of no meaning.
    let other = Binding {
        client: Client {
            mac: OTHER_CPE,
            duid: client().duid,
        },
        ..binding
    };
    let answer = ask_as(&line(), Some(&other), &request).unwrap();
    assert_eq!(told(&answer), [NA_OWN, "na 12 NoAddrsAvail"]);
}

#[test]
fn what_a_session_lacks_is_not_given() {
    let mut prefix_only = line();
    prefix_only.session.as_mut().unwrap().line = None;
    let mut address_only = line();
    address_only.session.as_mut().unwrap().delegated = None;
    let request = message(MessageType::Request, &[na(NA, &[]), pd(PD, &[])]);
    let rows = [
        (&prefix_only, ["na 11 NoAddrsAvail", PD_OWN], None, Some(PD)),
        (
            &address_only,
            [NA_OWN, "pd 22 NoPrefixAvail"],
            Some(NA),
            None,
        ),
    ];
    for (line, expected, address, prefix) in rows {
        let answer = ask(line, &request).unwrap();
        assert_eq!(told(&answer), expected);
        let bound = Binding {
            client: client(),
            address,
            prefix,
        };
        assert_eq!(answer.event, Some(Event::Bound(bound)));
    }
}

#[test]
fn a_session_that_has_ended_is_told_at_once() {
    let refused = Some(Event::Refused(CPE));
    for kind in [MessageType::Renew, MessageType::Rebind] {
        let answer = ask(&ended(), &both(kind)).unwrap();
        let expected = ["na 11 2001:db8:2:101::1=0", "pd 22 2001:db8:1:100::/56=0"];
        assert_eq!(told(&answer), expected, "{kind:?}");
        assert_eq!(answer.event, refused, "{kind:?}");
        let bare = message(kind, &[na(NA, &[]), pd(PD, &[])]);
        let answer = ask(&ended(), &bare).unwrap();
        assert_eq!(told(&answer), ["na 11 NoBinding", "pd 22 NoBinding"]);
    }
    let request = ask(&ended(), &both(MessageType::Request)).unwrap();
    assert_eq!(told(&request), ["na 11 NotOnLink", "pd 22 NoPrefixAvail"]);
    assert_eq!(request.event, refused);
    for kind in [MessageType::Solicit, MessageType::InformationRequest] {
        let answer = ask(&ended(), &message(kind, &[]));
        assert_eq!(answer, Err(Ignored::NoSession), "{kind:?}");
    }
}

#[test]
fn confirm_tells_whether_the_client_has_moved() {
    let confirm = |options: &[DhcpOption]| message(MessageType::Confirm, options);
    let bound = |address| {
        Some(Event::Bound(Binding {
            client: client(),
            address,
            prefix: None,
        }))
    };
    let refused = || Some(Event::Refused(CPE));
    let rows = [
        (
            "own",
            confirm(&[na(NA, &[ADDRESS])]),
            "Success",
            bound(Some(NA)),
        ),
        (
            "of the line",
            confirm(&[na(NA, &[NEARBY])]),
            "Success",
            bound(Some(NA)),
        ),
        (
            "temporary",
            confirm(&[ta(5, &[NEARBY])]),
            "Success",
            bound(None),
        ),
        (
            "foreign",
            confirm(&[na(NA, &[FOREIGN])]),
            "NotOnLink",
            refused(),
        ),
        (
            "one foreign",
            confirm(&[na(NA, &[ADDRESS]), ta(5, &[FOREIGN])]),
            "NotOnLink",
            refused(),
        ),
    ];
    for (name, confirm, status, event) in rows {
        let answer = ask(&line(), &confirm).unwrap();
        assert_eq!(told(&answer), [status], "{name}");
        assert_eq!(answer.event, event, "{name}");
        let answer = ask(&ended(), &confirm).unwrap();
        assert_eq!(told(&answer), ["NotOnLink"], "{name}, and no session");
    }
    for nothing in [confirm(&[na(NA, &[])]), confirm(&[pd(PD, &[delegated()])])] {
        assert_eq!(ask(&line(), &nothing), Err(Ignored::NothingToConfirm));
    }
}

#[test]
fn only_what_is_held_is_given_back() {
    let part = |address, prefix| Binding {
        client: client(),
        address,
        prefix,
    };
    let unknown = [na(NA, &[ADDRESS]), pd(23, &[delegated()])];
    let foreign = [na(NA, &[FOREIGN]), pd(PD, &[delegated()])];
    #[rustfmt::skip]
    let rows: [(&str, Message, &[&str], Option<Event>); 5] = [
        ("all", both(MessageType::Release), &["Success"],
            Some(Event::Released(binding()))),
        ("one unknown", message(MessageType::Release, &unknown), &["Success", "pd 23 NoBinding"],
            Some(Event::Released(part(Some(NA), None)))),
        ("one foreign", message(MessageType::Release, &foreign), &["Success"],
            Some(Event::Released(part(None, Some(PD))))),
        ("nothing listed", message(MessageType::Release, &[na(NA, &[])]), &["Success"], None),
        ("an address in use, and a prefix cannot be", both(MessageType::Decline), &["Success"],
            Some(Event::Declined(part(Some(NA), None)))),
    ];
    for (name, message, expected, event) in rows {
        let answer = ask_as(&line(), Some(&binding()), &sent(&message)).unwrap();
        let mut found = told(&answer);
        found.sort();
        assert_eq!(found, expected, "{name}");
        assert_eq!(answer.event, event, "{name}");
        // Who is not known holds nothing.
        let answer = ask(&held(OTHER_CPE, Replace::Never), &message).unwrap();
        assert!(told(&answer).iter().any(|line| line.ends_with("NoBinding")));
        assert_eq!(answer.event, None, "{name}");
    }
}

#[test]
fn information_is_told_without_a_lease() {
    let mut line = line();
    let mut ask_for = |lifetime| {
        line.session.as_mut().unwrap().lifetime = lifetime;
        let mut asks = Message::new_with_id(MessageType::InformationRequest, XID);
        asks.opts_mut().insert(DhcpOption::RapidCommit);
        let answer = ask(&line, &asks).unwrap();
        assert_eq!(answer.event, None);
        let (_, reply) = read(&answer);
        assert_eq!(reply.msg_type(), MessageType::Reply);
        reply.opts().iter().cloned().collect::<Vec<_>>()
    };
    // The library writes this option and does not read it.
    let refresh = |seconds: u32| {
        let seconds = seconds.to_be_bytes().to_vec();
        UnknownOption::new(OptionCode::InformationRefreshTime, seconds)
    };
    let expected = |seconds| {
        vec![
            DhcpOption::ServerId(server().as_bytes().to_vec()),
            DhcpOption::DomainNameServers(vec![RESOLVER]),
            DhcpOption::Unknown(refresh(seconds)),
        ]
    };
    assert_eq!(ask_for(HOUR), expected(3600));
    assert_eq!(ask_for(Duration::from_secs(60)), expected(600));
}

#[test]
fn what_is_for_ever_stays_so() {
    let mut line = line();
    line.session.as_mut().unwrap().lifetime = Duration::MAX;
    let answer = ask(&line, &both(MessageType::Renew)).unwrap();
    let (_, reply) = read(&answer);
    let Some(DhcpOption::IAPD(prefix)) = reply.opts().get(OptionCode::IAPD) else {
        panic!("no IA_PD: {reply:?}");
    };
    assert_eq!((prefix.t1, prefix.t2), (u32::MAX, u32::MAX));
    assert!(told(&answer)[1].ends_with("=4294967295"));
}

#[test]
fn another_client_takes_over_by_policy() {
    for (holder, replace, taken_over) in policies() {
        let line = held(holder, replace);
        let expected = taken_over.then_some(()).ok_or(Ignored::Held);
        for kind in [
            MessageType::Solicit,
            MessageType::Request,
            MessageType::Confirm,
            MessageType::Renew,
            MessageType::Rebind,
        ] {
            let answer = ask(&line, &both(kind)).map(|_| ());
            assert_eq!(answer, expected, "{kind:?} {line:?}");
        }
        let answer = ask(&line, &message(MessageType::InformationRequest, &[]));
        assert_eq!(answer.map(|_| ()), expected, "{line:?}");
    }
}
