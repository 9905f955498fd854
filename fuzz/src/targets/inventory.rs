//! The gateway's inventory.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use doorstep_establish::Tag;
use doorstep_gateway::config::{Position, Problem};
use doorstep_gateway::inventory::{Inventory, InventoryError};

use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "inventory",
    about: "the table of lines: the same once written and read; all problems have a place",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "location",
        "port",
        "s_vlan",
        "c_vlan",
        "s_tpid",
        "c_tpid",
        "blocked",
        "access0",
        "access1",
        "0x88a8",
        "0x8100",
        "yes",
        "no",
        "#",
        "\"\"",
        "110103-a-001-001-001",
    ],
    inputs: 6_000,
};

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("../../../deploy/etc/doorstep/inventory.csv"),
        "location,port,s_vlan,c_vlan,s_tpid,c_tpid,blocked\n\
         # two tags, one, none\n\
         110103-xinjingjiayuan-001-002-004,access0,101,1004,0x88a8,0x8100,no\n\
         110103-xinjingjiayuan-001-002-005,access0,,1005,,0x88a8,yes\n\
         \n\
         110103-xinjingjiayuan-001-002-006,access1,,,,,\n",
        "port, c_vlan, s_vlan, location\r\n\"access0\", 7, , 1101030-b-001-001-001\r\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

const PORTS: [&str; 2] = ["access0", "access1"];

fn parse(text: &str) -> Result<Inventory, InventoryError> {
    Inventory::parse(Path::new("inventory.csv"), text, |name| {
        let at = PORTS.iter().position(|port| *port == name)?;
        u32::try_from(at + 1).ok()
    })
}

fn check(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    match parse(text) {
        Ok(inventory) => {
            consistent(&inventory);
            let again = parse(&write(&inventory)).expect("what was written");
            assert!(again == inventory, "another one once written");
        }
        Err(InventoryError::Invalid { problems, .. }) => {
            assert!(!problems.is_empty());
            for Problem { at, what } in problems {
                inside(text, at);
                assert!(!what.is_empty());
            }
        }
        Err(error) => panic!("nothing was read from a file: {error}"),
    }
}

fn consistent(inventory: &Inventory) {
    let keys: HashSet<_> = inventory.iter().map(|(_, line)| line.key).collect();
    assert_eq!(keys.len(), inventory.len(), "two locations on one line");
    for (location, line) in inventory.iter() {
        assert_eq!(PORTS[line.key.ifindex as usize - 1], line.port);
        let vids = match line.tags.as_slice() {
            [] => (0, 0),
            [c] => (0, c.vid),
            [s, c, ..] => (s.vid, c.vid),
        };
        assert_eq!(vids, (line.key.s_vid, line.key.c_vid));
        assert_eq!(inventory.resolve(location), Some(line));
    }
    let rows = inventory.map_rows(&Default::default());
    assert_eq!(rows.len(), inventory.len());
    let blocked = rows.iter().filter(|(_, value)| value.flags != 0).count();
    assert_eq!(blocked, inventory.blocked_len());
}

fn write(inventory: &Inventory) -> String {
    let mut text = "blocked,c_tpid,c_vlan,location,port,s_tpid,s_vlan\n".to_owned();
    for (location, line) in inventory.iter() {
        let blocked = match inventory.is_blocked(location) {
            true => "yes",
            false => "no",
        };
        let shown = |tag: Option<&Tag>| match tag {
            Some(tag) => (format!("{:#06x}", tag.tpid), tag.vid.to_string()),
            None => Default::default(),
        };
        let (s, c) = match line.tags.as_slice() {
            [] => (None, None),
            [c] => (None, Some(c)),
            [s, c, ..] => (Some(s), Some(c)),
        };
        let ((s_tpid, s_vid), (c_tpid, c_vid)) = (shown(s), shown(c));
        let port = &line.port;
        writeln!(
            text,
            "{blocked},{c_tpid},{c_vid},{location},{port},{s_tpid},{s_vid}"
        )
        .expect("memory");
    }
    text
}

/// A place is one that an editor finds.
fn inside(text: &str, Position { line, column }: Position) {
    assert!(line >= 1 && column >= 1);
    let lines = text.split('\n').count();
    assert!(line <= lines, "line {line} of {lines}");
    let found = text.split('\n').nth(line - 1).unwrap_or_default();
    let columns = found.chars().count() + 1;
    assert!(
        column <= columns,
        "column {column} of {columns} in line {line}"
    );
}
