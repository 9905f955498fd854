//! The routes to the subscribers in the operators' own tables, and their MTU.
//!
//! XDP leaves packets that are too big for a line to the kernel, which answers them with
//! "fragmentation needed" or "packet too big" if the route says so. A route is for all lines of an
//! operator, so its MTU is the smallest of its sessions: a bigger packet that fits its own line
//! never comes this way.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex};
use tracing::{info, warn};

use super::DataplaneError;
use super::host::{self, Route};
use super::netlink::Requests;
use super::ports::{Port, Role};
use crate::config::Config;
use crate::engine::mtu;
use crate::plan::{Change, Tables};

/// What Ethernet carries, and what a line takes at the most unless a session says otherwise.
const ETHERNET_MTU: u16 = 1500;

/// The routes of all operators. Both the thread of the fast path and the follower put them.
pub(super) struct LineRoutes {
    routes: Vec<(OperatorIndex, Route)>,
    /// Indexes and MTUs of the access ports.
    ports: HashMap<u32, u32>,
    state: Mutex<State>,
}

struct State {
    requests: Requests,
    /// What every line takes.
    base: u16,
    /// What the sessions of an operator take, where that is less.
    lower: HashMap<OperatorIndex, u16>,
}

impl LineRoutes {
    pub(super) fn new(config: &Config, ports: &[Port]) -> Result<Self, DataplaneError> {
        let operators = config.operators.iter();
        let routes = operators.flat_map(|operator| {
            let routes = host::line_routes(config, operator, ports);
            routes.map(|route| (operator.index, route))
        });
        let access = ports.iter().filter(|port| port.role == Role::Access);
        Ok(Self {
            routes: routes.collect(),
            ports: access.map(|port| (port.ifindex, port.mtu)).collect(),
            state: Mutex::new(State {
                requests: Requests::open()?,
                base: ETHERNET_MTU,
                lower: HashMap::new(),
            }),
        })
    }

    /// Begins anew with what the ports carry for these lines, and the sessions that are open.
    pub(super) fn start(&self, lines: &[(LineKey, LineValue)], open: &Tables) {
        let mut lower = HashMap::new();
        let v4 = open.downstream_v4.iter();
        let v4 = v4.map(|(key, value)| (key.operator, value.mtu));
        let v6 = open.downstream_v6.iter();
        let v6 = v6.map(|(key, value)| (key.operator, value.mtu));
        for (operator, mtu) in v4.chain(v6) {
            let lowest = lower.entry(operator).or_insert(mtu);
            *lowest = mtu.min(*lowest);
        }
        let keys = lines.iter().map(|(key, _)| key);
        self.with(|state| {
            state.base = base(&self.ports, keys);
            state.lower = lower;
        });
        self.put_all();
    }

    /// Lowers an operator's MTU if it is higher.
    pub(super) fn lower(&self, operator: OperatorIndex, mtu: u16) -> Result<(), DataplaneError> {
        self.with(|state| {
            if state.mtu(operator) <= mtu {
                return Ok(());
            }
            info!(operator, mtu, "the operator's lines take smaller packets");
            let routes = self.routes.iter().filter(|(owner, _)| *owner == operator);
            for (_, route) in routes {
                state.requests.replace_route(route, mtu)?;
            }
            state.lower.insert(operator, mtu);
            Ok(())
        })
    }

    /// Lowers the MTU of the operators whose rows are to be written.
    pub(super) fn note(&self, change: &Change) -> Result<(), DataplaneError> {
        match change {
            Change::UpsertDownstreamV4(key, value) => self.lower(key.operator, value.mtu),
            Change::UpsertDownstreamV6(key, value) => self.lower(key.operator, value.mtu),
            _ => Ok(()),
        }
    }

    /// Puts all of them, as after their link was down. What cannot be put is tried again when
    /// the link changes.
    pub(super) fn put_all(&self) {
        self.with(|state| {
            for (operator, route) in &self.routes {
                let mtu = state.mtu(*operator);
                if let Err(error) = state.requests.replace_route(route, mtu) {
                    warn!(%error, "the kernel cannot reach these subscribers");
                }
            }
        });
    }

    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn mtu(&self, operator: OperatorIndex) -> u16 {
        let lower = self.lower.get(&operator).copied();
        lower.map_or(self.base, |lower| lower.min(self.base))
    }
}

/// The largest packet that fits every line, with the tags that it has.
fn base<'l>(ports: &HashMap<u32, u32>, lines: impl Iterator<Item = &'l LineKey>) -> u16 {
    let fitting = lines.filter_map(|line| {
        let tags = usize::from(line.s_vid != 0) + usize::from(line.c_vid != 0);
        Some(mtu::fits(*ports.get(&line.ifindex)?, tags))
    });
    let smallest = fitting.min().and_then(|mtu| u16::try_from(mtu).ok());
    smallest.map_or(ETHERNET_MTU, |mtu| mtu.min(ETHERNET_MTU))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_every_line() {
        let line = |ifindex, s_vid, c_vid| LineKey {
            ifindex,
            s_vid,
            c_vid,
        };
        let ports = HashMap::from([(1, 1504), (2, 1500), (3, 9000), (4, 100_000)]);
        #[rustfmt::skip]
        let rows = [
            (vec![], 1500),
            (vec![line(1, 101, 4)], 1500),
            (vec![line(1, 101, 4), line(2, 0, 4)], 1500),
            (vec![line(1, 101, 4), line(2, 101, 4)], 1496),
            (vec![line(3, 101, 4)], 1500),
            (vec![line(4, 0, 0)], 1500),
            // A line of a port that is no access port any more.
            (vec![line(9, 0, 0)], 1500),
        ];
        for (lines, expected) in rows {
            assert_eq!(base(&ports, lines.iter()), expected, "{lines:?}");
        }
    }
}
