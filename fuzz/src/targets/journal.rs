//! Rows of the gateway's journal, as a former run has written them.

use std::fmt::Debug;
use std::net::Ipv4Addr;

use doorstep_establish::{Mac, Nonce, SessionKey, TPID_8021AD, TPID_8021Q, Tag, Tags};
use doorstep_gateway::engine::message::{Connect, CpeReplacement, Dhcp, Receipt};
use doorstep_gateway::engine::row::{
    Block, Fence, FenceKind, Opened, Phase, Place, SessionRow, Step, StepName, Then,
};
use doorstep_gateway::journal::codec::{CodecError, Row, decode, encode};
use doorstep_gateway::session::{Counters, Service};

use super::establish::SESSION;
use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "journal_row",
    about: "rows of the journal: the same once written, and no key in an error",
    check,
    seeds,
    shape: Shape::Bytes,
    words: &[
        "null",
        "{}",
        "[]",
        "\"establishing\"",
        "33024",
        "34984",
        "-1",
    ],
    inputs: 10_000,
};

fn connect() -> Connect {
    Connect {
        session: SESSION,
        generation: 3,
        location: "110103-xinjing-001-002-004".parse().expect("a location"),
        key: SessionKey::from_slice(&[77; SessionKey::LEN]).expect("a key"),
        ipv4: Some(Ipv4Addr::new(100, 64, 1, 10)),
        ipv6: "2001:db8:1000:100::/56".parse().ok(),
        ipv6_line: "2001:db8:1000:f01::/64".parse().ok(),
        ipv4_gateway: None,
        dns: vec![Ipv4Addr::new(192, 0, 2, 53).into()],
        mtu: 1492,
        service: Service::default(),
        service_revision: 4,
        dhcp: Some(Dhcp {
            lease_s: 3600,
            replacement: CpeReplacement::AfterHold { hold_s: 60 },
        }),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let tag = |tpid, vid| Tag { tpid, vid };
    let tags = Tags::new(&[tag(TPID_8021AD, 101), tag(TPID_8021Q, 1004)]).expect("tags");
    let opened = Opened {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        at_unix_ms: 1_700_000_000_000,
    };
    let then = Then {
        receipt: Some(4),
        connect: Some(Box::new(connect())),
    };
    let phases = [
        Phase::Establishing,
        Phase::Established(opened),
        Phase::Closing {
            opened: Some(opened),
            then,
        },
    ];
    let sessions = phases.map(|phase| {
        both_forms(&SessionRow {
            connect: connect(),
            slot: 7,
            place: Place {
                port: "access0".to_owned(),
                tags,
            },
            nonce: Nonce([9; 16]),
            phase,
            steps: vec![Step {
                step: StepName::Instructed,
                at_unix_ms: 1_700_000_000_000,
            }],
            released: true,
        })
    });
    let receipt = Receipt {
        number: 9,
        session: SESSION,
        generation: 4,
        final_counters: Counters::default(),
        at_unix_ms: 1_700_000_000_000,
    };
    let fence = Fence {
        generation: 4,
        kind: FenceKind::Disconnect,
        receipt: Some(receipt.clone()),
    };
    let block = Block { at_unix_ms: -1 };
    let others = [both_forms(&fence), both_forms(&receipt), both_forms(&block)];
    sessions.into_iter().chain(others).flatten().collect()
}

/// As it is written now, and as JSON, which older daemons wrote.
fn both_forms<T: Row + PartialEq + Debug>(row: &T) -> [Vec<u8>; 2] {
    let mut json = vec![1];
    serde_json::to_writer(&mut json, row).expect("JSON");
    assert_eq!(decode::<T>(&json).ok().as_ref(), Some(row));
    [encode(row), json]
}

fn check(data: &[u8]) {
    row::<SessionRow>(data);
    row::<Fence>(data);
    row::<Receipt>(data);
    row::<Block>(data);
}

fn row<T: Row + PartialEq + Debug>(data: &[u8]) {
    match decode::<T>(data) {
        Ok(row) => {
            let again = decode::<T>(&encode(&row)).expect("what was written");
            assert_eq!(again, row);
        }
        Err(CodecError::Empty) => assert!(data.is_empty()),
        Err(error) => {
            // Of the key, a part would be too much.
            assert!(!error.to_string().contains("77,77"), "{error}");
        }
    }
}
