//! The gateway's programs with maps of their own, without the daemon around them.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, GlobalData};
use doorstep_establish::Mac;
use doorstep_gateway::dataplane::{OBJECT, size_maps};
use doorstep_gateway::engine::Slots;
use doorstep_gateway::plan;
use doorstep_gateway::session::Service;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::names::{GLOBALS, program};
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::table::Layout;
use doorstep_gateway_common::{Reason, account, garden};

use crate::fill::Maps;
use crate::lab::Port;
use crate::subscriber::{self, DELEGATED_LEN, LINE_MTU, OPERATOR};

/// Where a gateway stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub access: Port,
    pub uplink: Port,
    pub next_hop: Mac,
}

/// Loaded programs and their maps.
pub struct Gateway {
    ebpf: Ebpf,
    pub maps: Maps,
}

impl Gateway {
    /// Loads the programs with room for that many sessions, and sets one operator up.
    pub fn new(place: Place, capacity: u32) -> Result<Self> {
        let globals = Globals {
            gateway_mac: place.access.mac.0.into(),
            default_operator: OPERATOR,
            ..Globals::layout(DELEGATED_LEN, capacity)
        };
        let mut loader = EbpfLoader::new();
        loader.override_global(GLOBALS, GlobalData::from(&globals), true);
        size_maps(&mut loader, capacity)?;
        let mut ebpf = loader
            .load(OBJECT)
            .context("loading the gateway's object")?;
        for name in [program::XDP_ACCESS, program::XDP_UPLINK] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("loading {name}"))?;
        }
        let mut maps = Maps::take(&mut ebpf, globals.tables())?;
        let operator = OperatorValue {
            ifindex: place.uplink.ifindex,
            flags: OperatorValue::NEXT_HOP_V4 | OperatorValue::NEXT_HOP_V6,
            port_mac: place.uplink.mac.0.into(),
            next_hop_v4_mac: place.next_hop.0.into(),
            next_hop_v6_mac: place.next_hop.0.into(),
            mtu: LINE_MTU,
            ..OperatorValue::default()
        };
        maps.operator(OPERATOR, operator)?;
        let key = UplinkKey {
            ifindex: place.uplink.ifindex,
            ..UplinkKey::default()
        };
        let value = UplinkValue {
            port_mac: place.uplink.mac.0.into(),
            operator: OPERATOR,
            pad: [0; 3],
        };
        maps.uplink(key, value)?;
        Ok(Self { ebpf, maps })
    }

    /// As [`Gateway::new`], with every session open, on lines of the access port.
    pub fn full(place: Place, sessions: u32, service: Service) -> Result<Self> {
        let mut gateway = Self::new(place, sessions)?;
        let layout = Layout::new(DELEGATED_LEN, account::rows(sessions));
        let range = garden::first_slot(sessions);
        let mut slots = Slots::new(range, sessions, &BTreeSet::new(), [], Instant::now());
        for i in 0..sessions {
            let mut entry = subscriber::entry(i, place.access.ifindex, service)?;
            let near = plan::near(layout, entry.ipv4, entry.ipv6);
            entry.slot = slots
                .take(near, Instant::now())
                .context("no slot is left")?;
            gateway
                .maps
                .session(&entry)
                .with_context(|| format!("opening session {i} of {sessions}"))?;
        }
        Ok(gateway)
    }

    /// What runs on the access port.
    pub fn access(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, program::XDP_ACCESS)
    }

    /// What runs on the uplink.
    pub fn uplink(&mut self) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, program::XDP_UPLINK)
    }

    /// Gives a map of the object away.
    pub fn take_map(&mut self, name: &str) -> Result<aya::maps::Map> {
        self.ebpf
            .take_map(name)
            .with_context(|| format!("the object has no map {name}"))
    }
}

/// An XDP program of an object.
pub fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// What was counted between two readings, in the order of [`Reason::ALL`].
pub fn counted(before: &[u64], after: &[u64]) -> impl Iterator<Item = (Reason, u64)> {
    Reason::ALL
        .iter()
        .zip(before.iter().zip(after))
        .map(|(reason, (before, after))| (*reason, after - before))
        .filter(|(_, count)| *count != 0)
}
