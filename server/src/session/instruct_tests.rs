use proptest::prelude::*;

use super::*;
use crate::session::machine::{self, Event, Outcome};
use crate::session::service::Grant;
use crate::session::{Addresses, Connection, Establishment, SealedSecret, Target};

fn row(id: u128, state: State, generation: u64, gateway: &str) -> Session {
    let connection = Connection {
        location: "110103-xinjingjiayuan-001-002-004".parse().unwrap(),
        gateway: gateway.to_owned(),
        addresses: Addresses::default(),
        key: SealedSecret::default(),
    };
    Session {
        id: Uuid::from_u128(id),
        subscriber: Uuid::from_u128(99),
        generation,
        state,
        establishment: Establishment::Terminal,
        target: state.is_disconnecting().then(|| Target {
            generation: generation + 1,
            connection: Connection {
                gateway: "gw2".to_owned(),
                ..connection.clone()
            },
        }),
        connection,
        service: Grant::default(),
        detail: String::new(),
    }
}

fn held(id: u128, generation: u64, phase: Phase) -> Held {
    Held {
        session: Uuid::from_u128(id),
        generation,
        phase,
        revision: 0,
    }
}

fn sent(id: u128, generation: u64, kind: Kind) -> Instruction {
    Instruction {
        session: Uuid::from_u128(id),
        generation,
        kind,
    }
}

#[test]
fn only_the_present_gateway_is_instructed() {
    use State::*;
    for state in State::ALL {
        let want = match state {
            Connecting | Establishing | Established => Some(Kind::Connect),
            Disconnecting | DisconnectingUnconfirmed => Some(Kind::Disconnect),
            Refused | Released => None,
        };
        let row = row(1, state, 5, "gw1");
        assert_eq!(derive(&row, "gw1").map(|i| i.kind), want, "{state}");
        assert_eq!(derive(&row, "gw2"), None, "{state}: the target waits");
    }
}

/// Each row: state, newest revision, acknowledged one, and what is sent.
#[test]
fn a_service_that_is_not_acknowledged_is_sent() {
    use State::*;
    for (state, revision, acknowledged, want) in [
        (Connecting, 2, 0, Some(Kind::Connect)),
        (Establishing, 2, 1, Some(Kind::ChangeService)),
        (Established, 2, 0, Some(Kind::ChangeService)),
        (Established, 2, 2, Some(Kind::Connect)),
        (Disconnecting, 2, 1, Some(Kind::Disconnect)),
        (Refused, 2, 1, None),
        (Released, 2, 1, None),
    ] {
        let mut row = row(1, state, 5, "gw1");
        row.service.revision = revision;
        row.service.acknowledged = acknowledged;
        assert_eq!(due(&row, "gw1").map(|i| i.kind), want, "{state}");
        assert_eq!(due(&row, "gw2"), None, "{state}");
    }
}

/// Each row: revision held, newest in the table, acknowledged, whether it differs.
#[test]
fn services_at_hello() {
    for (held_revision, revision, acknowledged, differs) in [
        (2, 2, 2, false),
        (0, 0, 0, false),
        (1, 2, 1, true),
        (1, 2, 2, true),
        (2, 2, 1, true),
        (3, 2, 2, true),
    ] {
        for phase in [Phase::Establishing, Phase::Established] {
            let mut row = row(1, State::Established, 5, "gw1");
            row.service.revision = revision;
            row.service.acknowledged = acknowledged;
            let mut item = held(1, 5, phase);
            item.revision = held_revision;
            let want = if differs { vec![item] } else { vec![] };
            let found = diff("gw1", &[item], &[row]);
            assert_eq!(
                found.services, want,
                "{held_revision} {revision} {acknowledged}"
            );
            assert_eq!(found.send, vec![], "not by another Connect");
        }
    }
}

#[test]
fn differences_at_hello() {
    use State::*;
    type Case = (&'static str, Vec<Held>, Vec<Session>, Diff);
    let none = Diff::default;
    let send = |send| Diff { send, ..none() };
    let cases: Vec<Case> = vec![
        (
            "nothing held: disconnects first, then connects",
            vec![],
            vec![
                row(1, Connecting, 5, "gw1"),
                row(2, Disconnecting, 6, "gw1"),
                row(3, Established, 7, "gw1"),
            ],
            send(vec![
                sent(2, 6, Kind::Disconnect),
                sent(1, 5, Kind::Connect),
                sent(3, 7, Kind::Connect),
            ]),
        ),
        (
            "held as it should be",
            vec![held(1, 5, Phase::Established)],
            vec![row(1, Established, 5, "gw1")],
            Diff {
                holds: vec![sent(1, 5, Kind::Connect)],
                ..none()
            },
        ),
        (
            "its ack was lost",
            vec![held(1, 5, Phase::Establishing)],
            vec![row(1, Connecting, 5, "gw1")],
            Diff {
                holds: vec![sent(1, 5, Kind::Connect)],
                acked: vec![held(1, 5, Phase::Establishing)],
                ..none()
            },
        ),
        (
            "its Established was lost",
            vec![held(1, 5, Phase::Established)],
            vec![row(1, Connecting, 5, "gw1")],
            Diff {
                send: vec![sent(1, 5, Kind::Connect)],
                holds: vec![sent(1, 5, Kind::Connect)],
                established: vec![held(1, 5, Phase::Established)],
                ..none()
            },
        ),
        (
            "held in an older generation",
            vec![held(1, 4, Phase::Established)],
            vec![row(1, Established, 5, "gw1")],
            send(vec![sent(1, 5, Kind::Connect)]),
        ),
        (
            "a disconnect that never arrived",
            vec![held(1, 4, Phase::Established)],
            vec![row(1, DisconnectingUnconfirmed, 5, "gw1")],
            send(vec![sent(1, 5, Kind::Disconnect)]),
        ),
        (
            "its receipt is on the way",
            vec![held(1, 5, Phase::Disconnected)],
            vec![row(1, Disconnecting, 5, "gw1")],
            Diff {
                holds: vec![sent(1, 5, Kind::Disconnect)],
                ..none()
            },
        ),
        (
            "disconnected once, and wanted again",
            vec![held(1, 5, Phase::Disconnected)],
            vec![row(1, Connecting, 6, "gw1")],
            send(vec![sent(1, 6, Kind::Connect)]),
        ),
        (
            "replaced by the terminal, and its receipt will come by itself",
            vec![held(1, 5, Phase::Disconnected)],
            vec![row(1, Established, 5, "gw1")],
            none(),
        ),
        (
            "has moved on to another gateway",
            vec![held(1, 4, Phase::Established)],
            vec![row(1, Established, 6, "gw2")],
            send(vec![sent(1, 6, Kind::Disconnect)]),
        ),
        (
            "has been released",
            vec![held(1, 4, Phase::Established)],
            vec![row(1, Released, 5, "gw1")],
            send(vec![sent(1, 5, Kind::Disconnect)]),
        ),
        (
            "ended, and its receipt will come by itself",
            vec![held(1, 5, Phase::Disconnected)],
            vec![row(1, Released, 5, "gw1")],
            none(),
        ),
        (
            "refused and held in that very generation",
            vec![held(1, 5, Phase::Establishing)],
            vec![row(1, Refused, 5, "gw1")],
            Diff {
                held_though_refused: vec![held(1, 5, Phase::Establishing)],
                ..none()
            },
        ),
        (
            "unknown here: left alone",
            vec![held(1, 5, Phase::Established)],
            vec![],
            Diff {
                unknown: vec![held(1, 5, Phase::Established)],
                ..none()
            },
        ),
        (
            "newer than the table, which was restored: left alone",
            vec![held(1, 9, Phase::Established)],
            vec![row(1, Established, 5, "gw1")],
            Diff {
                unknown: vec![held(1, 9, Phase::Established)],
                ..none()
            },
        ),
        (
            "newer than a release in the table: left alone",
            vec![held(1, 9, Phase::Established)],
            vec![row(1, Released, 5, "gw1")],
            Diff {
                unknown: vec![held(1, 9, Phase::Established)],
                ..none()
            },
        ),
    ];
    for (name, held, rows, want) in cases {
        assert_eq!(diff("gw1", &held, &rows), want, "{name}");
    }
}

/// What a gateway that follows all that it can makes of the instructions, and what the table makes
/// of its refusals.
fn follow(held: &mut Vec<Held>, rows: &mut [Session], send: &[Instruction]) {
    for wanted in send {
        let newest = held
            .iter()
            .filter(|held| held.session == wanted.session)
            .map(|held| held.generation)
            .max();
        let phase = match wanted.kind {
            Kind::Connect | Kind::ChangeService => Phase::Established,
            Kind::Disconnect => Phase::Disconnected,
        };
        if newest.is_none_or(|newest| newest < wanted.generation) {
            held.retain(|held| held.session != wanted.session);
            held.push(Held {
                session: wanted.session,
                generation: wanted.generation,
                phase,
                revision: 0,
            });
            continue;
        }
        for row in rows.iter_mut().filter(|row| row.id == wanted.session) {
            let nack = Event::Nack {
                gateway: "gw1",
                generation: wanted.generation,
                revision: 0,
                reason: "seen already",
            };
            if let Outcome::Changed(change) = machine::apply(row, nack) {
                *row = change.session;
            }
        }
    }
}

/// Established in the table, and receipted at the gateway in a newer generation; or replaced there in
/// this one, of which the receipt is on the way.
fn outdated(row: &Session, held: &[Held]) -> bool {
    held.iter().any(|held| {
        held.session == row.id
            && held.phase == Phase::Disconnected
            && match row.state {
                State::Established => held.generation >= row.generation,
                _ => row.state.is_connected_side() && held.generation == row.generation,
            }
    })
}

fn phases() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Establishing),
        Just(Phase::Established),
        Just(Phase::Disconnected)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is in the table and whatever a gateway holds: after two Hellos there is nothing
    /// more to send, but what the gateway refuses. Then the row says so, or it is an established
    /// one in a table older than the gateway's receipt.
    #[test]
    fn any_difference_is_gone_after_two_hellos(
        rows in prop::collection::btree_map(0..4u128, (0..7usize, 1..6u64, any::<bool>()), 0..4),
        held in prop::collection::btree_map(0..4u128, (1..6u64, phases()), 0..4),
    ) {
        let mut rows: Vec<Session> = rows
            .into_iter()
            .map(|(id, (state, generation, here))| {
                row(id, State::ALL[state], generation, if here { "gw1" } else { "gw2" })
            })
            .collect();
        let mut holds: Vec<Held> = held
            .into_iter()
            .map(|(id, (generation, phase))| self::held(id, generation, phase))
            .collect();
        for _ in 0..2 {
            let send = diff("gw1", &holds, &rows).send;
            follow(&mut holds, &mut rows, &send);
        }
        let last = diff("gw1", &holds, &rows);
        for wanted in &last.send {
            let row = rows.iter().find(|row| row.id == wanted.session).expect("a row");
            let says_so =
                row.state.is_disconnecting() && row.detail.contains("refuses to disconnect");
            prop_assert!(says_so || outdated(row, &holds), "{wanted:?} of {row:?}");
        }
        for row in &rows {
            let item = holds.iter().find(|held| held.session == row.id);
            let forwards = item.is_some_and(|held| held.phase != Phase::Disconnected);
            let explained = last.unknown.iter().chain(&last.held_though_refused);
            let explained = explained.chain(item.filter(|_| row.state.is_disconnecting()));
            let explained = explained.map(|held| held.session).any(|id| id == row.id);
            let wanted = row.state.is_connected_side() && row.connection.gateway == "gw1";
            let explained = explained || outdated(row, &holds);
            prop_assert!(forwards == wanted || explained, "{row:?} {item:?}");
        }
    }
}

/// A receipt that was not acknowledged yet, and the Connect that came after it.
#[test]
fn a_session_that_came_back_is_held_twice() {
    let rows = [row(1, State::Connecting, 3, "gw1")];
    let held = [
        held(1, 2, Phase::Disconnected),
        held(1, 3, Phase::Establishing),
    ];
    let diff = diff("gw1", &held, &rows);
    assert_eq!(diff.send, []);
    assert_eq!(diff.acked, [held[1]]);
    assert_eq!(diff.unknown, []);
}
