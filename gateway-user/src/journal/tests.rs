use std::os::unix::fs::MetadataExt;

use doorstep_establish::{Mac, Nonce, SessionKey, Tags};
use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::engine::message::{Connect, CpeReplacement, Dhcp, Receipt};
use crate::engine::row::{Block, FenceKind, Opened, Phase, Place, Step, StepName, Then};
use crate::session::{Counters, Service};

const ROW_V3: &str = "031000000000000000000000000000000001041a3131303130332d78696e6a696e672d3030312d30\
    30322d30303401010101010101010101010101010101010101010101010101010101010101010164\
    4001010120010db8100001000000000000000000380120010db8000f010100000000000000004000\
    0100c0000235dc0b0080c6868f010001000401076163636573733002a8910265808202ec07010101\
    0101010101010101010101010102011130323a30303a30303a30303a30303a303704010401100000\
    0000000000000000000000000001051a3131303130332d78696e6a696e672d3030312d3030322d30\
    30340101010101010101010101010101010101010101010101010101010101010101016440010101\
    20010db8100001000000000000000000380120010db8000f0101000000000000000040000100c000\
    0235dc0b0080c6868f0100010005010002";
const ROW_V4: &str = "041000000000000000000000000000000001041a3131303130332d78696e6a696e672d3030312d30\
    30322d30303401010101010101010101010101010101010101010101010101010101010101010164\
    4001010120010db8100001000000000000000000380120010db8000f010100000000000000004000\
    0100c0000235dc0b0080c6868f01000100040001076163636573733002a8910265808202ec070101\
    010101010101010101010101010102011130323a30303a30303a30303a30303a3037040104011000\
    000000000000000000000000000001051a3131303130332d78696e6a696e672d3030312d3030322d\
    30303401010101010101010101010101010101010101010101010101010101010101010164400101\
    0120010db8100001000000000000000000380120010db8000f0101000000000000000040000100c0\
    000235dc0b0080c6868f010001000501901c013c01000200";
const FENCE_V3: &str =
    "0304010103100000000000000000000000000000000904ffffffffffffffffff01000000000006";

fn session(operator: u16, number: u8) -> SessionRef {
    SessionRef {
        operator,
        session: Uuid::from_u128(number.into()),
    }
}

fn location(room: u8) -> doorstep_location::LocationId {
    let text = format!("110103-xinjing-001-002-{room:03}");
    text.parse().expect("a location")
}

fn connect(number: u8, generation: u64) -> Connect {
    Connect {
        session: Uuid::from_u128(number.into()),
        generation,
        location: "110103-xinjing-001-002-004".parse().expect("a location"),
        key: SessionKey::from_slice(&[number; 32]).expect("32 bytes"),
        ipv4: Some([100, 64, 1, number].into()),
        ipv6: Some("2001:db8:1000:100::/56".parse().expect("a prefix")),
        ipv6_line: (number == 1).then(|| "2001:db8:f:101::/64".parse().expect("a prefix")),
        ipv4_gateway: None,
        dns: vec![[192, 0, 2, 53].into()],
        mtu: 1500,
        service: Service {
            downstream_bps: 300_000_000,
            priority: number % 8,
            ..Service::default()
        },
        service_revision: generation,
        dhcp: None,
    }
}

fn row(number: u8, generation: u64, phase: Phase) -> Box<SessionRow> {
    Box::new(SessionRow {
        connect: connect(number, generation),
        slot: number.into(),
        place: Place {
            port: "access0".into(),
            tags: Tags::from_vids(&[101, 1004]).expect("tags"),
        },
        nonce: Nonce([number; 16]),
        phase,
        steps: vec![Step {
            step: StepName::Instructed,
            at_unix_ms: 1,
        }],
        released: false,
    })
}

fn opened() -> Opened {
    Opened {
        mac: Mac([2, 0, 0, 0, 0, 7]),
        at_unix_ms: 2,
    }
}

fn receipt(number: u64) -> Receipt {
    Receipt {
        number,
        session: Uuid::from_u128(9),
        generation: number + 1,
        final_counters: Counters {
            upstream_packets: u64::MAX,
            ..Counters::default()
        },
        at_unix_ms: 3,
    }
}

fn write() -> impl Strategy<Value = Write> {
    let phase = (0..3u8).prop_map(|phase| match phase {
        0 => Phase::Establishing,
        1 => Phase::Established(opened()),
        _ => Phase::Closing {
            opened: Some(opened()),
            then: Then {
                receipt: Some(4),
                connect: Some(Box::new(connect(1, 5))),
            },
        },
    });
    let of = (1..3u16, 0..4u8).prop_map(|(operator, number)| session(operator, number));
    prop_oneof![
        (of.clone(), 1..u64::MAX, phase).prop_map(|(of, generation, phase)| {
            Write::PutSession(of, row(of.session.as_u128() as u8, generation, phase))
        }),
        of.clone().prop_map(Write::DeleteSession),
        of.clone().prop_map(Write::DeleteFence),
        (of, 1..u64::MAX, any::<bool>()).prop_map(|(of, generation, receipted)| {
            let fence = Fence {
                generation,
                kind: FenceKind::Disconnect,
                receipt: receipted.then(|| receipt(3)),
            };
            Write::PutFence(of, fence)
        }),
        (1..3u16, 1..5u64)
            .prop_map(|(operator, number)| { Write::PutReceipt(operator, receipt(number)) }),
        (1..3u16, 1..5u64).prop_map(|(operator, number)| Write::DeleteReceipt(operator, number)),
        (1..4u8, 0..9i64).prop_map(|(room, at_unix_ms)| {
            Write::PutBlock(location(room), Block { at_unix_ms })
        }),
        (1..4u8).prop_map(|room| Write::DeleteBlock(location(room))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The file holds what the model holds, whenever the daemon dies.
    #[test]
    fn what_was_committed_is_there_after_opening_again(
        batches in prop::collection::vec(prop::collection::vec(write(), 0..6), 1..6)
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut model = Snapshot::default();
        for batch in &batches {
            let journal = Journal::open(folder.path()).expect("opens");
            journal.commit(batch).expect("commits");
            batch.iter().for_each(|write| model.apply(write));
            drop(journal);
        }
        let journal = Journal::open(folder.path()).expect("opens");
        prop_assert_eq!(journal.load().expect("loads"), model);
    }
}

/// A copy of the file at any moment is what a power cut leaves.
#[test]
fn a_file_cut_off_from_its_daemon_opens_with_all_that_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("opens");
    let mut model = Snapshot::default();
    for number in 0..20 {
        let writes = [
            Write::PutSession(session(1, number), row(number, 1, Phase::Establishing)),
            Write::PutReceipt(1, receipt(u64::from(number) + 1)),
        ];
        journal.commit(&writes).expect("commits");
        writes.iter().for_each(|write| model.apply(write));
        let other = tempfile::tempdir().expect("a folder");
        fs::copy(folder.path().join(FILE), other.path().join(FILE)).expect("copies");
        let found = Journal::open(other.path()).expect("repairs itself");
        assert_eq!(found.load().expect("loads"), model);
    }
}

#[test]
fn only_the_owner_may_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("state");
    let journal = Journal::open(&inner).expect("opens");
    drop(journal);
    let mode = |path: &Path| fs::metadata(path).expect("exists").mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    assert_eq!(mode(&inner.join(FILE)), 0o600);
    fs::set_permissions(inner.join(FILE), Permissions::from_mode(0o644)).expect("sets");
    drop(Journal::open(&inner).expect("opens"));
    assert_eq!(mode(&inner.join(FILE)), 0o600);
}

#[test]
fn two_daemons_do_not_share_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Journal::open(folder.path()).expect("opens");
    let error = Journal::open(folder.path()).err().expect("refused");
    assert!(error.to_string().contains("another daemon"), "{error}");
}

#[test]
fn a_row_of_another_version_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    for (bytes, expected) in [
        (&[4, b'{'][..], "has version 4"),
        (&[], "it is empty"),
        (b"\x02", "has version 2"),
        (b"\x03", "damaged"),
        (b"\x03\x05\x00\x00secret", "6 bytes more"),
        (b"\x01{\"generation\":\"secret\"}", "malformed at byte"),
    ] {
        let journal = Journal::open(folder.path()).expect("opens");
        let transaction = journal.database.begin_write().expect("begins");
        let mut table = transaction.open_table(FENCES).expect("opens");
        table.insert((1, 1), bytes).expect("inserts");
        drop(table);
        transaction.commit().expect("commits");
        let error = journal.load().expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("a row of fences"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let error = Journal::open(Path::new("/proc/doorstep"))
        .err()
        .expect("refused");
    assert!(error.to_string().contains("/proc/doorstep"), "{error}");
}

/// A configuration in a folder, with these operators in this order, each with a port of its own.
/// Rows of the version that knew no service.
#[test]
fn rows_without_a_service_are_read_as_unlimited() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("opens");
    let waiting = Then {
        receipt: None,
        connect: Some(Box::new(connect(1, 5))),
    };
    let closing = Phase::Closing {
        opened: Some(opened()),
        then: waiting,
    };
    let mut old = serde_json::to_value(row(1, 4, closing)).expect("JSON");
    let mut counters = serde_json::to_value(receipt(3)).expect("JSON");
    for connect in ["/connect", "/phase/closing/then/connect"] {
        let connect = old.pointer_mut(connect).and_then(|c| c.as_object_mut());
        let connect = connect.expect("a connect");
        assert!(connect.remove("service").is_some());
        assert!(connect.remove("service_revision").is_some());
    }
    let last = counters["final"].as_object_mut().expect("counters");
    assert!(last.remove("upstream_policed").is_some());
    assert!(last.remove("downstream_policed").is_some());

    let transaction = journal.database.begin_write().expect("begins");
    {
        let mut sessions = transaction.open_table(SESSIONS).expect("opens");
        let value = codec::encode_json(&old);
        sessions.insert((1, 1), &value[..]).expect("inserts");
        let mut receipts = transaction.open_table(RECEIPTS).expect("opens");
        let value = codec::encode_json(&counters);
        receipts.insert((1, 3), &value[..]).expect("inserts");
    }
    transaction.commit().expect("commits");
    let snapshot = journal.load().expect("loads");
    let read = &snapshot.sessions[&session(1, 1)];
    let Phase::Closing { then, .. } = &read.phase else {
        panic!("closing, not {:?}", read.phase);
    };
    let then = then.connect.as_deref().expect("waits");
    for connect in [&read.connect, then] {
        assert_eq!(connect.service, Service::default());
        assert_eq!(connect.service_revision, 0);
    }
    assert_eq!(snapshot.receipts[&(1, 3)], receipt(3));
}

fn config(folder: &Path, operators: &[&str]) -> Config {
    let mut text =
        "id = \"gw1\"\nstate_dir = \"state\"\n[[access_port]]\nname = \"access0\"\n".to_owned();
    for (n, operator) in operators.iter().enumerate() {
        text += &format!(
            "[[operator]]\nname = \"{operator}\"\nuplink = \"uplink{n}\"\n\
             subscriber_prefixes = [\"100.64.{n}.0/24\"]\n[operator.server]\n\
             url = \"https://198.51.100.{n}:7443\"\nca = \"a\"\ncert = \"b\"\nkey = \"c\"\n"
        );
    }
    Config::parse(&folder.join("gateway.toml"), &text).expect("valid")
}

#[test]
fn operators_keep_their_indexes_whatever_becomes_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    for (operators, expected) in [
        (&["north", "south"][..], &[1, 2][..]),
        (&["south", "north"], &[2, 1]),
        (&["south"], &[2]),
        (&["east", "south"], &[3, 2]),
        (&["north", "east"], &[1, 3]),
    ] {
        let mut config = config(folder.path(), operators);
        // Who only looks finds the same, and leaves no trace.
        let mut looked = config.clone();
        if let Some(journal) = Journal::look(&config.state_dir).expect("opens") {
            journal.check(&mut looked).expect("fits");
        }
        drop(Journal::admit(&mut config).expect("fits"));
        let indexes = |config: &Config| -> Vec<u16> {
            config.operators.iter().map(|own| own.index).collect()
        };
        assert_eq!(indexes(&config), expected, "{operators:?}");
        assert_eq!(indexes(&looked), expected, "{operators:?}");
    }
    let mut config = config(folder.path(), &["west"]);
    config.operators[0].fixed_index = Some(2);
    let error = Journal::admit(&mut config).err().expect("refused");
    let error = error.to_string();
    assert!(error.contains("gateway.toml: operator 'west'"), "{error}");
    assert!(error.contains("operator 'south'"), "{error}");
}

#[test]
fn another_delegated_length_waits_until_sessions_with_the_old_one_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path(), &["north"]);
    let journal = Journal::admit(&mut config).expect("fits");
    let held = session(1, 7);
    let stranger = session(9, 8);
    let writes = [
        Write::PutSession(held, row(7, 1, Phase::Established(opened()))),
        Write::PutSession(stranger, row(8, 1, Phase::Establishing)),
    ];
    journal.commit(&writes).expect("commits");
    drop(journal);
    drop(Journal::admit(&mut config).expect("the length is 56"));

    config.delegated_prefix_len = 60;
    for error in [
        Journal::admit(&mut config).err().expect("refused"),
        Journal::look(&config.state_dir)
            .expect("opens")
            .expect("is there")
            .check(&mut config)
            .expect_err("refused"),
    ] {
        let error = error.to_string();
        for expected in ["= 60", "length 56 (1 of them", &held.session.to_string()] {
            assert!(error.contains(expected), "{error}");
        }
    }

    // One that ends with the old length, to go on with the new one, still has its rows.
    let mut next = connect(7, 2);
    next.ipv6 = None;
    let then = Then {
        receipt: None,
        connect: Some(Box::new(next)),
    };
    let closing = Phase::Closing {
        opened: Some(opened()),
        then,
    };
    let journal = Journal::open(&config.state_dir).expect("opens");
    let writes = [Write::PutSession(held, row(7, 1, closing))];
    journal.commit(&writes).expect("commits");
    drop(journal);
    assert!(Journal::admit(&mut config).is_err());

    let journal = Journal::open(&config.state_dir).expect("opens");
    journal
        .commit(&[Write::DeleteSession(held)])
        .expect("commits");
    drop(journal);
    drop(Journal::admit(&mut config).expect("none is left"));
}

#[test]
fn line_prefixes_that_are_held_need_their_room_and_a_length_that_tells_them_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path(), &["north"]);
    config.line_prefixes = true;
    let journal = Journal::admit(&mut config).expect("fits");
    let held = session(1, 7);
    let mut row = row(7, 1, Phase::Established(opened()));
    row.connect.ipv6 = None;
    row.connect.ipv6_line = Some("2001:db8:f:1000::/64".parse().expect("a prefix"));
    // The first /64 of a /56 is refused by the engine, so that it comes with another length only.
    config.delegated_prefix_len = 48;
    journal
        .commit(&[Write::PutSession(held, row)])
        .expect("commits");
    drop(journal);
    drop(Journal::admit(&mut config).expect("fits"));

    let refused = |config: &mut Config| {
        let error = Journal::admit(config).err().expect("refused").to_string();
        assert!(error.contains(&held.session.to_string()), "{error}");
        error
    };
    config.delegated_prefix_len = 56;
    let error = refused(&mut config);
    assert!(
        error.contains("= 56") && error.contains("2001:db8:f:1000::/64"),
        "{error}"
    );
    config.delegated_prefix_len = 48;
    config.line_prefixes = false;
    let error = refused(&mut config);
    assert!(
        error.contains("line_prefixes is not set") && error.contains("(1 of them"),
        "{error}"
    );
}

/// What a daemon before the binary form has left is read, and a row that is written anew is binary.
#[test]
fn rows_in_json_are_read_until_they_are_written_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(folder.path()).expect("opens");
    let then = Then {
        receipt: Some(4),
        connect: Some(Box::new(connect(1, 5))),
    };
    let closing = Phase::Closing {
        opened: Some(opened()),
        then,
    };
    let fence = Fence {
        generation: 4,
        kind: FenceKind::Disconnect,
        receipt: Some(receipt(3)),
    };
    let old = [
        row(1, 4, closing),
        row(2, 1, Phase::Established(opened())),
        row(3, 1, Phase::Establishing),
    ];
    let transaction = journal.database.begin_write().expect("begins");
    {
        let mut sessions = transaction.open_table(SESSIONS).expect("opens");
        for row in &old {
            let key = (1, row.connect.session.as_u128());
            let value = codec::encode_json(row);
            sessions.insert(key, &value[..]).expect("inserts");
        }
        let mut fences = transaction.open_table(FENCES).expect("opens");
        let value = codec::encode_json(&fence);
        fences.insert((1, 1), &value[..]).expect("inserts");
        let mut blocks = transaction.open_table(BLOCKS).expect("opens");
        let value = codec::encode_json(&Block { at_unix_ms: 7 });
        let key = location(1);
        blocks.insert(key.as_str(), &value[..]).expect("inserts");
    }
    transaction.commit().expect("commits");
    let mut model = Snapshot::default();
    for row in &old {
        let of = session(1, row.connect.session.as_u128() as u8);
        model.apply(&Write::PutSession(of, row.clone()));
    }
    model.apply(&Write::PutFence(session(1, 1), fence));
    model.apply(&Write::PutBlock(location(1), Block { at_unix_ms: 7 }));
    assert_eq!(journal.load().expect("loads"), model);

    let write = Write::PutSession(session(1, 2), row(2, 2, Phase::Establishing));
    journal
        .commit(std::slice::from_ref(&write))
        .expect("commits");
    model.apply(&write);
    assert_eq!(journal.load().expect("loads"), model);
    let transaction = journal.database.begin_read().expect("begins");
    let sessions = transaction.open_table(SESSIONS).expect("opens");
    let version = |number| {
        let value = sessions.get((1, number)).expect("reads");
        value.expect("is there").value()[0]
    };
    assert_eq!([1, 2, 3].map(version), [1, 4, 1]);
}

/// A row whose shape changes without another version would be read as something else.
#[test]
fn the_binary_form_is_what_it_was() {
    let closing = Phase::Closing {
        opened: Some(opened()),
        then: Then {
            receipt: Some(4),
            connect: Some(Box::new(Connect {
                dhcp: Some(Dhcp {
                    lease_s: 3600,
                    replacement: CpeReplacement::AfterHold { hold_s: 60 },
                }),
                ..connect(1, 5)
            })),
        },
    };
    let fence = Fence {
        generation: 4,
        kind: FenceKind::Disconnect,
        receipt: Some(receipt(3)),
    };
    let row = codec::encode(&*row(1, 4, closing));
    let fence = codec::encode(&fence);
    let block = codec::encode(&Block { at_unix_ms: 7 });
    let written = [row, fence, block].map(|bytes| {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
        hex.collect::<String>()
    });
    assert_eq!(written, [ROW_V4, FENCE_V3, "030e"]);
}

/// What a former version has written is what it was.
#[test]
fn rows_of_version_3_are_read_until_they_are_written_anew() {
    let bytes: Vec<u8> = (0..ROW_V3.len() / 2)
        .map(|at| u8::from_str_radix(&ROW_V3[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    let closing = Phase::Closing {
        opened: Some(opened()),
        then: Then {
            receipt: Some(4),
            connect: Some(Box::new(connect(1, 5))),
        },
    };
    let read: SessionRow = codec::decode(&bytes).expect("a row of version 3");
    assert_eq!(read, *row(1, 4, closing));
    let again: SessionRow = codec::decode(&codec::encode(&read)).expect("a row of version 4");
    assert_eq!(again, read);
    for length in 1..bytes.len() {
        assert!(codec::decode::<SessionRow>(&bytes[..length]).is_err());
    }
}

/// What is cut off or changed is told of, or is another row; it never ends the daemon.
#[test]
fn a_row_that_was_cut_off_is_no_row() {
    let bytes = codec::encode(&*row(1, 4, Phase::Established(opened())));
    for length in 0..bytes.len() {
        assert!(
            codec::decode::<SessionRow>(&bytes[..length]).is_err(),
            "{length}"
        );
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            drop(codec::decode::<SessionRow>(&changed));
        }
    }
}

#[test]
fn a_journal_without_operators_gives_them_indexes_by_their_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = config(folder.path(), &["north", "south"]);
    let journal = Journal::open(&config.state_dir).expect("opens");
    let transaction = journal.database.begin_write().expect("begins");
    transaction.delete_table(OPERATORS).expect("deletes");
    transaction.commit().expect("commits");
    drop(journal);
    let journal = Journal::look(&config.state_dir)
        .expect("opens")
        .expect("is there");
    assert!(journal.check(&mut config).expect("fits").is_empty());
    drop(journal);
    drop(Journal::admit(&mut config).expect("fits"));
    let indexes: Vec<u16> = config.operators.iter().map(|own| own.index).collect();
    assert_eq!(indexes, [1, 2]);
}
