//! Packets per second through each way of doing the job, in turn.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use doorstep_gateway::session::Service;
use doorstep_gateway_common::Reason;
use serde::Serialize;

use crate::gateway::{Gateway, Place, counted};
use crate::kernel::{LinuxPath, Router};
use crate::lab::Lab;
use crate::load::{Load, Sent, Size, Traffic, Wanted};
use crate::{ports, rates};

/// A way from the generator to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// (a) Bare `XDP_REDIRECT`.
    Redirect,
    /// (b) From homes to the world.
    Upstream,
    /// (c) From the world to homes.
    Downstream,
    /// (d) From homes to the world, policed.
    UpstreamPoliced,
    /// (d) From the world to homes, policed.
    DownstreamPoliced,
    /// (e) Linux without us, from homes to the world, policed.
    Kernel,
}

impl Way {
    pub const ALL: [Self; 6] = [
        Self::Redirect,
        Self::Upstream,
        Self::Downstream,
        Self::UpstreamPoliced,
        Self::DownstreamPoliced,
        Self::Kernel,
    ];

    /// For tables and plots.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "bare redirect",
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
            Self::UpstreamPoliced => "upstream, policed",
            Self::DownstreamPoliced => "downstream, policed",
            Self::Kernel => "Linux without us",
        }
    }

    const fn traffic(self) -> Traffic {
        match self {
            Self::Redirect | Self::Upstream | Self::UpstreamPoliced => Traffic::Up,
            Self::Downstream | Self::DownstreamPoliced => Traffic::Down,
            Self::Kernel => Traffic::UpUntagged,
        }
    }

    const fn is_policed(self) -> bool {
        matches!(self, Self::UpstreamPoliced | Self::DownstreamPoliced)
    }
}

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub size: Size,
    pub sessions: u32,
    pub way: Way,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Measured {
    pub generated: u64,
    pub sent: Sent,
    /// What the gateway counted.
    pub reasons: Vec<(Reason, u64)>,
}

impl Measured {
    /// Packets that arrived, in millions per second.
    pub fn mpps(&self) -> f64 {
        self.sent.seen.packets as f64 / self.sent.took.as_secs_f64() / 1e6
    }
}

/// All that measurements need, set up once.
pub struct Rig {
    lab: Lab,
    load: Load,
    access: ports::Place,
    uplink: ports::Place,
    _sinks: [ports::Place; 2],
    /// By the number of sessions, and whether they are policed.
    gateways: Gateways,
    router: Router,
    seed: u64,
}

impl Rig {
    pub fn new(lab: Lab, sessions: &[u32]) -> Result<Self> {
        let mut load = Load::new(lab.uplink.ifindex)?;
        let mut sinks = [lab.home_port, lab.world_port].map(|port| ports::Place::new(port.ifindex));
        sinks[0].put(&lab.homes, load.program("sink")?)?;
        sinks[1].put(&lab.world, load.program("sink")?)?;
        let place = Place {
            access: lab.access,
            uplink: lab.uplink,
            next_hop: lab.world_port.mac,
        };
        // Both take many seconds for a million sessions.
        let (router, gateways) = std::thread::scope(|scope| {
            let router = scope.spawn(|| Router::new(&lab, sessions));
            let gateways = gateways(place, sessions);
            (router.join(), gateways)
        });
        let router = router
            .map_err(|_| anyhow!("setting Linux up as a router panicked"))?
            .context("setting Linux up as a router")?;
        let gateways = gateways?;
        Ok(Self {
            access: ports::Place::new(lab.access.ifindex),
            uplink: ports::Place::new(lab.uplink.ifindex),
            _sinks: sinks,
            lab,
            load,
            gateways,
            router,
            seed: 1,
        })
    }

    /// What the row of Linux without us stands for.
    pub fn describe_linux(&self, sessions: &[u32]) -> LinuxPath {
        self.router.describe(&self.lab, sessions)
    }

    /// Measures one row once.
    pub fn measure(&mut self, key: Key, packets: u32) -> Result<Measured> {
        let Key {
            size,
            sessions,
            way,
        } = key;
        self.arrange(way, sessions)?;
        self.seed += 1;
        let lab = &self.lab;
        let (from, near, far) = match way.traffic() {
            Traffic::Down => (&lab.world, lab.world_port, lab.uplink),
            Traffic::Up | Traffic::UpUntagged => (&lab.homes, lab.home_port, lab.access),
        };
        let wanted = Wanted {
            traffic: way.traffic(),
            size,
            sessions,
            packets,
            ifindex: near.ifindex,
            destination: far.mac,
            source: near.mac,
            seed: self.seed,
        };
        let gateway = (sessions, way.is_policed());
        let reasons = |gateways: &Gateways| -> Result<Vec<u64>> {
            match way {
                Way::Redirect | Way::Kernel => Ok(Vec::new()),
                _ => gateways[&gateway].maps.reasons(),
            }
        };
        let before = reasons(&self.gateways)?;
        let sent = self.load.send(from, &wanted)?;
        let after = reasons(&self.gateways)?;
        Ok(Measured {
            generated: u64::from(packets),
            sent,
            reasons: counted(&before, &after).collect(),
        })
    }

    /// Puts the row's programs on the gateway's ports, or none.
    fn arrange(&mut self, way: Way, sessions: u32) -> Result<()> {
        let netns = &self.lab.gateway;
        match way {
            Way::Redirect => {
                self.access.put(netns, self.load.program("redirect")?)?;
            }
            Way::Kernel => {
                self.access.clear();
                self.uplink.clear();
                self.router.select(netns, sessions)?;
            }
            Way::Upstream | Way::Downstream | Way::UpstreamPoliced | Way::DownstreamPoliced => {
                let gateway = self
                    .gateways
                    .get_mut(&(sessions, way.is_policed()))
                    .context("no gateway of that size")?;
                self.access.put(netns, gateway.access()?)?;
                self.uplink.put(netns, gateway.uplink()?)?;
            }
        }
        Ok(())
    }
}

type Gateways = BTreeMap<(u32, bool), Gateway>;

/// A gateway for each number of sessions, policed and not.
fn gateways(place: Place, sessions: &[u32]) -> Result<Gateways> {
    let mut gateways = Gateways::new();
    for &count in sessions {
        for (policed, service) in [(false, Service::default()), (true, rates::policed(count))] {
            gateways.insert((count, policed), Gateway::full(place, count, service)?);
        }
    }
    Ok(gateways)
}
