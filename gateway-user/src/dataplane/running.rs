//! Which programs the ports have: the plain ones, or, while somebody follows packets, those that tell.

use std::sync::Arc;

use aya::maps::PerCpuArray;
use doorstep_establish::Mac;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::names::map::TRACE_SCRATCH;
use doorstep_gateway_common::trace::TraceScratch;
use tracing::{info, warn};

use super::DataplaneError;
use super::attach::Programs;
use super::lock::Lock;
use super::object;
use super::pins::Pins;
use super::ports::Port;
use crate::config::Config;

/// Both sets work with the same pinned maps, and replace each other between two packets.
pub(super) struct Running {
    config: Config,
    gateway_mac: Mac,
    pins: Pins,
    ports: Vec<Port>,
    plain: Programs,
    telling: Option<Programs>,
    /// Nobody else's programs come to the ports as long as these may.
    _lock: Arc<Lock>,
}

impl Running {
    /// `plain` is on the ports.
    pub(super) fn new(
        config: &Config,
        gateway_mac: Mac,
        pins: Pins,
        ports: &[Port],
        plain: Programs,
        lock: Arc<Lock>,
    ) -> Self {
        Self {
            config: config.clone(),
            gateway_mac,
            pins,
            ports: ports.to_vec(),
            plain,
            telling: None,
            _lock: lock,
        }
    }

    /// Loads programs that tell of packets, and puts them on the ports. If that fails, the plain ones
    /// are there. Blocks while the kernel verifies them.
    pub(super) fn tell(&mut self) -> Result<(), DataplaneError> {
        let ebpf = object::load(&self.config, self.gateway_mac, &self.pins, Globals::TRACE)?;
        let mut telling = Programs::load(ebpf)?;
        let mode = self.config.xdp_mode;
        if let Err(error) = telling.attach(mode, &self.pins, &mut self.ports) {
            self.put_plain_back();
            return Err(error);
        }
        self.telling = Some(telling);
        info!("packets are followed: the ports have the programs that tell of them");
        Ok(())
    }

    /// Puts the plain programs back on the ports.
    pub(super) fn tell_no_more(&mut self) {
        if self.telling.take().is_some() {
            self.put_plain_back();
            info!("no packets are followed: the ports have the plain programs");
        }
    }

    /// A port that is gone fails; whoever follows the ports then has all set up anew.
    fn put_plain_back(&mut self) {
        let mode = self.config.xdp_mode;
        if let Err(error) = self.plain.attach(mode, &self.pins, &mut self.ports) {
            warn!(%error, "the plain programs are not back on every port");
        }
    }

    /// Events for which the ring had no room since [`Running::tell`].
    pub(super) fn lost(&self) -> u64 {
        let scratch = self.telling.as_ref().and_then(|it| it.map(TRACE_SCRATCH));
        let Some(scratch) = scratch else { return 0 };
        PerCpuArray::<_, TraceScratch>::try_from(scratch)
            .and_then(|scratch| scratch.get(&0, 0))
            .map_or(0, |cpus| cpus.iter().map(|cpu| cpu.lost).sum())
    }
}
