//! Which programs the ports have: the plain ones, or, while somebody follows packets, those that tell.

use std::sync::Arc;

use aya::Ebpf;
use aya::maps::PerCpuArray;
use doorstep_establish::Mac;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::names::map::TRACE_SCRATCH;
use doorstep_gateway_common::trace::TraceScratch;
use tracing::{info, warn};

use super::DataplaneError;
use super::attach::{Attachment, Programs};
use super::elf::{InUse, Object};
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
    /// What both sets are of.
    object: InUse,
    plain: Programs,
    telling: Option<Programs>,
    /// Events for which the ring had no room, of programs that told before these.
    lost: u64,
    /// Nobody else's programs come to the ports as long as these may.
    _lock: Arc<Lock>,
}

impl Running {
    /// `plain` is of the object in use, and on no port yet.
    pub(super) fn new(
        config: &Config,
        gateway_mac: Mac,
        pins: Pins,
        ports: &[Port],
        object: InUse,
        plain: Programs,
        lock: Arc<Lock>,
    ) -> Self {
        Self {
            config: config.clone(),
            gateway_mac,
            pins,
            ports: ports.to_vec(),
            object,
            plain,
            telling: None,
            lost: 0,
            _lock: lock,
        }
    }

    /// The ports, each with the mode in which it has its programs.
    pub(super) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Puts the programs on the ports.
    pub(super) fn attach(&mut self) -> Result<Vec<Attachment>, DataplaneError> {
        let wanted = self.telling.as_mut().unwrap_or(&mut self.plain);
        wanted.attach(self.config.xdp_mode, &self.pins, &mut self.ports)
    }

    /// Puts another object's programs on the ports. If that fails, the former ones are there.
    /// Blocks while the kernel verifies them.
    pub(super) fn upgrade(&mut self, object: &Object) -> Result<Vec<Attachment>, DataplaneError> {
        let plain = self.load(object, 0)?;
        let telling = match self.telling {
            Some(_) => Some(self.load(object, Globals::TRACE)?),
            None => None,
        };
        let lost = self.lost();
        let attached = self.replace(plain, telling)?;
        self.lost = lost;
        self.object.set(object.clone());
        Ok(attached)
    }

    /// Whether the kernel takes another object's programs; what they would take the place of.
    pub(super) fn would_upgrade(
        &mut self,
        object: &Object,
    ) -> Result<Vec<Attachment>, DataplaneError> {
        let mut new = self.load(object, 0)?;
        if self.telling.is_some() {
            self.load(object, Globals::TRACE)?;
        }
        let present = self.telling.as_mut().unwrap_or(&mut self.plain);
        let present = present.places(&self.ports)?;
        let to_come = new.places(&self.ports)?;
        Ok(present
            .into_iter()
            .zip(to_come)
            .map(|(present, to_come)| Attachment {
                before: Some(present.after),
                ..to_come
            })
            .collect())
    }

    /// Loads programs that tell of packets, and puts them on the ports. If that fails, the plain ones
    /// are there. Blocks while the kernel verifies them.
    pub(super) fn tell(&mut self) -> Result<(), DataplaneError> {
        let telling = self.load(&self.object.get(), Globals::TRACE)?;
        self.lost = 0;
        self.telling = Some(telling);
        if let Err(error) = self.attach() {
            self.telling = None;
            self.put_back();
            return Err(error);
        }
        info!("packets are followed: the ports have the programs that tell of them");
        Ok(())
    }

    /// Puts the plain programs back on the ports.
    pub(super) fn tell_no_more(&mut self) {
        if self.telling.take().is_some() {
            self.put_back();
            info!("no packets are followed: the ports have the plain programs");
        }
    }

    /// Events for which the ring had no room since [`Running::tell`].
    pub(super) fn lost(&self) -> u64 {
        let scratch = self.telling.as_ref().and_then(|it| it.map(TRACE_SCRATCH));
        let Some(scratch) = scratch else {
            return self.lost;
        };
        let lost = PerCpuArray::<_, TraceScratch>::try_from(scratch)
            .and_then(|scratch| scratch.get(&0, 0))
            .map_or(0, |cpus| cpus.iter().map(|cpu| cpu.lost).sum());
        self.lost + lost
    }

    /// The object in use once more, on no port: programs that tell, not yet loaded, over the same maps
    /// but for these.
    pub(super) fn beside(&self, own: &[&str]) -> Result<Ebpf, DataplaneError> {
        let (config, pins, object) = (&self.config, &self.pins, self.object.get());
        object::load_with_own(config, self.gateway_mac, pins, &object, Globals::TRACE, own)
    }

    fn load(&self, object: &Object, flags: u16) -> Result<Programs, DataplaneError> {
        let (config, pins) = (&self.config, &self.pins);
        Programs::load(object::load(config, self.gateway_mac, pins, object, flags)?)
    }

    fn replace(
        &mut self,
        plain: Programs,
        telling: Option<Programs>,
    ) -> Result<Vec<Attachment>, DataplaneError> {
        let former_plain = std::mem::replace(&mut self.plain, plain);
        let former_telling = std::mem::replace(&mut self.telling, telling);
        let attached = self.attach();
        if attached.is_err() {
            // Some ports may have the new ones; all are to have the same.
            self.plain = former_plain;
            self.telling = former_telling;
            self.put_back();
        }
        attached
    }

    /// A port that is gone fails; whoever follows the ports then has all set up anew.
    fn put_back(&mut self) {
        if let Err(error) = self.attach() {
            warn!(%error, "the former programs are not back on every port");
        }
    }
}
