//! The operators' next hops, followed in the kernel's neighbour tables.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorstep_establish::Mac;
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::{MacWord, OperatorIndex};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use super::DataplaneError;
use super::maps::Operators;
use super::netlink::{Neighbour, NeighbourEvents, Netlink};
use super::ports::{self, Port};
use crate::config::{Config, Operator};

/// How often the kernel is asked to confirm the neighbours. XDP's traffic does not tell it that
/// they are still in use.
const CONFIRM_EVERY: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A next hop of an operator, and the MAC address it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NextHop {
    pub operator: OperatorIndex,
    pub address: IpAddr,
    /// None while it is not resolved: the kernel forwards meanwhile.
    pub mac: Option<Mac>,
    #[serde(skip)]
    ifindex: Option<u32>,
}

/// What [`NextHops`] has found so far.
#[derive(Clone, Default)]
pub struct NextHopStates(Arc<Mutex<Vec<NextHop>>>);

impl NextHopStates {
    pub fn get(&self) -> Vec<NextHop> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, hops: &[NextHop]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hops.to_vec();
    }
}

/// Keeps `OPERATORS` equal to the configuration and the neighbour tables.
pub struct NextHops {
    hops: Vec<NextHop>,
    /// Each operator's value, without its next hops.
    values: Vec<(OperatorIndex, OperatorValue)>,
    operators: Operators,
    netlink: Netlink,
    states: NextHopStates,
}

impl NextHops {
    pub(super) fn new(
        config: &Config,
        ports: &[Port],
        operators: Operators,
        netlink: Netlink,
    ) -> Result<Self, DataplaneError> {
        let mut hops = Vec::new();
        let mut values = Vec::new();
        for operator in &config.operators {
            let port = ports::find(ports, &operator.uplink)?;
            values.push((operator.index, value(operator, port)));
            let v4 = operator.next_hop_v4.map(IpAddr::V4);
            let v6 = operator.next_hop_v6.map(IpAddr::V6);
            hops.extend(v4.into_iter().chain(v6).map(|address| NextHop {
                operator: operator.index,
                address,
                mac: None,
                ifindex: port.neighbour_ifindex(operator.uplink_vlan),
            }));
        }
        let states = NextHopStates::default();
        states.set(&hops);
        Ok(Self {
            hops,
            values,
            operators,
            netlink,
            states,
        })
    }

    pub fn states(&self) -> NextHopStates {
        self.states.clone()
    }

    /// Takes the neighbours as the kernel knows them now, and has it look for the others.
    pub async fn resync(&mut self) -> Result<(), DataplaneError> {
        let known = self.netlink.neighbours().await?;
        for hop in &mut self.hops {
            let found = known.iter().find(|neighbour| hop.is(neighbour));
            hop.mac = found.and_then(|neighbour| neighbour.mac);
        }
        self.write()?;
        self.confirm().await;
        Ok(())
    }

    /// Follows the neighbours for ever. A change that cannot be followed leaves the last state.
    pub async fn run(mut self) {
        loop {
            if let Err(error) = self.follow().await {
                warn!(%error, "cannot follow the next hops, trying again");
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Returns when events may have been lost.
    async fn follow(&mut self) -> Result<(), DataplaneError> {
        // First listen, then list, so that nothing falls between.
        let mut events = NeighbourEvents::open()?;
        self.resync().await?;
        let mut ticks = interval(CONFIRM_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(neighbour) => self.take(&neighbour)?,
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.confirm().await,
            }
        }
    }

    fn take(&mut self, neighbour: &Neighbour) -> Result<(), DataplaneError> {
        let mut changed = false;
        for hop in self.hops.iter_mut().filter(|hop| hop.is(neighbour)) {
            if hop.mac != neighbour.mac {
                info!(operator = hop.operator, next_hop = %hop.address, mac = ?neighbour.mac,
                    "next hop changed");
                hop.mac = neighbour.mac;
                changed = true;
            }
        }
        if changed { self.write() } else { Ok(()) }
    }

    async fn confirm(&self) {
        for hop in &self.hops {
            let Some(ifindex) = hop.ifindex else {
                warn!(operator = hop.operator, next_hop = %hop.address,
                    "no link of the kernel's for the uplink's VLAN: create it, or next hops on it \
                     cannot be resolved");
                continue;
            };
            if let Err(error) = self.netlink.probe(ifindex, hop.address).await {
                warn!(%error, "cannot confirm a next hop");
            }
        }
    }

    fn write(&mut self) -> Result<(), DataplaneError> {
        for (index, value) in &self.values {
            let value = with_next_hops(*value, self.hops.iter().filter(|h| h.operator == *index));
            self.operators.set(*index, value)?;
        }
        self.states.set(&self.hops);
        Ok(())
    }
}

impl NextHop {
    fn is(&self, neighbour: &Neighbour) -> bool {
        self.ifindex == Some(neighbour.ifindex) && self.address == neighbour.address
    }
}

fn value(operator: &Operator, port: &Port) -> OperatorValue {
    OperatorValue {
        ifindex: port.ifindex,
        vid: operator.uplink_vlan,
        port_mac: MacWord::new(port.mac.0),
        mtu: u16::try_from(port.mtu).unwrap_or(u16::MAX),
        gateway_v4_be: operator
            .gateway_v4
            .map(|v4| v4.octets())
            .unwrap_or_default(),
        gateway_v6_be: operator
            .gateway_v6
            .map(|v6| v6.octets())
            .unwrap_or_default(),
        ..OperatorValue::default()
    }
}

fn with_next_hops<'h>(
    mut value: OperatorValue,
    hops: impl Iterator<Item = &'h NextHop>,
) -> OperatorValue {
    for hop in hops {
        let Some(mac) = hop.mac else { continue };
        match hop.address {
            IpAddr::V4(_) => {
                value.next_hop_v4_mac = MacWord::new(mac.0);
                value.flags |= OperatorValue::NEXT_HOP_V4;
            }
            IpAddr::V6(_) => {
                value.next_hop_v6_mac = MacWord::new(mac.0);
                value.flags |= OperatorValue::NEXT_HOP_V6;
            }
        }
    }
    value
}
