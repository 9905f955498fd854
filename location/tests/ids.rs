//! Location ids and prefixes: the grammar, case by case and as properties.

use doorstep_location::{Field, LocationId, LocationPrefix, Problem};
use proptest::prelude::*;

const HOME: &str = "110103-xinjingjiayuan-001-002-004";

#[test]
fn both_forms_are_the_same_home() {
    let short: LocationId = HOME.parse().unwrap();
    let long: LocationId = "110103-xinjingjiayuan000000000000000000-001-002-004"
        .parse()
        .unwrap();
    assert_eq!(short, long);
    assert_eq!(long.to_string(), HOME);
    assert_eq!(short.to_long_form().len(), 51);
    assert_eq!((short.city(), short.district()), ("1101", "110103"));
    assert_eq!(
        (
            short.community(),
            short.building(),
            short.unit(),
            short.room()
        ),
        ("xinjingjiayuan", "001", "002", "004")
    );
    assert_eq!(serde_json::to_string(&long).unwrap(), format!("\"{HOME}\""));
    assert_eq!(
        serde_json::from_str::<LocationId>(&format!("\"{HOME}\"")).unwrap(),
        short
    );
}

#[test]
fn hash_is_stable() {
    // printf %s 110103-xinjingjiayuan-001-002-004 | sha256sum
    assert_eq!(
        HOME.parse::<LocationId>().unwrap().hash64(),
        0x29b3_d5c6_9b0d_1384
    );
}

#[test]
fn faults_are_named_with_their_place() {
    let thirty_three = format!("110103-{}-001-002-004", "a".repeat(33));
    let padding = format!("110103-{}-001-002-004", "0".repeat(32));
    let cases: &[(&str, &str, Field, usize, Problem)] = &[
        ("empty", "", Field::Area, 0, Problem::AreaLength),
        (
            "short area",
            "11010-a-001-002-004",
            Field::Area,
            5,
            Problem::AreaLength,
        ),
        (
            "long area",
            "1101033-a-001-002-004",
            Field::Area,
            6,
            Problem::AreaLength,
        ),
        (
            "letter in area",
            "11x103-a-001-002-004",
            Field::Area,
            2,
            Problem::Character,
        ),
        ("area only", "110103", Field::Community, 6, Problem::Missing),
        (
            "empty community",
            "110103--001-002-004",
            Field::Community,
            7,
            Problem::CommunityLength,
        ),
        (
            "upper case",
            "110103-aB-001-002-004",
            Field::Community,
            8,
            Problem::Character,
        ),
        (
            "not ASCII",
            "110103-新-001-002-004",
            Field::Community,
            7,
            Problem::Character,
        ),
        (
            "33 letters",
            &thirty_three,
            Field::Community,
            39,
            Problem::CommunityLength,
        ),
        (
            "only padding",
            &padding,
            Field::Community,
            7,
            Problem::CommunityLength,
        ),
        (
            "half padded",
            "110103-a00-001-002-004",
            Field::Community,
            8,
            Problem::CommunityEndsInZero,
        ),
        (
            "two digits",
            "110103-a-01-002-004",
            Field::Building,
            11,
            Problem::NumberLength,
        ),
        (
            "five digits",
            "110103-a-001-00002-004",
            Field::Unit,
            17,
            Problem::NumberLength,
        ),
        (
            "letter in room",
            "110103-a-001-002-0a4",
            Field::Room,
            18,
            Problem::Character,
        ),
        (
            "no room",
            "110103-a-001-002",
            Field::Room,
            16,
            Problem::Missing,
        ),
        (
            "more",
            "110103-a-001-002-004-5",
            Field::Room,
            20,
            Problem::Trailing,
        ),
        (
            "line end",
            "110103-a-001-002-004\n",
            Field::Room,
            20,
            Problem::Character,
        ),
    ];
    for &(name, text, field, position, problem) in cases {
        let error = text.parse::<LocationId>().unwrap_err();
        assert_eq!(
            (error.field, error.position, error.problem),
            (field, position, problem),
            "{name}"
        );
        assert!(
            error.to_string().contains(&field.to_string()),
            "{name}: {error}"
        );
    }
}

#[test]
fn prefixes_match_whole_components() {
    let home: LocationId = HOME.parse().unwrap();
    let cases = [
        ("1101", true, 0),
        ("1102", false, 0),
        ("110103", true, 1),
        ("110104", false, 1),
        ("110103-xinjingjiayuan", true, 2),
        ("110103-xinjingjiayuan000000000000000000", true, 2),
        ("110103-xin", false, 2),
        ("110103-xinjingjiayuan-001", true, 3),
        ("110103-xinjingjiayuan-0010", false, 3),
        ("110103-xinjingjiayuan-001-002", true, 4),
        (HOME, true, 5),
        ("110103-xinjingjiayuan-001-002-0041", false, 5),
    ];
    for (text, expected, specificity) in cases {
        let prefix: LocationPrefix = text.parse().unwrap();
        assert_eq!(home.starts_with(&prefix), expected, "{text}");
        assert_eq!(prefix.specificity(), specificity, "{text}");
        let (from, until) = prefix.text_range();
        let lies = from.as_str() <= HOME && HOME < until.as_str();
        assert_eq!(lies, expected, "{text}");
        let found = LocationPrefix::texts_containing(&home).any(|text| text == prefix.as_str());
        assert_eq!(found, expected, "{text}");
    }
    assert_eq!(
        LocationPrefix::texts_containing(&home).collect::<Vec<_>>(),
        [
            HOME,
            "110103-xinjingjiayuan-001-002",
            "110103-xinjingjiayuan-001",
            "110103-xinjingjiayuan",
            "110103",
            "1101"
        ]
    );
    for bad in [
        "",
        "11",
        "11010",
        "110103-",
        "110103-a-1",
        "110103-a-001-002-003-004",
    ] {
        assert!(bad.parse::<LocationPrefix>().is_err(), "{bad:?}");
    }
    assert!(home.starts_with(&LocationPrefix::from(&home)));
}

prop_compose! {
    fn location()(
        area in "[0-9]{6}", community in "[a-z0-9]{0,31}[a-z1-9]",
        building in "[0-9]{3,4}", unit in "[0-9]{3,4}", room in "[0-9]{3,4}",
    ) -> String {
        format!("{area}-{community}-{building}-{unit}-{room}")
    }
}

proptest! {
    #[test]
    fn display_is_what_was_parsed(text in location()) {
        let id: LocationId = text.parse().unwrap();
        prop_assert_eq!(id.to_string(), text);
        prop_assert_eq!(id.to_long_form().parse::<LocationId>().unwrap(), id.clone());
        prop_assert!(id.as_str().len() <= LocationId::MAX_LEN);
    }

    #[test]
    fn a_prefix_is_a_range_of_texts(
        one in location(), other in location(), alike in 0..6_usize, len in 0..6_usize, longer in "[0-9a-z]?",
    ) {
        let home: LocationId = one.parse().unwrap();
        let text = LocationPrefix::texts_containing(&home).nth(len).unwrap();
        let prefix: LocationPrefix = text.parse().unwrap();
        let (from, until) = prefix.text_range();
        // Another home whose first components are the same, the last of them perhaps longer.
        let mut parts: Vec<String> = one.split('-').take(alike).map(str::to_owned).collect();
        if let Some(last) = parts.last_mut() {
            last.push_str(&longer);
        }
        parts.extend(other.split('-').skip(alike).map(str::to_owned));
        for text in [&one, &other, &parts.join("-")] {
            let Ok(location) = text.parse::<LocationId>() else { continue };
            let lies = from.as_str() <= location.as_str() && location.as_str() < until.as_str();
            prop_assert_eq!(lies, location.starts_with(&prefix), "{} {}", prefix, location);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".*") {
        if let Ok(id) = text.parse::<LocationId>() {
            prop_assert!(id.as_str() == text || id.to_long_form() == text);
        }
    }
}
