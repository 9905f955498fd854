//! What a terminal has kept: its state and what its links are.

use std::collections::BTreeMap;

use doorstep_establish::{Establishment, Mac, Nonce, SessionKey, Tags};
use doorstep_terminal::links::desired::desired;
use doorstep_terminal::links::own_rooms::Chosen;
use doorstep_terminal::links::{Item, Owned};
use doorstep_terminal::state::{
    Credentials, OpenRequest, SavedLine, SavedSession, Secret, State, Wish,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::establish::{SESSION, offer};
use super::links::{DIVIDED, OWN_ROOM, WAN, active};
use crate::Target;
use crate::mutate::Shape;

pub const TARGET: Target = Target {
    name: "terminal_state",
    about: "a terminal's state and journal of links: the same once written, and no secret in an error",
    check,
    seeds,
    shape: Shape::Text,
    words: &[
        "null", "{}", "[]", "true", "33024", "-1", "\"vlan\"", "\"mtu\"",
    ],
    inputs: 4_000,
};

/// As it stands in the file, and what of it must not stand in an error.
const SECRET: [u8; 32] = [0x5a; 32];
const SHOWN: &str = "WlpaWlpa";

fn seeds() -> Vec<Vec<u8>> {
    let line = SavedLine {
        port: "wan0".to_owned(),
        establishment: Establishment {
            generation: 3,
            nonce: Nonce([9; 16]),
            offer: offer(),
            tags: Tags::from_vids(&[101, 1004]).expect("tags"),
            gateway_mac: Mac([2, 0, 0, 0, 0, 2]),
        },
        confirmed_at_unix_ms: Some(1_700_000_000_000),
        probe_slot: Some(3),
    };
    let session = |line| SavedSession {
        session_id: SESSION,
        operator: "south".to_owned(),
        replaces: None,
        generation: 3,
        key: SessionKey::from_slice(&SECRET).expect("a key"),
        slot: 0,
        since_unix_ms: None,
        line,
    };
    let credentials = Credentials {
        subscriber_id: SESSION.to_string(),
        secret: Secret(Zeroizing::new(SECRET.to_vec())),
    };
    let state = State {
        operators: BTreeMap::from([("south".to_owned(), credentials)]),
        credentials: None,
        sessions: vec![session(Some(line)), session(None)],
        last_sealed: Some("d1.AAAA".to_owned()),
        requests: vec![OpenRequest {
            request_id: SESSION,
            operator: "south".to_owned(),
            wish: Wish::Move,
            sealed_location_id: "d1.AAAA".to_owned(),
            session_id: SESSION.to_string(),
            plan: "home-300".to_owned(),
            asked_at_unix_ms: 1_700_000_000_000,
        }],
    };
    let owned: Vec<Owned> = items()
        .into_iter()
        .map(|item| Owned {
            item,
            former: Some("1".to_owned()),
        })
        .collect();
    // As files of one operator's terminals were.
    let older = br#"{"credentials":{"subscriber_id":"s","secret":"WlpaWg=="},"last_sealed":null}"#;
    let owned = serde_json::to_vec_pretty(&owned).expect("text");
    vec![
        serde_json::to_vec_pretty(&state).expect("text"),
        serde_json::to_vec(&State::default()).expect("text"),
        owned,
        older.to_vec(),
    ]
}

/// One of each kind.
fn items() -> Vec<Item> {
    let sessions = [active(0, offer()), active(1, offer())];
    let chosen = Chosen::from([(OWN_ROOM.to_owned(), 1)]);
    desired(&WAN, Some(&DIVIDED), &sessions, &chosen)
}

fn check(data: &[u8]) {
    match State::parse(data) {
        Ok(state) => {
            let shown = format!("{state:?}");
            assert!(
                !shown.contains(SHOWN) && !shown.contains("90, 90"),
                "{shown}"
            );
            again(&state);
        }
        Err(error) => {
            let lines = data.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.line), "{error}");
            assert!(!error.to_string().contains(SHOWN), "{error}");
        }
    }
    if let Ok(owned) = serde_json::from_slice::<Vec<Owned>>(data) {
        again(&owned);
    }
}

/// What is written can be read, and is the same once written again.
fn again<T: Serialize + DeserializeOwned>(value: &T) {
    let written = serde_json::to_vec(value).expect("text");
    let again: T = serde_json::from_slice(&written).expect("what was written");
    assert_eq!(serde_json::to_vec(&again).expect("text"), written);
}
