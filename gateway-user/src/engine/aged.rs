//! Fences that no instruction can be older than any more.
//!
//! A fence may go once its session has ended here, its receipt was acknowledged, and so long has
//! passed that no instruction from before can still come (`docs/adr/0021-retention.md`). An
//! acknowledgement means that the server's row has gone on: what is derived from it from now on is
//! newer than the fence. What is left are instructions that were under way then, which no stream carries
//! for longer than its keepalive, and databases that were put back to a former state, which may make old
//! ones anew: for those the fence is kept for months.
//!
//! Each is looked at twice, some minutes apart by a clock that nobody sets, so that a host whose
//! date jumps forgets nothing that may still be under way.

use std::collections::BTreeSet;
use std::time::Duration;

use doorstep_gateway_common::OperatorIndex;

use super::row::{Fence, FenceKind, SessionRef, Snapshot, Write};
use super::{Engine, Now, Settings, Timer};

/// How long a fence outlives its session. Databases that are put back must not be older.
pub(super) const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// Between the two looks at a fence; far longer than an instruction may be under way.
pub(super) const PAUSE: Duration = Duration::from_secs(600);
/// The longest until the clock is looked at again: somebody may have set it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Fences removed together.
pub(super) const BATCH: usize = 1024;

/// When a session ended, in Unix milliseconds.
type Ended = (i64, SessionRef);

/// The fences of sessions that have ended, with acknowledged receipts.
#[derive(Clone, Debug, Default)]
pub(super) struct Aged {
    ended: BTreeSet<Ended>,
    /// Old at the last look, and gone at the next one unless something has become of them.
    doomed: Vec<Ended>,
}

/// When the session of a fence ended, if it has.
fn ended(session: SessionRef, fence: &Fence) -> Option<Ended> {
    let receipt = fence.receipt.as_ref()?;
    (fence.kind == FenceKind::Disconnect).then_some((receipt.at_unix_ms, session))
}

impl Aged {
    /// Of what was persisted. Fences of operators that are not configured now stay.
    pub(super) fn new(settings: &Settings, snapshot: &Snapshot) -> Self {
        let known = |operator: OperatorIndex| {
            let mut operators = settings.operators.iter();
            operators.any(|configured| configured.index == operator)
        };
        let fences = snapshot.fences.iter();
        let acknowledged = fences.filter(|(session, fence)| {
            let receipt = fence.receipt.as_ref();
            known(session.operator)
                && receipt.is_some_and(|receipt| {
                    let key = (session.operator, receipt.number);
                    !snapshot.receipts.contains_key(&key)
                })
        });
        Self {
            ended: acknowledged
                .filter_map(|(session, fence)| ended(*session, fence))
                .collect(),
            doomed: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Another fence takes the place of this one.
    pub(super) fn replaced(&mut self, session: SessionRef, fence: &Fence) {
        if let Some(ended) = ended(session, fence) {
            self.ended.remove(&ended);
        }
    }
}

impl Engine {
    /// A receipt was acknowledged: if nothing has followed, its session's fence may age.
    pub(super) fn note_ended(&mut self, session: SessionRef, number: u64, now: Now) {
        let Some(fence) = self.fences.get(&session) else {
            return;
        };
        let is_last = |receipt: &super::Receipt| receipt.number == number;
        if !fence.receipt.as_ref().is_some_and(is_last) {
            return;
        }
        if let Some(ended) = ended(session, fence) {
            self.aged.ended.insert(ended);
            if !self.timers.is_set(Timer::Fences) {
                self.timers.set(Timer::Fences, Some(now.at + PAUSE));
            }
        }
    }

    pub(super) fn on_fences_timer(&mut self, now: Now) {
        let kept_ms = KEPT.as_millis() as i64;
        let is_old = |ended: &&Ended| ended.0.saturating_add(kept_ms) <= now.unix_ms;
        for doomed in std::mem::take(&mut self.aged.doomed) {
            if is_old(&&doomed) && self.aged.ended.remove(&doomed) {
                let (_, session) = doomed;
                self.fences.remove(&session);
                self.persist(Write::DeleteFence(session));
            }
        }
        let old = self.aged.ended.iter().take_while(is_old).take(BATCH);
        self.aged.doomed = old.copied().collect();
        let next = self.aged.ended.first().map(|(at_ms, _)| {
            let rest_ms = at_ms.saturating_add(kept_ms).saturating_sub(now.unix_ms);
            let rest = Duration::from_millis(rest_ms.max(0).unsigned_abs());
            now.at + rest.clamp(PAUSE, LONGEST)
        });
        self.timers.set(Timer::Fences, next);
    }
}
