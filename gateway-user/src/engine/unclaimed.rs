//! Rows of the fast path that no session of the journal accounts for, as after the loss of the
//! state directory.
//!
//! They forward on until their operator's server has told everything that it wants: nothing is
//! deleted before the first full snapshot. Then those that no session has taken over are removed.
//! Until they are gone no receipt of the operator is issued, because nobody can say whose session
//! they were, and a receipt says that nothing is forwarded any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use doorstep_gateway_common::{OperatorIndex, Slot, garden};

use super::message::Connect;
use super::row::{Phase, SessionRef, Snapshot};
use super::{Action, Engine, Now, Timer};
use crate::config::Operator;
use crate::plan::{Owner, Plan, Tables};
use crate::session::SessionEntry;

/// Pause before a removal that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Those of one operator; as long as there are some.
#[derive(Clone, Debug, Default)]
pub(super) struct Unclaimed {
    rows: Tables,
    /// What they count in, unless a session has taken it over.
    slots: BTreeSet<Slot>,
    /// The server has told everything.
    synced: bool,
    /// What is being removed.
    removing: Option<Tables>,
    /// Closed sessions whose receipts wait.
    waiting: BTreeSet<SessionRef>,
    /// Disconnects of sessions that nobody knows, with their generation.
    unknown: BTreeMap<SessionRef, u64>,
}

/// The rows of configured operators that no session of the journal has, or is to have.
pub(super) fn unclaimed(
    operators: &[Operator],
    snapshot: &Snapshot,
    actual: &Tables,
) -> BTreeMap<OperatorIndex, Unclaimed> {
    let claimed: HashSet<Owner> = snapshot
        .sessions
        .iter()
        .flat_map(|(session, row)| {
            let next = match &row.phase {
                Phase::Closing { then, .. } => then.connect.as_deref(),
                Phase::Establishing | Phase::Established(_) => None,
            };
            let connects = std::iter::once(&row.connect).chain(next);
            connects.flat_map(|connect| connect.owners(session.operator))
        })
        .collect();
    let held: HashSet<Slot> = snapshot.sessions.values().map(|row| row.slot).collect();
    operators
        .iter()
        .filter_map(|operator| {
            let index = operator.index;
            let rows = actual.owned(|owner| owner.operator == index && !claimed.contains(&owner));
            let slots = rows.slots().difference(&held).copied().collect();
            let unclaimed = Unclaimed {
                rows,
                slots,
                ..Unclaimed::default()
            };
            (!unclaimed.rows.is_empty()).then_some((index, unclaimed))
        })
        .collect()
}

impl Unclaimed {
    pub(super) fn rows(&self) -> &Tables {
        &self.rows
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied()
    }

    /// Rows with these keys have others' values now.
    pub(super) fn forget(&mut self, replaced: &Tables) {
        self.rows = self.rows.without(replaced);
    }
}

impl Engine {
    pub(super) fn on_synced(&mut self, operator: OperatorIndex, now: Now) {
        tracing::debug!(operator, "server has sent all differences");
        self.in_contact(operator, now);
        if let Some(unclaimed) = self.unclaimed.get_mut(&operator) {
            unclaimed.synced = true;
            self.sweep(operator, now);
        }
    }

    /// Goes on wherever it waited for the end of an opening.
    pub(super) fn sweep_all(&mut self, now: Now) {
        let operators: Vec<_> = self.unclaimed.keys().copied().collect();
        for operator in operators {
            self.sweep(operator, now);
        }
    }

    /// Removes what the server, having told everything, has not claimed.
    pub(super) fn sweep(&mut self, operator: OperatorIndex, now: Now) {
        let ready = self
            .unclaimed
            .get(&operator)
            .is_some_and(|unclaimed| unclaimed.synced && unclaimed.removing.is_none());
        if !ready {
            return;
        }
        let open = Tables::of(&self.entries(|held| match held.row.phase {
            Phase::Established(opened) => Some(opened),
            _ => None,
        }));
        let opening = Tables::of(&self.entries(|held| match held.row.phase {
            Phase::Establishing => held.opening,
            _ => None,
        }));
        let Some(unclaimed) = self.unclaimed.get_mut(&operator) else {
            return;
        };
        unclaimed.forget(&open);
        let batch = unclaimed.rows.without(&opening);
        if unclaimed.rows.is_empty() {
            self.settle(operator, now);
        } else if !batch.is_empty() {
            tracing::info!(
                operator,
                rows = batch.len(),
                "removing what the server does not know"
            );
            let plan = batch.removal();
            unclaimed.removing = Some(batch);
            self.out.push(Action::Remove { operator, plan });
        }
    }

    pub(super) fn on_removed(
        &mut self,
        operator: OperatorIndex,
        result: Result<(), String>,
        now: Now,
    ) {
        let Some(unclaimed) = self.unclaimed.get_mut(&operator) else {
            return;
        };
        let Some(removed) = unclaimed.removing.take() else {
            return;
        };
        match result {
            Ok(()) => {
                unclaimed.forget(&removed);
                self.sweep(operator, now);
            }
            Err(error) => {
                tracing::error!(
                    operator,
                    error,
                    "cannot remove rows that the server does not know; trying again"
                );
                let timer = Timer::Unclaimed(operator);
                self.timers.set(timer, Some(now.at + RETRY));
            }
        }
    }

    /// None is left: what waited for that goes on.
    fn settle(&mut self, operator: OperatorIndex, now: Now) {
        let Some(unclaimed) = self.unclaimed.remove(&operator) else {
            return;
        };
        for slot in unclaimed.slots {
            self.slots.free(slot, now.at);
        }
        for (session, generation) in unclaimed.unknown {
            self.receipt_unknown(session, generation, now);
        }
        for session in unclaimed.waiting {
            if let Some(held) = self.sessions.get_mut(&session) {
                held.detail = None;
            }
            self.close(session, now);
        }
    }

    /// Leaves a closed session's receipt for later. False if it need not wait.
    pub(super) fn wait_with_receipt(&mut self, session: SessionRef) -> bool {
        let Some(unclaimed) = self.unclaimed.get_mut(&session.operator) else {
            return false;
        };
        let Some(held) = self.sessions.get_mut(&session) else {
            return false;
        };
        let Phase::Closing { then, .. } = &held.row.phase else {
            return false;
        };
        if then.receipt.is_none() {
            return false;
        }
        held.detail =
            Some("its receipt waits until the server has told what it wants forwarded".to_owned());
        unclaimed.waiting.insert(session);
        true
    }

    /// Leaves the receipt of a session that nobody knows for later. False if it need not wait.
    pub(super) fn wait_unknown(&mut self, session: SessionRef, generation: u64) -> bool {
        match self.unclaimed.get_mut(&session.operator) {
            Some(unclaimed) => {
                unclaimed.unknown.insert(session, generation);
                true
            }
            None => false,
        }
    }

    /// Disconnects whose receipts wait, of sessions that nobody knows.
    pub(super) fn unknown_disconnects(
        &self,
        operator: OperatorIndex,
    ) -> impl Iterator<Item = (SessionRef, u64)> {
        let unclaimed = self.unclaimed.get(&operator).into_iter();
        unclaimed.flat_map(|unclaimed| unclaimed.unknown.iter().map(|(of, g)| (*of, *g)))
    }

    /// The slot in which the rows of these addresses count already, for the session that has them
    /// from now on.
    pub(super) fn adopt_slot(
        &mut self,
        operator: OperatorIndex,
        connect: &Connect,
    ) -> Option<Slot> {
        let range = garden::first_slot(self.settings.max_sessions);
        let unclaimed = self.unclaimed.get_mut(&operator)?;
        let owners: Vec<_> = connect.owners(operator).collect();
        let rows = unclaimed.rows.owned(|owner| owners.contains(&owner));
        let mut slots = rows.slots().into_iter();
        let slot = slots.find(|slot| *slot < range && unclaimed.slots.contains(slot))?;
        unclaimed.slots.remove(&slot);
        Some(slot)
    }

    /// Removes the rows that these addresses have on other lines: an address has one line.
    pub(super) fn displaced(&self, entry: &SessionEntry) -> Plan {
        let Some(unclaimed) = self.unclaimed.get(&entry.operator) else {
            return Plan::default();
        };
        let prefixes = [entry.ipv6, entry.ipv6_line].into_iter().flatten();
        let owners: Vec<_> = Owner::of(entry.operator, entry.ipv4, prefixes).collect();
        let rows = unclaimed.rows.owned(|owner| owners.contains(&owner));
        rows.without(&Tables::of([entry])).removal()
    }
}

impl Connect {
    fn owners(&self, operator: OperatorIndex) -> impl Iterator<Item = Owner> + use<> {
        Owner::of(operator, self.ipv4, self.prefixes())
    }
}
