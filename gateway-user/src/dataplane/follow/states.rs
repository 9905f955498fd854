//! What the follower has found so far, for people.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use doorstep_establish::Mac;
use doorstep_gateway_common::OperatorIndex;
use serde::Serialize;

use crate::dataplane::ports::Port;

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
