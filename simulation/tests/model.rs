//! All orders of events of a few requests, and mistakes that must be found.

use doorstep_simulation::model::{Bounds, ControlPlane, Fault, Request};
use stateright::{Checker as _, HasDiscoveries, Model as _};

fn bounds(requests: &[Request]) -> Bounds {
    Bounds {
        sessions: 1,
        requests: requests.to_vec(),
        gateway_crashes: 0,
        replica_crashes: 0,
        breaks: 0,
        failures: 0,
        ticks: 0,
        fault: Fault::None,
    }
}

fn exhaust(name: &str, bounds: Bounds) {
    let checker = ControlPlane::new(bounds)
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    eprintln!(
        "{name}: {} states, {} unique, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

const MOVE: [Request; 2] = [Request::Connect(0, 0), Request::Move(0, 1)];

#[test]
fn a_move() {
    exhaust("a move", bounds(&MOVE));
}
