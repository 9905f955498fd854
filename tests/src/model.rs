//! What the maps hold, for the deciding code on the host.

use std::collections::HashMap;

use doorstep_datapath::Tables;
use doorstep_gateway::plan;
use doorstep_gateway_common::account::{self, Account};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::LineUse;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot, Word};

use crate::programs::MAX_SESSIONS;

/// The maps. Time stands still: what depends on it is limited always, or never.
#[derive(Debug, Default)]
pub struct Model {
    pub globals: Globals,
    pub lines: HashMap<LineKey, LineValue>,
    pub sessions: plan::Tables,
    pub operators: HashMap<OperatorIndex, OperatorValue>,
    pub uplinks: HashMap<UplinkKey, UplinkValue>,
    pub garden: HashMap<GardenKey, u32>,
    pub accounts: Slots<Account>,
    pub policers: Slots<Policers>,
    pub liveness: Slots<Liveness>,
    pub used: LineUse,
    pub punts: Word,
}

/// One element for each slot.
#[derive(Debug)]
pub struct Slots<T>(pub Vec<T>);

impl<T: Default> Default for Slots<T> {
    fn default() -> Self {
        let slots = 0..account::slots(MAX_SESSIONS);
        Self(slots.map(|_| T::default()).collect())
    }
}

impl Tables for Model {
    fn globals(&self) -> &Globals {
        &self.globals
    }

    fn line(&self, key: &LineKey) -> Option<&LineValue> {
        self.lines.get(key)
    }

    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue> {
        self.sessions.upstream_v4.get(key)
    }

    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue> {
        self.sessions.upstream_v6.get(key)
    }

    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue> {
        self.sessions.downstream_v4.get(key)
    }

    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue> {
        self.sessions.downstream_v6.get(key)
    }

    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue> {
        self.operators.get(&index)
    }

    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue> {
        self.uplinks.get(key)
    }

    fn is_in_garden(&self, key: &GardenKey) -> bool {
        self.garden.contains_key(key)
    }

    fn account(&self, slot: Slot) -> Option<&Account> {
        self.accounts.0.get(slot as usize)
    }

    fn policers(&self, slot: Slot) -> Option<&Policers> {
        self.policers.0.get(slot as usize)
    }

    fn liveness(&self, slot: Slot) -> Option<&Liveness> {
        self.liveness.0.get(slot as usize)
    }

    fn line_use(&self, _: &LineKey) -> Option<&LineUse> {
        Some(&self.used)
    }

    fn punts(&self) -> Option<&Word> {
        Some(&self.punts)
    }

    fn swap(&self, cell: &Word, old: u64, new: u64) -> bool {
        cell.swap(old, new)
    }

    fn now_ns(&self) -> u64 {
        // An hour after the machine has started, so that there is a past.
        3_600_000_000_000
    }
}
