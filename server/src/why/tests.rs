//! A row for each way in which a chain may be broken.

use super::*;

const NOW: i64 = 1_000_000;
const QUIET: i64 = 300_000;
const HOME: &str = "110103-xinjingjiayuan-001-002-004";
const ID: &str = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";

fn step(state: State, at_ms: i64, who: &str) -> Step {
    Step {
        state,
        at_ms,
        detail: String::new(),
        who: who.to_owned(),
    }
}

/// Connected since 50, in contact all the time.
fn gateway() -> GatewayFacts {
    GatewayFacts {
        id: "gw1".to_owned(),
        configured: true,
        connected_ms: Some(50),
        seen_ms: 60,
        shared: false,
        uplink_problem: String::new(),
    }
}

fn absent(seen_ms: i64) -> GatewayFacts {
    GatewayFacts {
        connected_ms: None,
        seen_ms,
        ..gateway()
    }
}

/// In a state, after the steps that lead there: connecting at 100, establishing at 200, established
/// at 300, disconnecting at 400, unconfirmed at 500, released or refused at 600.
fn session(state: State) -> SessionFacts {
    let steps = [
        step(State::Connecting, 100, "subscriber"),
        step(State::Establishing, 200, "gateway"),
        step(State::Established, 300, "gateway"),
        step(State::Disconnecting, 400, "operator"),
        step(State::DisconnectingUnconfirmed, 500, "server"),
        step(State::Released, 600, "gateway"),
    ];
    let steps: Vec<_> = match state {
        State::Refused => vec![
            step(State::Connecting, 100, "subscriber"),
            step(State::Refused, 600, "gateway"),
        ],
        _ => {
            let end = steps.iter().position(|step| step.state == state).unwrap();
            steps[..=end].to_vec()
        }
    };
    SessionFacts {
        id: ID.to_owned(),
        location: HOME.to_owned(),
        state,
        generation: 1,
        establishment: Establishment::Terminal,
        created_ms: 100,
        since_ms: steps.last().unwrap().at_ms,
        detail: "as the gateway says".to_owned(),
        target_gateway: None,
        steps,
        gateway: gateway(),
        silent_since_ms: None,
        blocked: false,
        traffic: None,
    }
}

/// Established long ago.
fn counted(upstream_packets: u64, downstream_packets: u64, moved_ms: i64) -> SessionFacts {
    SessionFacts {
        traffic: Some(Traffic {
            upstream_packets,
            downstream_packets,
            moved_ms,
            returned_ms: if downstream_packets == 0 { 0 } else { moved_ms },
        }),
        ..session(State::Established)
    }
}

fn facts(session: Option<SessionFacts>) -> Facts {
    Facts {
        now_ms: NOW,
        quiet_after_ms: QUIET,
        asked: Asked::Session,
        registered_ms: Some(90),
        refusal: None,
        session,
    }
}

fn of(state: State, gateway: GatewayFacts) -> Facts {
    facts(Some(SessionFacts {
        gateway,
        ..session(state)
    }))
}

fn refusal(ground: Ground, at_ms: i64) -> Option<Refusal> {
    Some(Refusal {
        at_ms,
        ground,
        reason: "sealed_location_id: it does not open".to_owned(),
    })
}

fn location(gateway: Option<&str>) -> Facts {
    Facts {
        registered_ms: None,
        asked: Asked::Location {
            location: HOME.to_owned(),
            gateway: gateway.map(str::to_owned),
        },
        ..facts(None)
    }
}

/// What a broken chain is expected to say.
struct Expected {
    stage: Stage,
    kind: Kind,
    since_ms: i64,
    /// Part of the cause.
    cause: &'static str,
    host: Host,
    /// How the command begins.
    command: &'static str,
}

/// `name, facts => link, kind, since, cause, host, command`
macro_rules! rows {
    ($($name:literal, $facts:expr => $stage:ident, $kind:ident, $since:literal, $cause:literal, $host:expr, $command:literal;)*) => {
        vec![$(($name, $facts, Expected {
            stage: Stage::$stage,
            kind: Kind::$kind,
            since_ms: $since,
            cause: $cause,
            host: $host,
            command: $command,
        })),*]
    };
}

fn gw1() -> Host {
    Host::Gateway("gw1".to_owned())
}

fn broken_chains() -> Vec<(&'static str, Facts, Expected)> {
    rows![
        "nobody has this number",
        Facts { registered_ms: None, asked: Asked::Subscriber, ..facts(None) }
            => Registered, NotRegistered, 0, "nobody is registered", Host::Terminal, "doorstep-terminal register";
        "registered, never asked",
        Facts { asked: Asked::Subscriber, ..facts(None) }
            => Requested, NoSession, 0, "no session", Host::Terminal, "doorstep-terminal request";
        "nobody at the location", location(Some("gw1"))
            => Requested, NoSession, 0, "which gw1 serves", Host::Server, "doorstep-server sessions connect 110103-";
        "nobody serves the location", location(None)
            => Requested, NoGateway, 0, "no gateway's locations", Host::Server, "doorstep-server gateways";
        "the seal does not open",
        Facts { asked: Asked::Subscriber, refusal: refusal(Ground::Request, 95), ..facts(None) }
            => Requested, RequestRefused, 95, "refused: sealed_location_id", Host::Server, "doorstep-server keys seal";
        "asked for a location without a gateway",
        Facts { asked: Asked::Subscriber, refusal: refusal(Ground::NoGateway, 95), ..facts(None) }
            => Requested, RequestRefused, 95, "refused", Host::Server, "doorstep-server gateways";
        "refused after the former session had been released",
        Facts { refusal: refusal(Ground::Standing, 700), ..facts(Some(session(State::Released))) }
            => Requested, RequestRefused, 700, "refused", Host::Server, "doorstep-server sessions";
        "released; the refusal is older",
        Facts { refusal: refusal(Ground::Server, 95), ..facts(Some(session(State::Released))) }
            => Bound, Released, 600, "released by the operator", Host::Server, "doorstep-server sessions show 0190";
        "the gateway is gone from the configuration",
        of(State::Established, GatewayFacts { configured: false, ..gateway() })
            => Bound, NoGateway, 0, "not in the configuration", Host::Server, "doorstep-server gateways";
        "waits for a receipt of a gateway that is there", of(State::Disconnecting, gateway())
            => Bound, AwaitingReceipt, 400, "to be released, for the receipt of gw1", gw1(), "doorstep-gateway sessions";
        "waits for a receipt of a gateway that is away", of(State::DisconnectingUnconfirmed, absent(450))
            => Bound, AwaitingReceipt, 400, "not connected", gw1(), "doorstep-gateway status";
        "moves, and waits for the receipt of the former gateway",
        facts(Some(SessionFacts {
            target_gateway: Some("gw2".to_owned()),
            ..session(State::DisconnectingUnconfirmed)
        })) => Bound, AwaitingReceipt, 400, "to move to gw2", gw1(), "doorstep-gateway sessions";
        "the gateway went away", of(State::Connecting, absent(80))
            => Instructed, GatewayAway, 80, "gateway gw1 is not connected; it is told", gw1(), "doorstep-gateway status";
        "the gateway was never there", of(State::Connecting, absent(0))
            => Instructed, GatewayAway, 0, "never has been", Host::Server, "doorstep-server pki token gw1";
        "another server may have the gateway",
        of(State::Connecting, GatewayFacts { shared: true, ..absent(80) })
            => Instructed, GatewayAway, 80, "another server", gw1(), "doorstep-gateway status";
        "told, not acknowledged",
        of(State::Connecting, GatewayFacts { connected_ms: Some(150), ..gateway() })
            => Acknowledged, NotAcknowledged, 150, "has not acknowledged", gw1(), "doorstep-gateway status";
        "refused by the gateway", of(State::Refused, gateway())
            => Acknowledged, RefusedByGateway, 600, "has refused it: as the gateway says", gw1(), "doorstep-gateway check";
        "refused by the gateway, which has gone since", of(State::Refused, absent(700))
            => Acknowledged, RefusedByGateway, 600, "has refused it", gw1(), "doorstep-gateway check";
        "refused after it was acknowledged",
        facts(Some(SessionFacts {
            steps: vec![
                step(State::Connecting, 100, "subscriber"),
                step(State::Establishing, 200, "gateway"),
                step(State::Refused, 600, "gateway"),
            ],
            ..session(State::Refused)
        })) => Established, RefusedByGateway, 600, "has refused it", gw1(), "doorstep-gateway check";
        "the terminal does not answer", of(State::Establishing, gateway())
            => Established, TerminalSilent, 200, "the terminal does not answer", gw1(), "doorstep-gateway trace --location 110103-";
        "no router asks",
        facts(Some(SessionFacts {
            establishment: Establishment::Dhcp,
            ..session(State::Establishing)
        })) => Established, TerminalSilent, 200, "no router asks", gw1(), "doorstep-gateway trace";
        "acknowledged, then the gateway went away", of(State::Establishing, absent(250))
            => Established, GatewayAway, 250, "known when it is back", gw1(), "doorstep-gateway status";
        "acknowledged to another server, perhaps",
        of(State::Establishing, GatewayFacts { shared: true, ..absent(250) })
            => Established, TerminalSilent, 200, "the terminal does not answer", gw1(), "doorstep-gateway trace";
        "nothing was ever counted", of(State::Established, gateway())
            => Traffic, NoTraffic, 300, "no packet has passed", gw1(), "doorstep-gateway trace";
        "nothing has passed", facts(Some(counted(0, 0, 0)))
            => Traffic, NoTraffic, 300, "no packet has passed", gw1(), "doorstep-gateway trace";
        "the counters stand still", facts(Some(counted(7, 9, 600_000)))
            => Traffic, NoTraffic, 600_000, "stand still", gw1(), "doorstep-gateway trace";
        "packets leave and none comes back", facts(Some(counted(7, 0, 999_000)))
            => Traffic, OneWay, 300, "7 packets have left", gw1(), "doorstep-gateway status";
        "none comes back any more",
        facts(Some(SessionFacts {
            traffic: Some(Traffic {
                upstream_packets: 70,
                downstream_packets: 9,
                moved_ms: 999_000,
                returned_ms: 900_000,
            }),
            ..session(State::Established)
        })) => Traffic, OneWay, 900_000, "none comes back any more", gw1(), "doorstep-gateway status";
        "the terminal is not heard any more",
        facts(Some(SessionFacts {
            silent_since_ms: Some(980_000),
            ..counted(7, 9, 999_000)
        })) => Traffic, TerminalSilent, 980_000, "not heard any more", gw1(), "doorstep-gateway sessions --location 110103-";
        // That the terminal is silent comes of it.
        "the line is blocked",
        facts(Some(SessionFacts {
            silent_since_ms: Some(980_000),
            blocked: true,
            ..counted(7, 9, 999_000)
        })) => Traffic, Blocked, 0, "its line is blocked", gw1(), "doorstep-gateway lines list --blocked";
        "the uplink is down",
        facts(Some(SessionFacts {
            gateway: GatewayFacts {
                uplink_problem: "uplink uplink0 is down".to_owned(),
                ..gateway()
            },
            ..counted(7, 9, 999_000)
        })) => Traffic, UplinkDown, 0, "at gw1: uplink uplink0 is down", gw1(), "doorstep-gateway status";
        "the gateway has just gone away",
        facts(Some(SessionFacts {
            gateway: absent(999_500),
            ..counted(7, 9, 999_000)
        })) => Traffic, GatewayAway, 999_500, "it forwards on", gw1(), "doorstep-gateway status";
        "the gateway is away, so that nobody counts", of(State::Established, absent(350))
            => Traffic, GatewayAway, 350, "it forwards on", gw1(), "doorstep-gateway status";
    ]
}

#[test]
fn the_first_broken_link_is_found() {
    let cases = broken_chains();
    for (name, facts, expected) in &cases {
        let chain = examine(facts);
        let broken = chain.broken.unwrap_or_else(|| panic!("{name}: it holds"));
        assert_eq!(
            (broken.stage, broken.kind, broken.since_ms),
            (expected.stage, expected.kind, expected.since_ms),
            "{name}: {}",
            broken.cause
        );
        assert!(
            broken.cause.contains(expected.cause),
            "{name}: {}",
            broken.cause
        );
        assert!(!broken.cause.contains('\n'), "{name}");
        assert_eq!(broken.host, expected.host, "{name}");
        assert!(
            broken.command.starts_with(expected.command),
            "{name}: {}",
            broken.command
        );
        let stages: Vec<_> = chain.links.iter().map(|link| link.stage).collect();
        assert_eq!(stages, Stage::ALL, "{name}");
        for link in &chain.links {
            let place = stages.iter().position(|stage| *stage == link.stage);
            let at = stages.iter().position(|stage| *stage == broken.stage);
            let expected = match place.cmp(&at) {
                // Whose it is nobody knows who asks about an empty home.
                std::cmp::Ordering::Less if facts.registered_ms.is_none() => Holds::Unknown,
                std::cmp::Ordering::Less => Holds::Yes,
                std::cmp::Ordering::Equal => Holds::No,
                std::cmp::Ordering::Greater => Holds::Unknown,
            };
            assert_eq!(link.holds, expected, "{name}: {}", link.stage.name());
        }
    }
    let kinds: Vec<Kind> = cases.iter().map(|(_, _, expected)| expected.kind).collect();
    for kind in Kind::ALL {
        assert!(kinds.contains(&kind), "no row for {}", kind.name());
    }
}

#[test]
fn chains_that_hold_tell_since_when() {
    let young = Facts {
        now_ms: 300 + QUIET,
        ..of(State::Established, gateway())
    };
    let back = SessionFacts {
        gateway: GatewayFacts {
            connected_ms: Some(150),
            ..gateway()
        },
        ..counted(7, 9, 999_000)
    };
    // Since then the gateway has dialled anew: it was told before.
    let dialled_anew = SessionFacts {
        gateway: GatewayFacts {
            connected_ms: Some(5000),
            ..gateway()
        },
        ..counted(7, 9, 999_000)
    };
    // What was sent is answered within a minute.
    let answered_late = SessionFacts {
        traffic: Some(Traffic {
            upstream_packets: 70,
            downstream_packets: 9,
            moved_ms: 999_000,
            returned_ms: 940_000,
        }),
        ..session(State::Established)
    };
    let mut moved = counted(7, 9, 999_000);
    moved.steps = session(State::Disconnecting).steps;
    moved.steps.extend([
        step(State::Connecting, 1100, "gateway"),
        // The Ack was lost.
        step(State::Established, 1300, "gateway"),
        step(State::Established, 1400, "gateway"),
    ]);
    for (name, facts, times) in [
        (
            "flows",
            facts(Some(counted(7, 9, 999_000))),
            [90, 100, 100, 100, 200, 300, 999_000],
        ),
        (
            "the last answer is not long ago",
            facts(Some(answered_late)),
            [90, 100, 100, 100, 200, 300, 999_000],
        ),
        (
            "established a moment ago",
            young,
            [90, 100, 100, 100, 200, 300, 0],
        ),
        (
            "told once the gateway was back",
            facts(Some(back)),
            [90, 100, 100, 150, 200, 300, 999_000],
        ),
        (
            "told before the gateway dialled anew",
            facts(Some(dialled_anew)),
            [90, 100, 100, 100, 200, 300, 999_000],
        ),
        (
            "moved",
            facts(Some(moved)),
            [90, 100, 1100, 1100, 1300, 1300, 999_000],
        ),
    ] {
        let chain = examine(&facts);
        assert_eq!(chain.broken, None, "{name}");
        let told: Vec<_> = chain.links.iter().map(|link| link.at_ms).collect();
        assert_eq!(told, times, "{name}");
        assert!(
            chain.links.iter().all(|link| link.holds == Holds::Yes),
            "{name}"
        );
    }
}
