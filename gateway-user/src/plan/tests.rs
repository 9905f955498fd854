use doorstep_establish::{Mac, Tags};
use doorstep_gateway_common::LineKey;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::session::{Line, Service};

fn entry(number: u8, vids: &[u16]) -> SessionEntry {
    let (s_vid, c_vid) = match vids {
        [] => (0, 0),
        [c] => (0, *c),
        [s, c, ..] => (*s, *c),
    };
    SessionEntry {
        session: Uuid::from_u128(number.into()),
        generation: 3,
        slot: number.into(),
        operator: 2,
        line: Line {
            key: LineKey {
                ifindex: 7,
                s_vid,
                c_vid,
            },
            port: "access0".into(),
            tags: Tags::from_vids(vids).expect("tags"),
        },
        mac: Mac([2, 0, 0, 0, 0, number]),
        ipv4: Some([100, 64, 1, number].into()),
        ipv6: Some("2001:db8:1000:1ff::/56".parse().expect("a prefix")),
        ipv6_line: None,
        mtu: 1500,
        service: Service::default(),
        shaper: true,
        flags: 0,
    }
}

#[test]
fn rows_of_a_session() {
    let rows = rows(&entry(9, &[101, 1004]));
    let (key, value) = rows.upstream_v4.expect("IPv4");
    assert_eq!(key.source_be, [100, 64, 1, 9]);
    assert_eq!((key.line.s_vid, key.line.c_vid), (101, 1004));
    let key_line = key.line;
    assert_eq!((value.slot, value.operator, value.generation), (9, 2, 3));
    let (key, _) = rows.upstream_v6[0].expect("IPv6");
    let masked = [0x20, 0x01, 0x0d, 0xb8, 0x10, 0x00, 0x01, 0x00];
    assert_eq!(key.prefix_be, masked, "bits beyond the length are off");
    let (key, value) = rows.downstream_v6[0].expect("IPv6");
    assert_eq!((key.operator, key.prefix_be), (2, masked));
    assert_eq!((value.outer.tpid(), value.inner.tpid()), (0x88a8, 0x8100));
    assert_eq!(value.line(), key_line);
    assert_eq!(value.mac.bytes(), [2, 0, 0, 0, 0, 9]);
}

#[test]
fn tpids_by_the_number_of_tags() {
    for (vids, expected) in [
        (&[][..], (0, 0)),
        (&[5], (0, 0x8100)),
        (&[4, 5], (0x88a8, 0x8100)),
    ] {
        let (_, value) = rows(&entry(1, vids)).downstream_v4.expect("IPv4");
        let found = (value.outer.tpid(), value.inner.tpid());
        assert_eq!(found, expected, "{vids:?}");
    }
}

#[test]
fn a_family_that_a_session_lacks_has_no_rows() {
    let mut entry = entry(1, &[]);
    entry.ipv4 = None;
    let rows = rows(&entry);
    assert!(rows.upstream_v4.is_none() && rows.downstream_v4.is_none());
    assert!(rows.upstream_v6[0].is_some() && rows.downstream_v6[0].is_some());
    assert!(rows.upstream_v6[1].is_none() && rows.downstream_v6[1].is_none());
}

#[test]
fn a_line_prefix_is_a_second_row_beside_the_delegated_one() {
    let mut entry = entry(1, &[5]);
    let without = Tables::of([&entry]);
    entry.ipv6_line = Some("2001:db8:f:107::/64".parse().expect("a prefix"));
    let rows = rows(&entry);
    let [Some(delegated), Some(line)] = rows.upstream_v6 else {
        panic!("{rows:?}")
    };
    assert_eq!(line.0.prefix_be, [0x20, 1, 0x0d, 0xb8, 0, 0x0f, 1, 7]);
    assert_eq!((line.0.line, line.1), (delegated.0.line, delegated.1));
    let [Some(delegated), Some(line)] = rows.downstream_v6 else {
        panic!("{rows:?}")
    };
    assert_eq!(line.0.prefix_be, [0x20, 1, 0x0d, 0xb8, 0, 0x0f, 1, 7]);
    assert_eq!(line.1, delegated.1);
    let with = Tables::of([&entry]);
    assert_eq!(with.len(), without.len() + 2);
    let added = Plan::diff(&with, &without).changes;
    assert!(
        matches!(
            added[..],
            [Change::UpsertDownstreamV6(..), Change::UpsertUpstreamV6(..)]
        ),
        "{added:?}"
    );
}

#[test]
fn line_prefixes_that_stand_for_more_than_themselves() {
    for (line, delegated, expected) in [
        ("2001:db8:f:100::/64", 56, true),
        ("2001:db8:f:101::/64", 56, false),
        ("2001:db8:f:1ff::/64", 56, false),
        ("2001:db8:f::/64", 48, true),
        ("2001:db8:f:100::/64", 48, false),
        ("2001:db8:f:101::/64", 63, false),
        ("2001:db8:f:102::/64", 63, true),
        ("2001:db8:f:100::/64", 64, false),
    ] {
        let prefix = line.parse().expect("a prefix");
        assert_eq!(
            stands_for_more(prefix, delegated),
            expected,
            "{line} {delegated}"
        );
    }
}

#[test]
fn every_mask_of_a_prefix() {
    for length in 0..=64u8 {
        let prefix = Ipv6Net::new("ffff:ffff:ffff:ffff::".parse().expect("address"), length);
        let bits = u64::from_be_bytes(masked(prefix.expect("a prefix")));
        assert_eq!(bits.leading_ones(), u32::from(length));
        assert_eq!(bits.count_ones(), u32::from(length));
    }
}

#[test]
fn removals_come_before_insertions_and_upstream_goes_first_and_comes_last() {
    let (old, mut new) = (entry(1, &[5]), entry(1, &[6]));
    new.service.upstream_bps = 20_000_000;
    let plan = Plan::diff(&Tables::of([&new]), &Tables::of([&old]));
    let kinds: Vec<&str> = plan
        .changes
        .iter()
        .map(|change| match change {
            Change::RemoveUpstreamV4(_) | Change::RemoveUpstreamV6(_) => "remove upstream",
            Change::RemoveDownstreamV4(_) | Change::RemoveDownstreamV6(_) => "remove downstream",
            Change::UpsertDownstreamV4(..) | Change::UpsertDownstreamV6(..) => "downstream",
            Change::UpsertUpstreamV4(..) | Change::UpsertUpstreamV6(..) => "upstream",
            Change::SetRates(..) => "rates",
        })
        .collect();
    let expected = [
        "remove upstream",
        "remove upstream",
        "rates",
        "downstream",
        "downstream",
        "upstream",
        "upstream",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn a_service_is_flags_and_rates() {
    let mut policed = entry(1, &[5]);
    policed.service = Service {
        upstream_bps: 20_000_000,
        downstream_bps: 100_000_000,
        shape_downstream: false,
        priority: 5,
        ..Service::default()
    };
    let found = rows(&policed);
    let (_, up) = found.upstream_v4.expect("IPv4");
    assert_eq!(up.flags, flag::POLICED | 5 << flag::PRIORITY_SHIFT);
    let (_, down) = found.downstream_v4.expect("IPv4");
    assert_eq!(down.flags, flag::POLICED);
    assert_eq!(down.inner, WireTag::new(0x8100, 5, 5), "with its priority");
    assert_eq!(found.rates, (1, Rates::of(&policed.service, true)));
    policed.service.shape_downstream = true;
    let (_, down) = rows(&policed).downstream_v4.expect("IPv4");
    assert_eq!(down.flags, flag::SHAPED);
    policed.shaper = false;
    let (_, down) = rows(&policed).downstream_v4.expect("IPv4");
    assert_eq!(down.flags, flag::POLICED, "nothing holds its packets");
    let (_, up) = rows(&entry(1, &[5])).upstream_v4.expect("IPv4");
    assert_eq!(up.flags, 0, "nothing is special about it");
}

#[test]
fn rows_by_owner() {
    let (one, other) = (entry(1, &[5]), entry(2, &[6]));
    let tables = Tables::of([&one, &other]);
    let of = |operator| Owner::of(operator, one.ipv4, one.ipv6).collect::<Vec<_>>();
    // Both have the same prefix, so that one has the other's place downstream.
    let found = tables.owned(|owner| of(2).contains(&owner));
    assert_eq!(found.upstream_v4, Tables::of([&one]).upstream_v4);
    assert_eq!(found.downstream_v4, Tables::of([&one]).downstream_v4);
    assert_eq!(found.upstream_v6.len(), 2);
    let found = tables.owned(|owner| of(3).contains(&owner));
    assert!(found.is_empty(), "another operator's");
    let mut third = entry(3, &[7]);
    third.ipv6 = None;
    third.ipv6_line = Some("2001:db8:1000:101::/64".parse().expect("a prefix"));
    let tables_of_third = Tables::of([&third]);
    let of_third: Vec<_> = Owner::of(2, None, third.ipv6_line).collect();
    let found = tables_of_third.owned(|owner| of_third.contains(&owner));
    assert_eq!((found.len(), found.upstream_v6.len()), (2, 1));
    let v4 = Owner::of(2, one.ipv4, None).collect::<Vec<_>>();
    let found = tables.owned(|owner| v4.contains(&owner));
    assert_eq!(found.len(), 2);
    assert!(found.upstream_v6.is_empty() && found.downstream_v6.is_empty());
}

#[test]
fn rows_without_others_are_told_by_their_keys() {
    let (one, mut other) = (entry(1, &[5]), entry(1, &[5]));
    other.generation = 9;
    other.ipv6 = None;
    let rest = Tables::of([&one]).without(&Tables::of([&other]));
    assert!(rest.upstream_v4.is_empty() && rest.downstream_v4.is_empty());
    assert_eq!(rest.len(), 2);
    let mut all = rest.clone();
    all.extend(&Tables::of([&other]));
    assert_eq!(all.len(), 4);
    assert_eq!(all.without(&rest), Tables::of([&other]));
    let mut actual = all.clone();
    for change in rest.removal().changes {
        actual.apply(&change);
    }
    assert_eq!(actual, Tables::of([&other]));
}

/// Entries over few addresses and lines, so that histories collide.
fn entries() -> impl Strategy<Value = Vec<SessionEntry>> {
    let one = (0..4u8, 1..4u16, 1..5u64, any::<bool>(), 0..3u64);
    prop::collection::vec(one, 0..6).prop_map(|all| {
        all.into_iter()
            .map(|(number, vid, generation, v6, rate)| {
                let mut entry = entry(number, &[vid]);
                entry.generation = generation;
                entry.ipv6 = entry.ipv6.filter(|_| v6);
                entry.service.downstream_bps = rate * 1_000_000;
                entry
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_plan_leads_from_anything_to_what_is_desired(desired in entries(), actual in entries()) {
        let (desired, mut actual) = (Tables::of(&desired), Tables::of(&actual));
        let plan = Plan::diff(&desired, &actual);
        for change in &plan.changes {
            actual.apply(change);
        }
        prop_assert_eq!(&actual, &desired);
        for change in &plan.changes {
            actual.apply(change);
        }
        prop_assert_eq!(&actual, &desired, "twice is the same as once");
        prop_assert!(Plan::diff(&desired, &actual).is_empty());
    }
}
