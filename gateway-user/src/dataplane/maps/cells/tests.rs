use doorstep_gateway_common::LineKey;
use doorstep_gateway_common::upstream::UpstreamV4Key;
use proptest::prelude::*;

use super::*;

type Table = CellTable<UpstreamV4Key, UpstreamValue>;

const BUCKETS: u32 = 8;

/// A table in ordinary memory.
fn table() -> Table {
    over(Mapped::anonymous(2 * BUCKETS as usize))
}

fn over(cells: Mapped<Cell<UpstreamV4Key, UpstreamValue>>) -> Table {
    let layout = Layout::new(56, cells.len() as u32 / 2);
    Table::over(cells, "UPSTREAM_V4", layout)
}

fn key(address: u32) -> UpstreamV4Key {
    UpstreamV4Key {
        line: LineKey::default(),
        source_be: address.to_be_bytes(),
    }
}

fn value(slot: Slot) -> UpstreamValue {
    UpstreamValue {
        slot,
        generation: 7,
        ..UpstreamValue::default()
    }
}

#[test]
fn a_session_is_a_slot_and_a_generation() {
    let value = |slot, generation| UpstreamValue {
        generation,
        slot,
        operator: 1,
        flags: 0,
        mac: [2, 0, 0, 0, 0, 1].into(),
    };
    let own = value(3, 7);
    let other_flags = UpstreamValue { flags: 1, ..own };
    for (held, same) in [
        (own, true),
        // Another subscriber's session may have the same generation.
        (value(4, 7), false),
        (value(3, 8), false),
        (other_flags, true),
    ] {
        assert_eq!(held.owner() == own.owner(), same, "{held:?}");
    }
}

/// Programs that are reading a row when it is replaced or removed go on to the rest of the chain.
#[test]
fn cells_rest_before_they_are_used_anew() {
    let mut table = table();
    let same_line = [1, 2].map(|number| UpstreamV4Key {
        line: LineKey {
            c_vid: number,
            ..LineKey::default()
        },
        ..key(3)
    });
    for key in &same_line {
        table.upsert(key, &value(0)).expect("room");
    }
    let places = |table: &Table| -> Vec<_> {
        let chain = table.chain(table.bucket(&same_line[0]));
        chain.map(|link| link.at).collect()
    };
    assert_eq!(places(&table), [3, BUCKETS]);
    table.remove(&same_line[0]);
    // Its bucket is free, but not yet to be written.
    table.upsert(&same_line[0], &value(1)).expect("room");
    assert_eq!(places(&table), [3, BUCKETS, BUCKETS + 1]);
    table.settle();
    table.upsert(&same_line[0], &value(2)).expect("room");
    assert_eq!(places(&table), [3, BUCKETS]);
    assert_eq!(table.get(&same_line[0]), Some(value(2)));
    assert_eq!(table.get(&same_line[1]), Some(value(0)));
    assert_eq!(table.usage().used, 2);
}

#[test]
fn a_table_is_made_equal_and_its_cells_free_again() {
    let mut table = table();
    for address in 1..=3 {
        table.upsert(&key(address), &value(1)).expect("room");
    }
    // One goes, one changes, one stays, and one comes.
    let desired = HashMap::from([(key(2), value(9)), (key(3), value(1)), (key(4), value(1))]);
    table.replace_all(&desired).expect("room");
    assert_eq!(table.dump(), desired);
    assert_eq!(table.usage().used, 3);
    assert!(table.resting.is_empty(), "{:?}", table.resting);
    table.upsert(&key(1), &value(2)).expect("room");
    assert_eq!(table.chain(table.bucket(&key(1))).count(), 1, "its bucket");
}

#[test]
fn a_full_table_says_so_and_keeps_what_it_has() {
    let mut table = table();
    let line = |number| UpstreamV4Key {
        line: LineKey {
            c_vid: number,
            ..LineKey::default()
        },
        ..key(1)
    };
    // The bucket and all cells beside buckets.
    for number in 0..=8 {
        table.upsert(&line(number), &value(0)).expect("room");
    }
    let refusal = table.upsert(&line(9), &value(0)).expect_err("full");
    assert!(refusal.to_string().contains("max_sessions"), "{refusal}");
    for number in 0..=8 {
        assert_eq!(table.get(&line(number)), Some(value(0)));
    }
    table.remove(&line(4));
    table.upsert(&line(9), &value(0)).expect("room again");
}

#[test]
fn chains_are_no_longer_than_programs_look() {
    let mut table = over(Mapped::anonymous(64));
    let line = |number| UpstreamV4Key {
        line: LineKey {
            c_vid: number,
            ..LineKey::default()
        },
        ..key(1)
    };
    for number in 0..MAX_CHAIN as u16 {
        table.upsert(&line(number), &value(0)).expect("room");
        assert_eq!(table.get(&line(number)), Some(value(0)));
    }
    let more = line(MAX_CHAIN as u16);
    table.upsert(&more, &value(0)).expect_err("too long");
}

/// A writer may have ended between any two of its steps.
#[test]
fn what_was_not_finished_is_taken_back() {
    let mut first = table();
    first.upsert(&key(1), &value(1)).expect("room");
    first.upsert(&key(2), &value(2)).expect("room");
    // Filled and linked, but the former row is still there.
    let new = first.take().expect("room");
    let row = Row {
        key: key(1),
        value: value(9),
    };
    // SAFETY: nobody uses it.
    unsafe { first.cell(new).fill(row) };
    first.cell(new).set(true, 0);
    first.cell(1).set(true, new);
    // In the bucket of another delegated length, where no program looks.
    let row = Row {
        key: key(6),
        value: value(6),
    };
    // SAFETY: nobody uses it.
    unsafe { first.cell(5).fill(row) };
    first.cell(5).set(true, 0);

    let mut second = over(first.cells);
    let expected = HashMap::from([(key(1), value(1)), (key(2), value(2))]);
    assert_eq!(second.dump(), expected);
    assert_eq!(second.usage().used, 2);
    second.remove(&key(1));
    assert_eq!(second.get(&key(1)), None);
    second.upsert(&key(6), &value(3)).expect("room");
    assert_eq!(second.get(&key(6)), Some(value(3)));
}

proptest! {
    #[test]
    fn it_holds_what_a_map_would(
        steps in prop::collection::vec((0u32..40, 0u32..4, any::<bool>()), 0..200),
    ) {
        let mut table = over(Mapped::anonymous(64));
        let mut model = HashMap::new();
        for (address, slot, settles) in steps {
            // Slot 0 stands for a removal.
            if slot == 0 {
                table.remove(&key(address));
                model.remove(&key(address));
            } else if table.upsert(&key(address), &value(slot)).is_ok() {
                model.insert(key(address), value(slot));
            }
            if settles {
                table.settle();
            }
            prop_assert_eq!(table.usage().used, model.len() as u64);
        }
        prop_assert_eq!(&table.dump(), &model);
        let again = over(table.cells);
        prop_assert_eq!(again.usage().used, model.len() as u64);
        prop_assert_eq!(again.dump(), model);
    }
}
