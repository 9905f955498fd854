use std::path::Path;

use super::*;
use crate::engine::row::Block;

const HEADER: &str = "location,port,s_vlan,c_vlan\n";

fn ports(name: &str) -> Option<u32> {
    match name {
        "access0" => Some(7),
        "access1" => Some(8),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Inventory, InventoryError> {
    Inventory::parse(Path::new("/etc/inventory.csv"), text, ports)
}

fn resolve(inventory: &Inventory, location: &str) -> Line {
    let location = location.parse().expect("location");
    inventory
        .resolve(&location)
        .expect("in the inventory")
        .clone()
}

#[test]
fn untagged_one_tag_two_tags_and_other_tpids() {
    let text = "# a comment\n\
        location, port, s_vlan, c_vlan, s_tpid, c_tpid\n\
        110103-xinjing-001-002-001,access0,,\n\
        110103-xinjing-001-002-002,access0,,1004,,\n\
        \"110103-xinjing-001-002-003\", access0, 101, 1004,,\n\
        110103-xinjing0000000000000000000000000-001-002-004,access1,101,1004,0x8100,0x88A8\n";
    let inventory = parse(text).expect("valid");
    assert_eq!(inventory.len(), 4);
    let shown = |location| resolve(&inventory, location).to_string();
    assert_eq!(shown("110103-xinjing-001-002-001"), "access0");
    assert_eq!(shown("110103-xinjing-001-002-002"), "access0/1004");
    assert_eq!(shown("110103-xinjing-001-002-003"), "access0/101.1004");

    let single = resolve(&inventory, "110103-xinjing-001-002-002");
    let key = LineKey {
        ifindex: 7,
        s_vid: 0,
        c_vid: 1004,
    };
    assert_eq!(single.key, key);
    assert_eq!(single.tags.as_slice()[0].tpid, 0x8100);
    let double = resolve(&inventory, "110103-xinjing-001-002-003");
    let tpids: Vec<_> = double.tags.as_slice().iter().map(|tag| tag.tpid).collect();
    assert_eq!(tpids, [0x88a8, 0x8100]);
    let other = resolve(&inventory, "110103-xinjing-001-002-004");
    let tpids: Vec<_> = other.tags.as_slice().iter().map(|tag| tag.tpid).collect();
    assert_eq!(tpids, [0x8100, 0x88a8]);

    let location: LocationId = "110103-xinjing-001-002-002".parse().expect("location");
    let rows = inventory.map_rows(&Blocks::new());
    let (_, value) = rows
        .iter()
        .find(|(row, _)| *row == key)
        .expect("a row for each line");
    assert_eq!(value.location_hash, location.hash64());
}

#[test]
fn each_mistake_is_named_with_its_place() {
    #[rustfmt::skip]
    let rows = [
        ("110103-a-001-002-00x,access0,,1", "2:1: location id"),
        ("110103-a-001-002-001,access9,,1", "2:22: port 'access9' is not an [[access_port]]"),
        ("110103-a-001-002-001,,,1", "2:22: the port is missing"),
        ("110103-a-001-002-001,access0,0,1", "2:30: s_vlan '0' is not a VLAN id, 1..=4094"),
        ("110103-a-001-002-001,access0,1,4095", "2:32: c_vlan '4095' is not a VLAN id"),
        ("110103-a-001-002-001,access0,, x", "2:32: c_vlan 'x' is not a VLAN id"),
        ("110103-a-001-002-001,access0,5,", "2:30: an s_vlan without a c_vlan"),
        ("110103-a-001-002-001,access0,,1,9", "2:33: 5 fields, but the header has 4"),
        ("110103-a-001-002-001,access0,,1\n110103-a-001-002-001,access0,,2", "3:1: location 110103-a-001-002-001 has a line already, in line 2"),
        ("110103-a-001-002-001,access0,,1\n110103-a-001-002-002,access0,,1", "3:22: access0/1 is another location's already, in line 2"),
        ("# c\n\n110103-a-001-002-001,access9,,1", "4:22: port 'access9'"),
    ];
    for (text, expected) in rows {
        let error = parse(&format!("{HEADER}{text}\n"))
            .expect_err(text)
            .to_string();
        let expected = format!("/etc/inventory.csv:{expected}");
        assert!(error.contains(&expected), "{text}: {error}");
    }
}

#[test]
fn mistakes_of_the_header() {
    for (header, expected) in [
        (
            "location,port,s_vlan",
            "1:1: the header lacks the column 'c_vlan'",
        ),
        (
            "location,port,s_vlan,c_vlan,room",
            "1:29: unknown column 'room'",
        ),
        (
            "location,port,s_vlan,c_vlan,port",
            "1:29: column 'port' is named twice",
        ),
        ("", "1:1: the header lacks the column 'location'"),
    ] {
        let error = parse(header).expect_err(header).to_string();
        assert!(error.contains(expected), "{header}: {error}");
    }
}

#[test]
fn tpid_mistakes() {
    for (record, expected) in [
        (
            "110103-a-001-002-001,access0,1,2,0x9100,",
            "2:34: s_tpid '0x9100' is neither",
        ),
        (
            "110103-a-001-002-001,access0,,2,0x8100,",
            "2:33: s_tpid without a s_vlan",
        ),
    ] {
        let text = format!("location,port,s_vlan,c_vlan,s_tpid,c_tpid\n{record}\n");
        let error = parse(&text).expect_err(record).to_string();
        assert!(error.contains(expected), "{record}: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = format!(
        "{HEADER}x,access9,,1\n110103-a-001-002-001,access0,,5000\n110103-a-001-002-002,access0,,6\n"
    );
    let Err(InventoryError::Invalid { problems, .. }) = parse(&text) else {
        panic!("refused as a whole");
    };
    assert_eq!(problems.len(), 3);
}

#[test]
fn a_missing_file_is_named() {
    let error = Inventory::load(Path::new("/nonexistent/inventory.csv"), ports)
        .expect_err("missing")
        .to_string();
    assert!(error.contains("/nonexistent/inventory.csv"), "{error}");
}

#[test]
fn blocked_lines() {
    const HEADER: &str = "location,port,s_vlan,c_vlan,blocked\n";
    let text = format!(
        "{HEADER}110103-a-001-002-001,access0,,1,yes\n110103-a-001-002-002,access0,,2,no\n\
         110103-a-001-002-003,access0,,3,\n"
    );
    let inventory = parse(&text).expect("valid");
    let by_hand = "110103-a-001-002-003".parse().expect("a location");
    let blocks = Blocks::from([(by_hand, Block { at_unix_ms: 1 })]);
    let blocked = |blocks: &Blocks| {
        let rows = inventory.map_rows(blocks).into_iter();
        let rows = rows.filter(|(_, row)| row.flags & LineValue::BLOCKED != 0);
        let mut vids: Vec<u16> = rows.map(|(key, _)| key.c_vid).collect();
        vids.sort_unstable();
        vids
    };
    assert_eq!(blocked(&Blocks::new()), [1]);
    assert_eq!(blocked(&blocks), [1, 3]);
    let error = parse(&format!("{HEADER}110103-a-001-002-001,access0,,1,maybe\n"));
    let error = error.expect_err("refused").to_string();
    assert!(
        error.contains("2:33: blocked 'maybe' is neither yes nor no"),
        "{error}"
    );
}
