//! What the follower has found so far, for people.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use doorstep_establish::Mac;
use doorstep_gateway_common::OperatorIndex;
use serde::Serialize;

use crate::dataplane::ports::{Port, State};

/// A next hop of an operator, and the MAC address it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    pub operator: OperatorIndex,
    /// Whether it is for IPv6; the next hop for IPv4 may have an IPv6 address.
    pub v6: bool,
    pub address: IpAddr,
    /// None while it is not resolved: the kernel forwards meanwhile.
    pub mac: Option<Mac>,
}

/// The operators' next hops and the ports, as they are now.
#[derive(Clone, Default)]
pub struct UplinkStates(Arc<Mutex<Now>>);

#[derive(Clone, Debug, Default)]
struct Now {
    next_hops: Vec<NextHop>,
    ports: Vec<Port>,
}

impl UplinkStates {
    pub fn next_hops(&self) -> Vec<NextHop> {
        self.now(|now| now.next_hops.clone())
    }

    pub fn ports(&self) -> Vec<Port> {
        self.now(|now| now.ports.clone())
    }

    /// Why nothing can pass an operator's uplink, for people; nothing where nothing is known to be wrong.
    pub fn problem(&self, operator: OperatorIndex, uplink: &str) -> String {
        self.now(|now| {
            let port = now.ports.iter().find(|port| port.name == uplink);
            if let Some(port) = port.filter(|port| port.state != State::Up) {
                return format!("uplink {uplink} is {}", port.state.name());
            }
            let mut hops = now.next_hops.iter().filter(|hop| hop.operator == operator);
            match hops.next() {
                Some(first) if first.mac.is_none() && hops.all(|hop| hop.mac.is_none()) => {
                    format!(
                        "no next hop answers at uplink {uplink}, such as {}",
                        first.address
                    )
                }
                _ => String::new(),
            }
        })
    }

    pub(super) fn set_next_hops(&self, next_hops: Vec<NextHop>) {
        self.now(|now| now.next_hops = next_hops);
    }

    pub(super) fn set_ports(&self, ports: Vec<Port>) {
        self.now(|now| now.ports = ports);
    }

    fn now<T>(&self, what: impl FnOnce(&mut Now) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::ports::Role;

    const NORTH: OperatorIndex = 1;
    const SOUTH: OperatorIndex = 2;

    fn port(state: State) -> Port {
        Port {
            name: "uplink0".to_owned(),
            ifindex: 7,
            mac: Mac([2; 6]),
            mtu: 1500,
            role: Role::Uplink,
            shaper: false,
            xdp_mode: "native",
            state,
        }
    }

    fn hop(operator: OperatorIndex, mac: Option<Mac>) -> NextHop {
        NextHop {
            operator,
            v6: false,
            address: "192.0.2.1".parse().expect("an address"),
            mac,
        }
    }

    #[test]
    fn what_is_wrong_with_an_uplink() {
        let (here, away) = (Some(Mac([2; 6])), None);
        for (state, hops, said) in [
            (State::Up, vec![hop(NORTH, here)], ""),
            (State::Up, vec![hop(NORTH, away), hop(NORTH, here)], ""),
            (State::Up, vec![], ""),
            (State::Up, vec![hop(SOUTH, away)], ""),
            (
                State::Down,
                vec![hop(NORTH, here)],
                "uplink uplink0 is down",
            ),
            (
                State::Up,
                vec![hop(NORTH, away), hop(SOUTH, here)],
                "no next hop answers",
            ),
        ] {
            let states = UplinkStates::default();
            states.set_ports(vec![port(state)]);
            states.set_next_hops(hops);
            let problem = states.problem(NORTH, "uplink0");
            assert_eq!(problem.is_empty(), said.is_empty(), "{problem}");
            assert!(problem.contains(said), "{problem}");
        }
    }
}
