//! What should be there, and what to change for it: pure, case by case.

use std::collections::BTreeMap;

use doorstep_establish::{TPID_8021AD, TPID_8021Q, Tag, Tags};
use doorstep_terminal::config::{Home, Mode, Wan, WanTags};
use doorstep_terminal::links::desired::desired;
use doorstep_terminal::links::own_rooms::Chosen;
use doorstep_terminal::links::plan::{Plan, Step};
use doorstep_terminal::links::{Item, Owned};

use crate::support::declared::{home, made, session, wan};

fn vlans(items: &[Item]) -> Vec<(String, String, Tag)> {
    let vlan = |item: &Item| match item {
        Item::Vlan { name, parent, tag } => Some((name.clone(), parent.clone(), *tag)),
        _ => None,
    };
    items.iter().filter_map(vlan).collect()
}

#[test]
fn vlan_interfaces_by_tags() {
    let (s, c) = (
        |vid| Tag {
            tpid: TPID_8021AD,
            vid,
        },
        |vid| Tag {
            tpid: TPID_8021Q,
            vid,
        },
    );
    let one = |name: &str, parent: &str, tag| (name.to_owned(), parent.to_owned(), tag);
    let cases = [
        ("wan0", &[][..], vec![], "wan0"),
        (
            "wan0",
            &[101],
            vec![one("wan0.101", "wan0", c(101))],
            "wan0.101",
        ),
        (
            "wan0",
            &[101, 1004],
            vec![
                one("wan0.s101", "wan0", s(101)),
                one("wan0.s101.1004", "wan0.s101", c(1004)),
            ],
            "wan0.s101.1004",
        ),
    ];
    for (port, vids, expected, wan_interface) in cases {
        let session = session(port, vids);
        assert_eq!(session.wan_interface(), wan_interface);
        assert_eq!(
            vlans(&desired(&wan(), None, &[session], &Chosen::new())),
            expected,
            "{vids:?}"
        );
    }
    // Names that do not fit the kernel are replaced, differently for different lines.
    let long = |vid| session("enp130s0f1np1", &[101, vid]).wan_interface();
    assert!(
        long(1004).len() <= 15 && long(1004) != long(1005),
        "{}",
        long(1004)
    );
    assert!(session("x", &[1]).tags.as_slice()[0].tpid == TPID_8021Q);
}

#[test]
fn a_line_prefix_is_the_terminals_own_and_the_delegated_one_the_rooms() {
    let mut own = session("wan0", &[]);
    own.offer.ipv6_line = Some("2001:db8:f:101::/64".parse().unwrap());
    let home = Home {
        bridge: "br-home".into(),
        room_ports: vec!["room0".into()],
        ipv4: None,
        masquerade: false,
        dhcp: true,
        mode: Mode::Routed,
        session: None,
        resolver_file: None,
        app: None,
        rooms: BTreeMap::new(),
    };
    let items = desired(&wan(), Some(&home), &[own.clone()], &Chosen::new());
    let addresses: Vec<_> = items
        .iter()
        .filter_map(|item| match item {
            Item::Address { link, address } => Some(format!("{link} {address}")),
            _ => None,
        })
        .collect();
    let expected = [
        "wan0 100.64.1.10/32",
        "wan0 2001:db8:f:101::1/128",
        "wan0 2001:db8::1/128",
        "br-home 2001:db8::1/64",
    ];
    assert_eq!(addresses, expected);
    let routes = |items: &[Item]| {
        let routes = items.iter().filter_map(|item| match item {
            Item::Route(route) if route.destination.addr().is_ipv6() => Some((
                route.destination.to_string(),
                route.link.clone(),
                route.source.map(|source| source.to_string()),
            )),
            _ => None,
        });
        routes.collect::<Vec<_>>()
    };
    let unreachable = |net: &str| (net.to_owned(), None, None);
    let default = |source: &str| {
        let link = Some("wan0".to_owned());
        ("::/0".to_owned(), link, Some(source.to_owned()))
    };
    let expected = [
        unreachable("2001:db8:f:101::/64"),
        unreachable("2001:db8::/56"),
        default("2001:db8:f:101::1"),
    ];
    assert_eq!(routes(&items), expected);

    // With a second session, each leaves by its own table, whichever of its prefixes it comes from.
    let mut other = session("wan1", &[]);
    other.slot = 1;
    let items = desired(&wan(), Some(&home), &[own, other], &Chosen::new());
    for source in ["2001:db8:f:101::/64", "2001:db8::/56"] {
        let source = source.parse().unwrap();
        assert!(
            items.iter().any(|item| matches!(
                item, Item::Rule(rule) if rule.source == source && rule.table == 52_500
            )),
            "{source}"
        );
    }
}

#[test]
fn a_plan_leads_where_it_should_and_then_rests() {
    let ways = [
        ("connect", vec![], vec![session("wan0", &[])]),
        ("release", vec![session("wan0", &[101])], vec![]),
        (
            "move",
            vec![session("wan0", &[101])],
            vec![session("wan1", &[102, 7])],
        ),
        (
            "second",
            vec![session("wan0", &[])],
            vec![session("wan0", &[]), {
                let mut second = session("wan0", &[]);
                second.slot = 1;
                second.offer.ipv4 = Some([100, 64, 1, 11].into());
                second.offer.ipv6 = Some("2001:db8:0:100::/56".parse().unwrap());
                second
            }],
        ),
    ];
    for (name, from, to) in ways {
        let (from, to) = (
            desired(&wan(), Some(&home()), &from, &Chosen::new()),
            desired(&wan(), Some(&home()), &to, &Chosen::new()),
        );
        let first = Plan::diff(&from, &[], &made(&[]));
        let second = Plan::diff(&to, &first.owned, &made(&from));
        assert!(!second.steps.is_empty(), "{name}");
        assert_eq!(
            second.absent,
            if to.iter().any(|i| matches!(i, Item::Bridge { .. })) {
                vec!["absent0".to_owned()]
            } else {
                vec![]
            },
            "{name}"
        );
        let third = Plan::diff(&to, &second.owned, &made(&to));
        assert_eq!(third.steps, [], "{name}: rests");
        assert_eq!(third.owned, second.owned, "{name}");
        // Whatever is made needs what is made before it.
        let ranks: Vec<u8> = second
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Make(own) => Some(own.item.rank()),
                Step::Undo(_) => None,
            })
            .collect();
        assert!(ranks.is_sorted(), "{name}: {ranks:?}");
    }
}

#[test]
fn interfaces_and_addresses_are_undone_last() {
    let from = desired(&wan(), None, &[session("wan0", &[101])], &Chosen::new());
    let to = desired(&wan(), None, &[session("wan0", &[102])], &Chosen::new());
    let owned = Plan::diff(&from, &[], &made(&[])).owned;
    let steps = Plan::diff(&to, &owned, &made(&from)).steps;
    let last_make = steps
        .iter()
        .rposition(|step| matches!(step, Step::Make(_)))
        .unwrap();
    for (at, step) in steps.iter().enumerate() {
        if let Step::Undo(own) = step {
            assert_eq!(at > last_make, own.item.goes_last(), "{step:?}");
        }
    }
}

#[test]
fn what_is_not_ours_stays() {
    let items = desired(&wan(), None, &[session("wan0", &[])], &Chosen::new());
    let there = made(&items);
    let plan = Plan::diff(&items, &[], &there);
    assert_eq!((plan.steps, plan.owned), (vec![], vec![]));
    assert_eq!(Plan::diff(&[], &[], &there), Plan::default());
}

#[test]
fn a_value_returns_to_what_it_was_first() {
    let mtu = |bytes| Item::Mtu {
        link: "wan0".into(),
        bytes,
    };
    let first = Plan::diff(&[mtu(1492)], &[], &made(&[mtu(1500)]));
    let second = Plan::diff(&[mtu(1480)], &first.owned, &made(&[mtu(1492)]));
    let expected = Owned {
        item: mtu(1480),
        former: Some("1500".into()),
    };
    assert_eq!(second.steps, [Step::Make(expected.clone())]);
    let third = Plan::diff(&[], &second.owned, &made(&[mtu(1480)]));
    assert_eq!(third.steps, [Step::Undo(expected)]);
}

#[test]
fn a_switch_joins_line_and_rooms_and_has_no_address() {
    let home = Home {
        mode: Mode::Bridge,
        ipv4: None,
        ..home()
    };
    let wan = Wan {
        ports: vec!["wan0".into()],
        tags: WanTags::Fixed(Tags::from_vids(&[101]).unwrap()),
        ..wan()
    };
    for sessions in [vec![], vec![session("wan0", &[101])]] {
        let items = desired(&wan, Some(&home), &sessions, &Chosen::new());
        for link in ["wan0.101", "room0"] {
            let port = Item::Port {
                link: link.into(),
                bridge: "br-home".into(),
            };
            assert!(items.contains(&port), "{link}: {items:?}");
        }
        let says_something = |item: &Item| {
            matches!(
                item,
                Item::Address { .. } | Item::Route(_) | Item::Rule(_) | Item::Nat { .. }
            )
        };
        assert!(!items.iter().any(says_something), "{items:?}");
    }
}

#[test]
fn a_room_may_be_a_vlan_of_its_port() {
    let home = Home {
        room_ports: vec!["room0.20".into(), "room0.30".into(), "absent0.20".into()],
        ..home()
    };
    let items = desired(&wan(), Some(&home), &[session("wan0", &[])], &Chosen::new());
    let tag = |vid| Tag {
        tpid: TPID_8021Q,
        vid,
    };
    let vlan = |name: &str, parent: &str, vid| (name.to_owned(), parent.to_owned(), tag(vid));
    let all = [
        vlan("room0.20", "room0", 20),
        vlan("room0.30", "room0", 30),
        vlan("absent0.20", "absent0", 20),
    ];
    assert_eq!(vlans(&items), all);
    let untagged = Item::Port {
        link: "room0".into(),
        bridge: "br-home".into(),
    };
    assert!(!items.contains(&untagged), "{items:?}");

    // The rest does without a port that is not there, and without its VLAN.
    let plan = Plan::diff(&items, &[], &made(&[]));
    assert_eq!(plan.absent, ["absent0"]);
    let told: Vec<String> = plan.owned.iter().map(|own| own.item.to_string()).collect();
    assert!(told.iter().all(|own| !own.contains("absent0")), "{told:?}");
    for own in [
        "room0.20 as a port of br-home",
        "room0.20 up",
        "setting net/ipv4/conf/room0/forwarding = 0",
        "setting net/ipv6/conf/room0/disable_ipv6 = 1",
    ] {
        assert!(told.iter().any(|told| told == own), "{own}: {told:?}");
    }
    let again = Plan::diff(&items, &plan.owned, &made(&items));
    assert_eq!(again.steps, []);

    // Somebody deletes one: it comes back, as a port that is up.
    let mut there = made(&items);
    there.links.remove("room0.30");
    let steps = Plan::diff(&items, &plan.owned, &there).steps;
    let told: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Make(own) => own.item.to_string(),
            Step::Undo(own) => format!("not {}", own.item),
        })
        .collect();
    assert_eq!(
        told,
        [
            "VLAN interface room0.30 (VLAN 30 on room0)",
            "room0.30 as a port of br-home",
            "room0.30 up"
        ]
    );
}

#[test]
fn a_line_that_is_not_there_fails() {
    let wan = Wan {
        ports: vec!["absent0".into()],
        ..wan()
    };
    let items = desired(&wan, None, &[session("absent0", &[101])], &Chosen::new());
    let plan = Plan::diff(&items, &[], &made(&[]));
    let is_vlan = |own: &Owned| matches!(own.item, Item::Vlan { .. });
    assert!(plan.owned.iter().any(is_vlan), "{:?}", plan.steps);
}
