//! What is counted by operator as it goes on, so that whoever asks walks over no session.

use std::collections::BTreeMap;

use doorstep_gateway_common::OperatorIndex;

use super::row::Phase;
use super::{Engine, Session};
use crate::session::Counters;

/// The sessions of one operator, and what they have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorTally {
    pub establishing: u64,
    pub established: u64,
    pub closing: u64,
    /// Since the daemon has started, as of when the counters were read last: for the reports to the
    /// operator's server, and when sessions end.
    pub upstream_bytes: u64,
    pub downstream_bytes: u64,
}

impl OperatorTally {
    fn of(&mut self, phase: &Phase) -> &mut u64 {
        match phase {
            Phase::Establishing => &mut self.establishing,
            Phase::Established(_) => &mut self.established,
            Phase::Closing { .. } => &mut self.closing,
        }
    }
}

/// By operator.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(BTreeMap<OperatorIndex, OperatorTally>);

impl Tally {
    pub(super) fn enter(&mut self, operator: OperatorIndex, phase: &Phase) {
        *self.0.entry(operator).or_default().of(phase) += 1;
    }

    pub(super) fn leave(&mut self, operator: OperatorIndex, phase: &Phase) {
        let count = self.0.entry(operator).or_default().of(phase);
        *count = count.saturating_sub(1);
    }

    /// What a session has carried since its counters were read last. Those of a session that was
    /// recovered began before this daemon: what they were at first is not among it.
    pub(super) fn carry(&mut self, operator: OperatorIndex, held: &mut Session, read: &Counters) {
        let now = [read.upstream_bytes, read.downstream_bytes];
        let before = held.carried.replace(now).unwrap_or(now);
        let tally = self.0.entry(operator).or_default();
        tally.upstream_bytes += now[0].saturating_sub(before[0]);
        tally.downstream_bytes += now[1].saturating_sub(before[1]);
    }

    /// Of every operator that has, or had, sessions.
    pub(super) fn all(&self) -> impl Iterator<Item = &OperatorTally> {
        self.0.values()
    }

    pub(super) fn of(&self, operator: OperatorIndex) -> OperatorTally {
        self.0.get(&operator).copied().unwrap_or_default()
    }
}

impl Engine {
    /// Of every configured operator.
    pub fn tallies(&self) -> Vec<(OperatorIndex, OperatorTally)> {
        let operators = self.settings.operators.iter();
        operators
            .map(|operator| (operator.index, self.tally.of(operator.index)))
            .collect()
    }

    /// The counts are those that a walk over the sessions would find.
    #[cfg(test)]
    pub(super) fn assert_tallied(&self) {
        let mut walked = Tally::default();
        for (session, held) in &self.sessions {
            walked.enter(session.operator, &held.row.phase);
        }
        let phases = |tally: OperatorTally| OperatorTally {
            upstream_bytes: 0,
            downstream_bytes: 0,
            ..tally
        };
        for (operator, tally) in &self.tally.0 {
            assert_eq!(phases(*tally), walked.of(*operator), "operator {operator}");
        }
        for operator in walked.0.keys() {
            assert!(self.tally.0.contains_key(operator));
        }
    }
}
