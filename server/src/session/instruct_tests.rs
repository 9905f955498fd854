use super::*;
use crate::session::service::Grant;
use crate::session::{Addresses, Connection, SealedSecret, Target};

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
