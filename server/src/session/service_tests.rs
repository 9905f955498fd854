use uuid::Uuid;

use super::*;
use crate::session::machine::{Denied, Event, Outcome, apply};
use crate::session::{Addresses, Connection, Establishment, SealedSecret, Session, State, Target};

#[test]
fn only_another_service_is_another_revision() {
    let fast = Service {
        downstream_bps: 300_000_000,
        ..Service::default()
    };
    let first = Grant::new(Some(("home", fast)));
    assert_eq!((first.revision, first.acknowledged), (1, 0));
    let same = first.with(fast, None);
    assert_eq!((same.revision, same.plan), (1, None));
    let slower = Service {
        downstream_bps: 64_000,
        ..fast
    };
    let next = first.with(slower, Some("slow"));
    assert_eq!((next.revision, next.plan.as_deref()), (2, Some("slow")));
    assert_eq!(next.service, slower);
}

#[test]
fn what_is_said_of_a_service() {
    assert_eq!(
        Service::default().to_string(),
        "up unlimited, down unlimited, priority 0"
    );
    let service = Service {
        upstream_bps: 1_500_000,
        downstream_bps: 300_000_000,
        shape_downstream: true,
        priority: 2,
        time_to_live_s: 0,
    };
    assert_eq!(
        service.to_string(),
        "up 1500k, down 300M shaped, priority 2"
    );
    for (spoiled, expected) in [
        (
            Service {
                priority: 8,
                ..service
            },
            "priority: must be 0 to 7",
        ),
        (
            Service {
                upstream_bps: 63_999,
                ..service
            },
            "upstream: must be at least 64k, or 0 for no limit",
        ),
        (
            Service {
                downstream_bps: u64::MAX,
                ..service
            },
            "downstream: must be at most 1000G, or 0 for no limit",
        ),
    ] {
        assert_eq!(spoiled.check().unwrap_err().to_string(), expected);
    }
}

fn row(state: State, revision: u64, acknowledged: u64) -> Session {
    Session {
        id: Uuid::from_u128(7),
        subscriber: Uuid::from_u128(8),
        generation: 5,
        state,
        establishment: Establishment::Terminal,
        connection: Connection {
            location: "110103-xinjingjiayuan-001-002-004".parse().unwrap(),
            gateway: "gw1".to_owned(),
            addresses: Addresses::default(),
            key: SealedSecret::default(),
        },
        target: None,
        service: Grant {
            revision,
            acknowledged,
            problem: "why".to_owned(),
            ..Grant::default()
        },
        detail: String::new(),
    }
}

/// What an event makes of a row's service: newest revision, acknowledged one, problem, and whether
/// the gateway must be told; nothing where it is ignored.
fn outcome(row: &Session, event: Event<'_>) -> Option<(u64, u64, String, bool)> {
    match apply(row, event) {
        Outcome::Changed(change) => {
            assert_eq!(
                change.step,
                change.session.state != row.state,
                "a service is no step of its history"
            );
            let grant = change.session.service;
            Some((
                grant.revision,
                grant.acknowledged,
                grant.problem,
                change.instruct,
            ))
        }
        Outcome::Ignored(_) => None,
        Outcome::Denied(denied) => {
            assert_eq!(denied, Denied::Released);
            None
        }
    }
}

#[test]
fn what_gateways_say_of_services() {
    use State::*;
    let ack = |generation, revision| Event::Ack {
        gateway: "gw1",
        generation,
        revision,
    };
    let nack = |generation, revision| Event::Nack {
        gateway: "gw1",
        generation,
        revision,
        reason: "no",
    };
    let held = |revision| Event::ServiceHeld {
        gateway: "gw1",
        generation: 5,
        revision,
    };
    let to = |revision, acknowledged, problem: &str, instruct| {
        Some((revision, acknowledged, problem.to_owned(), instruct))
    };
    #[rustfmt::skip]
    let rows = [
        ("acknowledged", row(Established, 4, 3), ack(5, 4), to(4, 4, "", false)),
        ("not the newest", row(Established, 4, 1), ack(5, 3), to(4, 3, "why", false)),
        ("acknowledged again", row(Established, 4, 4), ack(5, 4), None),
        ("an older one late", row(Established, 4, 4), ack(5, 3), None),
        ("never given out", row(Established, 4, 3), ack(5, 9), None),
        ("another generation", row(Established, 4, 3), ack(4, 4), None),
        ("with the connect", row(Connecting, 4, 0), ack(5, 4), to(4, 4, "", false)),
        ("changed since the connect", row(Connecting, 4, 0), ack(5, 3), to(4, 3, "why", true)),
        ("by a gateway that knows no services", row(Connecting, 1, 0), ack(5, 0), to(1, 0, "why", true)),
        ("of a disconnect", row(Disconnecting, 4, 3), ack(5, 4), None),
        ("refused", row(Established, 4, 3), nack(5, 4), to(4, 3, "no", false)),
        ("refused before it flows", row(Establishing, 4, 3), nack(5, 4), to(4, 3, "no", false)),
        ("an older one refused", row(Established, 4, 2), nack(5, 3), None),
        ("refused after all", row(Established, 4, 4), nack(5, 4), None),
        ("refused while it ends", row(Disconnecting, 4, 3), nack(5, 4), None),
        ("held as known", row(Established, 4, 3), held(3), None),
        ("held, its ack lost", row(Established, 4, 3), held(4), to(4, 4, "", false)),
        ("held an older one than acknowledged", row(Established, 4, 4), held(2), to(4, 2, "why", false)),
        ("held a newer one than the table's", row(Established, 4, 4), held(9), to(10, 9, "why", false)),
        ("held while it ends", row(Disconnecting, 4, 3), held(4), None),
    ];
    for (name, row, event, want) in rows {
        assert_eq!(outcome(&row, event), want, "{name}");
    }
}

#[test]
fn services_change_in_every_state_but_the_last() {
    use State::*;
    let fast = Service {
        downstream_bps: 300_000_000,
        ..Service::default()
    };
    for (state, instruct) in [
        (Connecting, true),
        (Establishing, true),
        (Established, true),
        (Disconnecting, false),
        (DisconnectingUnconfirmed, false),
        (Refused, false),
    ] {
        let row = row(state, 4, 4);
        let event = Event::Serve {
            service: fast,
            plan: Some("home"),
        };
        let want = Some((5, 4, String::new(), instruct));
        assert_eq!(outcome(&row, event), want, "{state}");
        // The same service under a plan's name is nothing new to the gateway.
        let event = Event::Serve {
            service: Service::default(),
            plan: Some("home"),
        };
        let want = Some((4, 4, "why".to_owned(), false));
        assert_eq!(outcome(&row, event), want, "{state}");
        let event = Event::Serve {
            service: Service::default(),
            plan: None,
        };
        assert_eq!(outcome(&row, event), None, "{state}");
    }
    let event = Event::Serve {
        service: fast,
        plan: None,
    };
    assert_eq!(outcome(&row(Released, 4, 4), event), None);
}

#[test]
fn another_gateway_has_acknowledged_nothing() {
    let mut moving = row(State::Disconnecting, 4, 4);
    moving.target = Some(Target {
        generation: 6,
        connection: Connection {
            gateway: "gw2".to_owned(),
            ..moving.connection.clone()
        },
    });
    let receipt = Event::Receipt {
        gateway: "gw1",
        generation: 5,
    };
    assert_eq!(outcome(&moving, receipt), Some((4, 0, String::new(), true)));
}
