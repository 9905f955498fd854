//! Follows the kernel: the operators' next hops in its routing and neighbour tables, and the
//! ports. XDP forwards by what is found; while a neighbour is not resolved, the kernel does.

mod decide;
mod defaults;
mod kernel;
mod rows;
mod states;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use self::decide::{Decision, Hop};
use self::kernel::{Effect, Kernel};
use super::DataplaneError;
use super::line_routes::LineRoutes;
use super::netlink::{Events, Netlink};
use super::pins::Pins;
use super::ports::Port;
use crate::config::{Config, Operator};
pub use states::{NextHop, UplinkStates};

/// How often the kernel is asked to confirm the neighbours. XDP's traffic does not tell it that
/// they are still in use.
const CONFIRM_EVERY: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The least time between two lists of the routes, however fast they change.
const LIST_EVERY: Duration = Duration::from_millis(200);

/// Keeps `OPERATORS`, `UPLINKS` and the default routes of the kernel's path equal to what the
/// kernel's own tables and links say.
pub struct Follower {
    operators: Vec<Operator>,
    /// The ports as they were when programs were attached to them.
    ports: Vec<Port>,
    /// The operators' routing tables.
    tables: BTreeSet<u32>,
    netlink: Netlink,
    rows: rows::Writer,
    defaults: defaults::Defaults,
    line_routes: Arc<LineRoutes>,
    kernel: Kernel,
    decided: Vec<Decision>,
    states: UplinkStates,
    /// When the routes are to be listed, if they are.
    list_at: Option<Instant>,
    listed_at: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        config: &Config,
        ports: &[Port],
        pins: &Pins,
        netlink: Netlink,
        line_routes: Arc<LineRoutes>,
    ) -> Result<Self, DataplaneError> {
        let states = UplinkStates::default();
        states.set_ports(ports.to_vec());
        states.set_next_hops(shown(&decide_all(&config.operators, &Kernel::default())));
        Ok(Self {
            operators: config.operators.clone(),
            ports: ports.to_vec(),
            tables: tables(config),
            netlink,
            rows: rows::Writer::open(pins)?,
            defaults: defaults::Defaults::default(),
            line_routes,
            kernel: Kernel::default(),
            decided: Vec::new(),
            states,
            list_at: None,
            listed_at: None,
        })
    }

    /// Writes where the operators' packets leave by, as the kernel knows it now, and changes
    /// nothing else: for programs that are about to be put in place.
    pub(super) async fn prime(&mut self) -> Result<(), DataplaneError> {
        let links = self.netlink.links().await?;
        let mut kernel = Kernel::new(links, self.netlink.neighbours().await?);
        kernel.routes = list_routes(&self.netlink, &self.tables).await?;
        self.rows.write_all(&decide_all(&self.operators, &kernel))
    }

    /// Takes note of how programs were attached to the ports.
    pub(super) fn set_ports(&mut self, ports: &[Port]) {
        self.ports = ports.to_vec();
        self.states.set_ports(ports.to_vec());
    }

    pub fn states(&self) -> UplinkStates {
        self.states.clone()
    }

    /// Takes everything as the kernel knows it now, and has it look for neighbours.
    pub async fn resync(&mut self) -> Result<(), DataplaneError> {
        self.rows.forget();
        self.defaults.forget();
        self.decided.clear();
        let links = self.netlink.links().await?;
        self.kernel = Kernel::new(links, self.netlink.neighbours().await?);
        self.list_routes().await?;
        self.line_routes.put_all();
        self.settle().await
    }

    /// Follows the kernel until the data plane must be set up anew; returns why. A change that
    /// cannot be followed leaves the last state.
    pub async fn run(mut self) -> String {
        loop {
            match self.follow().await {
                Ok(Some(why)) => return why,
                Ok(None) => info!("events of the kernel's were lost, listing everything anew"),
                Err(error) => warn!(%error, "cannot follow the kernel, trying again"),
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Returns when the data plane must be set up anew, or without a reason when events may have
    /// been lost.
    async fn follow(&mut self) -> Result<Option<String>, DataplaneError> {
        // First listen, then list, so that nothing falls between.
        let mut events = Events::open()?;
        self.resync().await?;
        let mut ticks = interval(CONFIRM_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(why) = decide::renewal(&self.ports, &self.kernel) {
                return Ok(Some(why));
            }
            tokio::select! {
                event = events.next() => {
                    let Some(event) = event else {
                        events.close().await;
                        return Ok(None);
                    };
                    let effect = self.kernel.take(event, &self.tables);
                    self.act_on(effect).await?;
                }
                () = until(self.list_at) => {
                    self.list_routes().await?;
                    self.settle().await?;
                }
                _ = ticks.tick() => {
                    self.settle().await?;
                    self.confirm().await;
                }
            }
        }
    }

    async fn act_on(&mut self, effect: Effect) -> Result<(), DataplaneError> {
        if effect.put_routes {
            self.defaults.forget();
            self.line_routes.put_all();
        }
        if effect.list_routes && !self.tables.is_empty() && self.list_at.is_none() {
            let earliest = self.listed_at.map(|at| at + LIST_EVERY);
            let now = Instant::now();
            self.list_at = Some(earliest.map_or(now, |earliest| earliest.max(now)));
        }
        if effect.decide || effect.put_routes {
            self.settle().await?;
        }
        Ok(())
    }

    async fn list_routes(&mut self) -> Result<(), DataplaneError> {
        self.list_at = None;
        self.listed_at = Some(Instant::now());
        self.kernel.routes = list_routes(&self.netlink, &self.tables).await?;
        Ok(())
    }

    /// Makes routes and rows what follows from the kernel's tables. The routes come first: what
    /// the kernel forwards while a neighbour is resolved is to go the new way already.
    async fn settle(&mut self) -> Result<(), DataplaneError> {
        self.states
            .set_ports(decide::ports(&self.ports, &self.kernel));
        let decided = decide_all(&self.operators, &self.kernel);
        for decision in &decided {
            self.defaults.put(&self.netlink, decision).await;
            self.rows.write(decision)?;
        }
        let before = std::mem::replace(&mut self.decided, decided);
        if before == self.decided {
            return Ok(());
        }
        for decision in self.decided.iter().filter(|now| !before.contains(now)) {
            info!(operator = decision.operator, v4 = ?decision.v4, v6 = ?decision.v6,
                mtu = decision.value.mtu, "uplink changed");
        }
        self.states.set_next_hops(shown(&self.decided));
        self.confirm_new(&before).await;
        Ok(())
    }

    async fn confirm(&self) {
        self.confirm_new(&[]).await;
        self.complain();
    }

    /// Has the kernel look for the next hops that were not there before.
    async fn confirm_new(&self, before: &[Decision]) {
        let known: Vec<Target> = before.iter().flat_map(targets).collect();
        for target in self.decided.iter().flat_map(targets) {
            let (Some(ifindex), false) = (target.0, known.contains(&target)) else {
                continue;
            };
            if let Err(error) = self.netlink.probe(ifindex, target.1).await {
                warn!(%error, "cannot confirm a next hop");
            }
        }
    }

    /// Says what keeps a next hop from being resolved.
    fn complain(&self) {
        for operator in &self.operators {
            let Some(port) = self.kernel.named(&operator.uplink) else {
                warn!(
                    operator = operator.name,
                    uplink = operator.uplink,
                    "the port is away"
                );
                continue;
            };
            if self.kernel.carrier(port, operator.uplink_vlan).is_none() {
                warn!(
                    operator = operator.name,
                    uplink = operator.uplink,
                    vlan = operator.uplink_vlan,
                    "no link of the kernel's for the uplink's VLAN: create it, or next hops on it \
                     cannot be resolved"
                );
            }
        }
    }
}

/// A link, if it is up, and the address of a neighbour on it.
type Target = (Option<u32>, std::net::IpAddr);

fn targets(decision: &Decision) -> impl Iterator<Item = Target> + use<> {
    let hops = [decision.v4, decision.v6].into_iter().flatten();
    hops.map(
        |Hop {
             ifindex, address, ..
         }| (ifindex, address),
    )
}

fn shown(decided: &[Decision]) -> Vec<NextHop> {
    let hops = decided.iter().flat_map(|decision| {
        [(false, decision.v4), (true, decision.v6)].map(|(v6, hop)| {
            hop.map(|hop| NextHop {
                operator: decision.operator,
                v6,
                address: hop.address,
                mac: hop.mac,
            })
        })
    });
    hops.flatten().collect()
}

/// The next hops as they would be followed, found without changing anything.
pub async fn look(config: &Config) -> Result<Vec<NextHop>, DataplaneError> {
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    let mut kernel = Kernel::new(links, netlink.neighbours().await?);
    kernel.routes = list_routes(&netlink, &tables(config)).await?;
    Ok(shown(&decide_all(&config.operators, &kernel)))
}

fn decide_all(operators: &[Operator], kernel: &Kernel) -> Vec<Decision> {
    let operators = operators.iter();
    operators
        .map(|operator| decide::decide(operator, kernel))
        .collect()
}

fn tables(config: &Config) -> BTreeSet<u32> {
    let operators = config.operators.iter();
    operators
        .filter_map(|operator| operator.routing_table)
        .collect()
}

async fn list_routes(
    netlink: &Netlink,
    tables: &BTreeSet<u32>,
) -> Result<Vec<super::netlink::DefaultRoute>, DataplaneError> {
    let mut routes = Vec::new();
    for table in tables {
        routes.extend(netlink.default_routes(*table).await?);
    }
    Ok(routes)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
