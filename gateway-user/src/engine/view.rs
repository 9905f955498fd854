//! What people see of the engine.

use std::collections::{BTreeMap, BTreeSet};

use doorstep_gateway_common::{OperatorIndex, Slot};

use super::list::SessionList;
use super::message::Connect;
use super::row::{Phase, SessionRef, Step};
use super::{Engine, Session};
use doorstep_establish::Mac;

/// One session, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    pub operator: OperatorIndex,
    pub connect: Connect,
    pub line: String,
    pub phase: &'static str,
    pub detail: Option<String>,
    pub mac: Option<Mac>,
    pub slot: Slot,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub established: u64,
    pub establishing: u64,
    pub closing: u64,
    pub disconnected_unacked: u64,
    pub slots_used: u32,
    pub lines: u64,
    pub lines_blocked: u64,
    /// Lines in the garden.
    pub leases: u64,
    /// Asks for it in vain, because all leases were taken.
    pub leases_refused: u64,
    /// Messages of DHCP clients by what became of them, since the daemon has started.
    pub dhcp: Vec<(&'static str, u64)>,
}

impl Session {
    /// What stands in the way, for people.
    fn hindrance(&self) -> Option<String> {
        let Connect { mtu, service, .. } = &self.row.connect;
        let port = &self.line.port;
        let narrow = (self.mtu < *mtu)
            .then(|| format!("MTU {}, not {mtu}: port {port} carries no more", self.mtu));
        let policed = (service.is_shaped() && !self.shaper)
            .then(|| format!("policed, not shaped: port {port} has no fq"));
        let blocked = self.is_blocked().then(|| "the line is blocked".to_owned());
        let waits = self.is_by_dhcp() && self.waits_for_terminal();
        let asked = waits.then(|| "waits for a router to ask by DHCP".to_owned());
        let all: Vec<String> = [blocked, asked, self.detail.clone(), narrow, policed]
            .into_iter()
            .flatten()
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Engine {
    pub fn sessions(&self, list: &SessionList) -> Vec<SessionView> {
        let listed = self.listed(list).into_iter();
        let held = listed.filter_map(|id| Some((id.operator, self.sessions.get(&id)?)));
        held.map(|(operator, held)| {
            let opened = match &held.row.phase {
                Phase::Establishing => held.opening,
                Phase::Established(opened) => Some(*opened),
                Phase::Closing { opened, .. } => *opened,
            };
            SessionView {
                operator,
                connect: held.row.connect.clone(),
                line: held.line.to_string(),
                phase: held.phase(),
                detail: held.hindrance(),
                mac: opened.map(|opened| opened.mac),
                slot: held.row.slot,
                steps: held.row.steps.clone(),
            }
        })
        .collect()
    }

    /// Whose slots these are, as far as they are sessions'.
    pub fn holders(&self, slots: &BTreeSet<Slot>) -> BTreeMap<Slot, SessionRef> {
        if slots.is_empty() {
            return BTreeMap::new();
        }
        let all = self.sessions.iter();
        all.map(|(session, held)| (held.row.slot, *session))
            .filter(|(slot, _)| slots.contains(slot))
            .collect()
    }

    pub fn summary(&self) -> Summary {
        let (leases, leases_refused) = self.leases.counts();
        let mut summary = Summary {
            slots_used: self.slots.used(),
            lines: self.settings.inventory.len() as u64,
            lines_blocked: self.blocked_lines() as u64,
            leases,
            leases_refused,
            dhcp: self.dhcp.counts().collect(),
            ..Summary::default()
        };
        for tally in self.tally.all() {
            summary.establishing += tally.establishing;
            summary.established += tally.established;
            summary.closing += tally.closing;
        }
        summary.disconnected_unacked = self
            .operators
            .values()
            .map(|state| state.receipts.len() as u64)
            .sum();
        summary
    }

    /// Whether the engine reports to the operator's server.
    pub fn is_connected(&self, operator: OperatorIndex) -> bool {
        self.operators
            .get(&operator)
            .is_some_and(|state| state.connected)
    }
}
