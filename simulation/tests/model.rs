//! All orders of events around a few requests, and mistakes that must be found.
//!
//! Some searches have no end that anybody has waited for: those look at so many states, the nearest
//! first. `DOORSTEP_MODEL_STATES` is how many; 0 means all. `DOORSTEP_MODEL_MORE=1` allows one more of
//! each kind of trouble in every search, and takes hours; `DOORSTEP_MODEL_SECONDS` ends each early.

use std::time::Duration;

use doorstep_simulation::model::{Bounds, ControlPlane, Fault, Request, TimeToLive};
use stateright::{Checker, Expectation, HasDiscoveries, Model as _};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")),
    )
}

fn bounds(requests: &[Request]) -> Bounds {
    let more = number("DOORSTEP_MODEL_MORE").unwrap_or_default() as u8;
    Bounds {
        sessions: 1,
        requests: requests.to_vec(),
        gateway_crashes: more,
        replica_crashes: more,
        breaks: more,
        failures: more,
        ticks: more,
        past: 0,
        time_to_live: None,
        fault: Fault::None,
    }
}

/// `states`: how many to look at; none: all of them.
fn check(name: &str, bounds: Bounds, states: Option<usize>) -> impl Checker<ControlPlane> + use<> {
    let mut search = ControlPlane::new(bounds)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures);
    if let Some(states) = states {
        search = search.target_state_count(states);
    }
    if let Some(limit) = number("DOORSTEP_MODEL_SECONDS") {
        search = search.timeout(Duration::from_secs(limit));
    }
    let checker = search.spawn_bfs().join();
    eprintln!(
        "{name}: {} states, {} unique, {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker
}

fn exhaust(name: &str, bounds: Bounds) {
    let checker = check(name, bounds, None);
    checker.assert_properties();
    assert!(checker.is_done(), "all has been tried");
}

/// Looks at the states that are nearest to the beginning.
fn explore(name: &str, bounds: Bounds) {
    let states = number("DOORSTEP_MODEL_STATES").map_or(STATES, |states| states as usize);
    if states == 0 {
        return exhaust(name, bounds);
    }
    let checker = check(name, bounds, Some(states));
    assert!(checker.state_count() >= states || checker.is_done());
    for property in checker.model().properties() {
        if property.expectation == Expectation::Always {
            checker.assert_no_discovery(property.name);
        }
    }
}

/// Some seconds' worth.
const STATES: usize = 30_000;

fn find(fault: Fault, bounds: Bounds, properties: &[&str]) {
    let checker = check(&format!("{fault:?}"), Bounds { fault, ..bounds }, None);
    let found = checker.discoveries();
    assert!(
        properties
            .iter()
            .any(|property| found.contains_key(property)),
        "{fault:?} breaks none of {properties:?}"
    );
}

const TWO: &str = "never two gateways forward";
const RISE: &str = "generations only rise";
const RECEIPT: &str = "an acknowledged receipt is durable";
const WAITS: &str = "nothing waits for ever for who agreed to a time to live";
const LOST: &str = "no acknowledged change is lost";

const MOVE: [Request; 2] = [Request::Connect(0, 0), Request::Move(0, 1)];
const THERE_AND_BACK: [Request; 3] = [
    Request::Connect(0, 0),
    Request::Move(0, 1),
    Request::Move(0, 0),
];
const GIVEN_UP: [Request; 3] = [
    Request::Connect(0, 0),
    Request::Move(0, 1),
    Request::Release(0),
];
const FORCED: [Request; 3] = [
    Request::Connect(0, 0),
    Request::Move(0, 1),
    Request::Force(0),
];

#[test]
fn a_move() {
    exhaust("a move", bounds(&MOVE));
}

#[test]
fn there_and_back() {
    explore("there and back", bounds(&THERE_AND_BACK));
}

#[test]
fn a_move_that_is_given_up() {
    exhaust("given up", bounds(&GIVEN_UP));
}

#[test]
fn a_move_that_is_forced() {
    exhaust("forced", bounds(&FORCED));
}

/// One at each gateway; the first moves to the other.
#[test]
fn two_subscribers() {
    let requests = [
        Request::Connect(0, 0),
        Request::Connect(1, 1),
        Request::Move(0, 1),
    ];
    let sessions = 2;
    explore(
        "two",
        Bounds {
            sessions,
            ..bounds(&requests)
        },
    );
}

#[test]
fn a_move_and_a_broken_stream() {
    let breaks = 1;
    explore(
        "stream",
        Bounds {
            breaks,
            ..bounds(&MOVE)
        },
    );
}

#[test]
fn a_move_and_a_crash_of_a_gateway() {
    let gateway_crashes = 1;
    explore(
        "gateway",
        Bounds {
            gateway_crashes,
            ..bounds(&MOVE)
        },
    );
}

#[test]
fn a_move_and_a_crash_of_a_replica() {
    let replica_crashes = 1;
    exhaust(
        "replica",
        Bounds {
            replica_crashes,
            ..bounds(&MOVE)
        },
    );
}

#[test]
fn a_move_after_the_fast_path_failed() {
    let failures = 1;
    exhaust(
        "fast path",
        Bounds {
            failures,
            ..bounds(&MOVE)
        },
    );
}

/// Of a session that is established: the time to live counts when a gateway is away.
fn mortal(ticks: u8, passes: u8) -> Bounds {
    let time_to_live = Some(TimeToLive { ticks, passes });
    Bounds {
        past: 1,
        time_to_live,
        ..bounds(&MOVE)
    }
}

#[test]
fn a_move_from_a_gateway_whose_time_is_over() {
    exhaust("time to live", mortal(1, 3));
}

#[test]
fn a_move_from_a_gateway_that_starts_anew_while_its_time_runs() {
    let gateway_crashes = 1;
    let bounds = Bounds {
        gateway_crashes,
        ..mortal(1, 3)
    };
    explore("time to live, crash", bounds);
}

#[test]
fn a_time_to_live_without_a_margin_is_found() {
    find(Fault::NoMargin, mortal(1, 3), &[TWO]);
}

#[test]
fn a_contact_that_is_lost_is_found() {
    let gateway_crashes = 1;
    let bounds = Bounds {
        gateway_crashes,
        ..mortal(2, 4)
    };
    find(Fault::ContactIsLost, bounds, &[TWO]);
}

#[test]
fn a_stream_that_outlives_its_written_contact_is_found() {
    find(Fault::UnwrittenGoOn, mortal(1, 3), &[TWO]);
}

#[test]
fn a_server_that_waits_for_ever_is_found() {
    find(Fault::NobodyLooks, mortal(1, 3), &[WAITS]);
}

#[test]
fn the_target_told_too_early_is_found() {
    find(Fault::TargetToldBeforeReceipt, bounds(&MOVE), &[TWO]);
}

#[test]
fn writes_without_compare_and_set_are_found() {
    find(Fault::NoCompareAndSet, bounds(&MOVE), &[LOST, RISE, TWO]);
}

#[test]
fn a_receipt_acknowledged_too_early_is_found() {
    find(Fault::ReceiptAcknowledgedEarly, bounds(&MOVE), &[RECEIPT]);
}

#[test]
fn a_gateway_that_takes_older_generations_is_found() {
    find(Fault::GatewayTakesOlder, bounds(&MOVE), &[TWO, RISE]);
}

#[test]
fn fences_that_are_lost_are_found() {
    let gateway_crashes = 1;
    let bounds = Bounds {
        gateway_crashes,
        ..bounds(&MOVE)
    };
    find(Fault::FencesAreLost, bounds, &[TWO]);
}
