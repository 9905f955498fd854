use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::session::Establishment;
use crate::session::instruct::{self, Kind};
use crate::session::service::Grant;

fn connection(gateway: &str) -> Connection {
    Connection {
        location: "110103-xinjingjiayuan-001-002-004".parse().unwrap(),
        gateway: gateway.to_owned(),
        addresses: Addresses {
            place: Some(1),
            ipv4: Some("100.64.1.2".parse().unwrap()),
            ipv6: None,
            ipv6_line: None,
        },
        key: SealedSecret(gateway.as_bytes().to_vec()),
    }
}

fn target(gateway: &str, generation: u64) -> Target {
    Target {
        generation,
        connection: connection(gateway),
    }
}

fn session(state: State, generation: u64, target: Option<Target>) -> Session {
    Session {
        id: Uuid::from_u128(7),
        subscriber: Uuid::from_u128(8),
        generation,
        state,
        establishment: Establishment::Terminal,
        connection: connection("gw1"),
        target,
        service: Grant::default(),
        detail: String::new(),
    }
}

/// What a row comes to, in a form that fits a table.
#[derive(Debug, PartialEq, Eq)]
enum Want {
    To {
        state: State,
        generation: u64,
        gateway: &'static str,
        target: Option<u64>,
        free: Vec<&'static str>,
        instruct: bool,
    },
    Ignored(Ignored),
    Denied(Denied),
}

fn to(state: State, generation: u64) -> Want {
    Want::To {
        state,
        generation,
        gateway: "gw1",
        target: None,
        free: vec![],
        instruct: false,
    }
}

fn summary(outcome: &Outcome) -> Want {
    let name = |gateway: &str| match gateway {
        "gw1" => "gw1",
        "gw2" => "gw2",
        _ => "?",
    };
    match outcome {
        Outcome::Changed(change) => Want::To {
            state: change.session.state,
            generation: change.session.generation,
            gateway: name(&change.session.connection.gateway),
            target: change.session.target.as_ref().map(|t| t.generation),
            free: change.free_addresses_at.iter().map(|g| name(g)).collect(),
            instruct: change.instruct,
        },
        Outcome::Ignored(why) => Want::Ignored(*why),
        Outcome::Denied(why) => Want::Denied(*why),
    }
}

#[test]
fn each_state_meets_each_event() {
    use State::*;
    let ack = |gateway, generation| Event::Ack {
        gateway,
        generation,
        revision: 0,
    };
    let established = |generation| Event::Established {
        gateway: "gw1",
        generation,
        detail: "flows",
    };
    let nack = |generation| Event::Nack {
        gateway: "gw1",
        generation,
        revision: 0,
        reason: "no",
    };
    let receipt = |gateway, generation| Event::Receipt {
        gateway,
        generation,
    };
    let move_to = |gateway, generation| Event::Move {
        disconnect_generation: generation - 1,
        target: target(gateway, generation),
    };
    let moving = |gateway| Some(target(gateway, 7));
    let freed = |state, generation| Want::To {
        state,
        generation,
        gateway: "gw1",
        target: None,
        free: vec!["gw1"],
        instruct: false,
    };
    let disconnecting = |generation, target| Want::To {
        state: Disconnecting,
        generation,
        gateway: "gw1",
        target,
        free: vec![],
        instruct: true,
    };
    let arrived = |gateway, generation, free| Want::To {
        state: Connecting,
        generation,
        gateway,
        target: None,
        free,
        instruct: true,
    };
    #[rustfmt::skip]
    let rows = [
        ("acknowledged", session(Connecting, 5, None), ack("gw1", 5), to(Establishing, 5)),
        ("acknowledged again", session(Establishing, 5, None), ack("gw1", 5), Want::Ignored(Ignored::NotApplicable)),
        ("stale ack", session(Connecting, 5, None), ack("gw1", 4), Want::Ignored(Ignored::StaleGeneration)),
        ("ack from the future", session(Connecting, 5, None), ack("gw1", 6), Want::Ignored(Ignored::FutureGeneration)),
        ("ack of another gateway", session(Connecting, 5, None), ack("gw2", 5), Want::Ignored(Ignored::OtherGateway)),
        ("ack of a disconnect", session(Disconnecting, 5, None), ack("gw1", 5), Want::Ignored(Ignored::NotApplicable)),
        ("established", session(Establishing, 5, None), established(5), to(Established, 5)),
        ("established, its ack lost", session(Connecting, 5, None), established(5), to(Established, 5)),
        ("established while disconnecting", session(Disconnecting, 6, None), established(5), Want::Ignored(Ignored::StaleGeneration)),
        ("refused at once", session(Connecting, 5, None), nack(5), freed(Refused, 5)),
        ("refused later", session(Establishing, 5, None), nack(5), freed(Refused, 5)),
        ("stale nack", session(Establishing, 5, None), nack(4), Want::Ignored(Ignored::StaleGeneration)),
        ("nack of an established one", session(Established, 5, None), nack(5), Want::Ignored(Ignored::NotApplicable)),
        ("nack of a disconnect", session(Disconnecting, 5, None), nack(5), to(DisconnectingUnconfirmed, 5)),
        ("move", session(Established, 5, None), move_to("gw2", 7), disconnecting(6, Some(7))),
        ("move before it is acknowledged", session(Connecting, 5, None), move_to("gw2", 7), disconnecting(6, Some(7))),
        ("move while moving", session(Disconnecting, 6, moving("gw2")), move_to("gw2", 9), Want::Denied(Denied::Moving)),
        ("move while releasing", session(Disconnecting, 6, None), move_to("gw2", 9), Want::Denied(Denied::Releasing)),
        ("move after a refusal", session(Refused, 5, None), move_to("gw2", 7), disconnecting(6, Some(7))),
        ("asked for again after a refusal", session(Refused, 5, None), move_to("gw1", 7), arrived("gw1", 7, vec![])),
        ("move of a released one", session(Released, 5, None), move_to("gw2", 7), Want::Denied(Denied::Released)),
        ("move with an old generation", session(Established, 6, None), move_to("gw2", 7), Want::Denied(Denied::GenerationNotNewer)),
        ("receipt of a move", session(Disconnecting, 6, moving("gw2")), receipt("gw1", 6), arrived("gw2", 7, vec!["gw1"])),
        ("receipt of a move at home", session(Disconnecting, 6, moving("gw1")), receipt("gw1", 6), arrived("gw1", 7, vec![])),
        ("late receipt of a move", session(DisconnectingUnconfirmed, 6, moving("gw2")), receipt("gw1", 6), arrived("gw2", 7, vec!["gw1"])),
        ("stale receipt", session(Disconnecting, 6, moving("gw2")), receipt("gw1", 5), Want::Ignored(Ignored::StaleGeneration)),
        ("another gateway's receipt", session(Disconnecting, 6, moving("gw2")), receipt("gw2", 6), Want::Ignored(Ignored::OtherGateway)),
        ("replaced by the terminal", session(Established, 6, None), receipt("gw1", 6), freed(Released, 6)),
        ("replaced, its established lost", session(Connecting, 6, None), receipt("gw1", 6), freed(Released, 6)),
        ("replaced, told twice", session(Released, 6, None), receipt("gw1", 6), Want::Ignored(Ignored::NotApplicable)),
        ("replaced after a refusal", session(Refused, 6, None), receipt("gw1", 6), Want::Ignored(Ignored::NotApplicable)),
        ("replaced while releasing", session(Disconnecting, 7, None), receipt("gw1", 6), Want::Ignored(Ignored::StaleGeneration)),
        ("replaced at another gateway", session(Established, 6, None), receipt("gw2", 6), Want::Ignored(Ignored::OtherGateway)),
        ("receipt from the future", session(Established, 6, None), receipt("gw1", 7), Want::Ignored(Ignored::FutureGeneration)),
        ("receipt of a release", session(Disconnecting, 6, None), receipt("gw1", 6), freed(Released, 6)),
        ("overdue", session(Disconnecting, 6, None), Event::Unanswered { gateway_connected: false }, to(DisconnectingUnconfirmed, 6)),
        ("overdue already", session(DisconnectingUnconfirmed, 6, None), Event::Unanswered { gateway_connected: false }, Want::Ignored(Ignored::NotApplicable)),
        ("forced", session(DisconnectingUnconfirmed, 6, moving("gw2")), Event::Force, arrived("gw2", 7, vec!["gw1"])),
        ("forced release", session(Disconnecting, 6, None), Event::Force, freed(Released, 6)),
        ("forced without need", session(Established, 6, None), Event::Force, Want::Denied(Denied::NotWaiting)),
        ("released", session(Established, 6, None), Event::Release { generation: 7 }, disconnecting(7, None)),
        ("released with an old generation", session(Established, 6, None), Event::Release { generation: 6 }, Want::Denied(Denied::GenerationNotNewer)),
        ("released after a refusal", session(Refused, 6, None), Event::Release { generation: 7 }, to(Released, 7)),
        ("released twice", session(Released, 6, None), Event::Release { generation: 7 }, Want::Denied(Denied::Released)),
        ("released while releasing", session(Disconnecting, 6, None), Event::Release { generation: 9 }, Want::Ignored(Ignored::NotApplicable)),
        ("held though refused", session(Refused, 6, None), Event::HeldThoughRefused { generation: 7 }, to(Refused, 7)),
        ("held and not refused", session(Established, 6, None), Event::HeldThoughRefused { generation: 7 }, Want::Ignored(Ignored::NotApplicable)),
    ];
    for (name, row, event, want) in rows {
        assert_eq!(summary(&apply(&row, event)), want, "{name}");
    }
    let given_up = apply(
        &session(Disconnecting, 6, moving("gw2")),
        Event::Release { generation: 9 },
    );
    let Outcome::Changed(change) = apply(&session(Established, 6, None), receipt("gw1", 6)) else {
        panic!("must change");
    };
    assert!(
        change
            .session
            .detail
            .starts_with("replaced by the terminal")
    );
    assert_eq!(change.session.connection.key, SealedSecret::default());
    assert_eq!(
        instruct::derive(&change.session, "gw1"),
        None,
        "no Connect again"
    );
    assert_eq!(
        summary(&given_up),
        Want::To {
            state: Disconnecting,
            generation: 6,
            gateway: "gw1",
            target: None,
            free: vec!["gw2"],
            instruct: false,
        },
        "released while moving"
    );
}

#[test]
fn what_ends_keeps_neither_key_nor_addresses() {
    for event in [
        Event::Force,
        Event::Receipt {
            gateway: "gw1",
            generation: 6,
        },
    ] {
        let Outcome::Changed(change) = apply(&session(State::Disconnecting, 6, None), event) else {
            panic!("must change");
        };
        assert_eq!(change.session.connection.key, SealedSecret::default());
        assert_eq!(change.session.connection.addresses, Addresses::default());
    }
}

/// One move in a random game between subscribers, gateways, operator and clock.
#[derive(Clone, Debug)]
enum Play {
    Ack(bool),
    Established(bool),
    Nack(bool),
    /// The gateway that was told to disconnect sends its receipt (or an older one again).
    Receipt(bool),
    Unanswered,
    Force,
    Release,
    Move(bool),
    Forged(u64, bool),
    Serve(u8),
    ServiceHeld(u64, bool),
}

fn play() -> impl Strategy<Value = Play> {
    prop_oneof![
        3 => any::<bool>().prop_map(Play::Ack),
        3 => any::<bool>().prop_map(Play::Established),
        1 => any::<bool>().prop_map(Play::Nack),
        3 => any::<bool>().prop_map(Play::Receipt),
        1 => Just(Play::Unanswered),
        1 => Just(Play::Force),
        1 => Just(Play::Release),
        3 => any::<bool>().prop_map(Play::Move),
        1 => (0u64..40, any::<bool>()).prop_map(|(g, gw)| Play::Forged(g, gw)),
        2 => (0u8..8).prop_map(Play::Serve),
        1 => (0u64..9, any::<bool>()).prop_map(|(r, gw)| Play::ServiceHeld(r, gw)),
    ]
}

const GATEWAYS: [&str; 2] = ["gw1", "gw2"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Two model gateways obey what is derived from the row. Whatever happens in whatever order:
    /// generations only rise, and no two gateways may forward unless an operator forced it.
    #[test]
    fn any_history_keeps_the_promises(plays in prop::collection::vec(play(), 1..60)) {
        let mut row = session(State::Connecting, 1, None);
        let mut next = 1u64;
        // What each gateway has been told last: (generation, may forward).
        let mut told: [Option<(u64, bool)>; 2] = [None, None];
        let mut forced = false;
        for play in plays {
            // Deliver what the row asks for, as a connected gateway would be told.
            for (index, gateway) in GATEWAYS.iter().enumerate() {
                if let Some(wanted) = instruct::derive(&row, gateway)
                    && told[index].is_none_or(|(generation, _)| wanted.generation > generation)
                {
                    let forwards = match wanted.kind {
                        Kind::Connect | Kind::ChangeService => true,
                        // Until its receipt it may forward.
                        Kind::Disconnect => told[index].is_some_and(|(_, forwards)| forwards),
                    };
                    told[index] = Some((wanted.generation, forwards));
                }
            }
            let may_forward = told.iter().flatten().filter(|(_, forwards)| *forwards).count();
            prop_assert!(may_forward <= 1 || forced, "two gateways may forward: {row:?}");

            let at = |first: bool| usize::from(!first);
            let event = match play {
                Play::Ack(g) => Event::Ack {
                    gateway: GATEWAYS[at(g)],
                    generation: told[at(g)].map_or(0, |t| t.0),
                    revision: row.service.revision,
                },
                Play::Established(g) => Event::Established {
                    gateway: GATEWAYS[at(g)],
                    generation: told[at(g)].map_or(0, |t| t.0),
                    detail: "flows",
                },
                Play::Nack(g) => {
                    // A gateway that refuses a Connect does not forward; once it forwards it does
                    // not refuse that Connect any more.
                    let index = at(g);
                    if row.connection.gateway == GATEWAYS[index]
                        && matches!(row.state, State::Connecting | State::Establishing)
                        && let Some(known) = &mut told[index]
                        && known.0 == row.generation
                    {
                        known.1 = false;
                    }
                    Event::Nack {
                        gateway: GATEWAYS[index],
                        generation: told[index].map_or(0, |t| t.0),
                        revision: 0,
                        reason: "no",
                    }
                }
                Play::Receipt(g) => {
                    let index = at(g);
                    let disconnect = instruct::derive(&row, GATEWAYS[index])
                        .is_some_and(|wanted| wanted.kind == Kind::Disconnect);
                    if disconnect && let Some(known) = &mut told[index] {
                        known.1 = false;
                    }
                    Event::Receipt {
                        gateway: GATEWAYS[index],
                        generation: if disconnect {
                            told[index].map_or(0, |t| t.0)
                        } else {
                            told[index].map_or(0, |t| t.0.saturating_sub(1))
                        },
                    }
                }
                Play::Unanswered => Event::Unanswered { gateway_connected: false },
                Play::Force => Event::Force,
                Play::Release => {
                    next = next.max(row.generation) + 1;
                    Event::Release { generation: next }
                }
                Play::Move(g) => {
                    next = next.max(row.generation) + 2;
                    Event::Move {
                        disconnect_generation: next - 1,
                        target: target(GATEWAYS[at(g)], next),
                    }
                }
                // An Ack out of nowhere, any generation, any gateway.
                Play::Forged(generation, g) => Event::Ack {
                    gateway: GATEWAYS[at(g)],
                    generation,
                    revision: generation,
                },
                Play::Serve(priority) => Event::Serve {
                    service: Service { priority, ..Service::default() },
                    plan: None,
                },
                Play::ServiceHeld(revision, g) => Event::ServiceHeld {
                    gateway: GATEWAYS[at(g)],
                    generation: row.generation,
                    revision,
                },
            };
            let is_force = event == Event::Force;
            if let Outcome::Changed(change) = apply(&row, event) {
                forced |= is_force;
                let after = change.session;
                prop_assert!(after.generation >= row.generation, "a generation fell");
                let (was, is) = (&row.service, &after.service);
                prop_assert!(is.revision >= was.revision, "a revision fell");
                prop_assert!(is.acknowledged <= is.revision, "acknowledged before it was given");
                prop_assert!(
                    is.service == was.service || is.revision > was.revision,
                    "another service under an old revision"
                );
                prop_assert!(
                    after.generation > row.generation
                        || instruct::derive(&after, &after.connection.gateway)
                            == instruct::derive(&row, &row.connection.gateway)
                        || !after.state.is_live(),
                    "a new instruction under an old generation: {row:?} -> {after:?}"
                );
                prop_assert!(
                    after.target.as_ref().is_none_or(|t| t.generation > after.generation),
                    "a target that would be stale on arrival"
                );
                prop_assert!(
                    after.target.is_none() || after.state.is_disconnecting(),
                    "a target is kept only while it waits"
                );
                row = after;
            }
        }
        // It has ended, or it stands where one more event of a named party brings it on, and the
        // row says which.
        match row.state {
            State::Released | State::Established => {}
            State::Refused => prop_assert!(!row.detail.is_empty()),
            State::Connecting | State::Establishing => {
                let wanted = instruct::derive(&row, &row.connection.gateway);
                prop_assert_eq!(wanted.map(|w| w.kind), Some(Kind::Connect));
            }
            State::Disconnecting | State::DisconnectingUnconfirmed => {
                prop_assert!(!row.detail.is_empty());
                let on = apply(&row, Event::Receipt {
                    gateway: &row.connection.gateway,
                    generation: row.generation,
                });
                prop_assert!(matches!(on, Outcome::Changed(_)));
            }
        }
    }
}
