//! A session in another's place, whoever's that is: the terminal on the line says so, and proves
//! with the other session's key that it may.
//!
//! The former session ends once the new one is open, in the transaction that records it as
//! established. So a new session that does not come about leaves the former one as it was. Its
//! server has not asked for the end: the receipt carries the Connect's own generation, which no
//! Disconnect has, and the fence makes sure that the same Connect, repeated, begins nothing.

use std::time::Duration;

use doorstep_establish::{Body, Replaced};

use super::row::{Fence, FenceKind, Phase, SessionRef, Then};
use super::{Engine, Now, Session, Timer};

/// The former session forwards for so long after the new one is open: until the terminal has heard
/// of that and sends by the new one, and what was on its way has come.
pub(super) const LINGER: Duration = Duration::from_millis(250);

impl Engine {
    /// The session that `body`, from the terminal of `session`, names as the one that ends. `None`
    /// also where it is not on the line any more; an error where the proof does not fit it.
    pub(super) fn replacing(
        &self,
        session: SessionRef,
        body: &Body,
    ) -> Result<Option<(SessionRef, u64)>, Replaced> {
        let (Some(named), Some(begins)) = (body.replaces(), self.sessions.get(&session)) else {
            return Ok(None);
        };
        // A repetition, because the Confirm was lost: it has been looked at before.
        if begins.opening.is_some() || matches!(begins.row.phase, Phase::Established(_)) {
            return Ok(None);
        }
        let operators = self.on_line.get(&(begins.line.key, named.session));
        let of_that_id = operators.into_iter().flatten().map(|operator| SessionRef {
            operator: *operator,
            session: named.session,
        });
        let mut unproven = false;
        for former in of_that_id.filter(|former| *former != session) {
            let Some(held) = self.sessions.get(&former) else {
                continue;
            };
            if matches!(held.row.phase, Phase::Closing { .. }) {
                continue;
            }
            if held.may_be_replaced(named.generation)
                && named.is_proven(&held.row.connect.key, session.session, body)
            {
                return Ok(Some((former, named.generation)));
            }
            unproven = true;
        }
        if unproven { Err(*named) } else { Ok(None) }
    }

    /// The acceptance counts for nothing: what its author wants is not what it may have.
    pub(super) fn on_unproven(&mut self, session: SessionRef, named: &Replaced) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        let detail = "an answer names a session to be replaced and does not prove that it may";
        if held.detail.as_deref() != Some(detail) {
            tracing::warn!(?session, replaces = %named.session, line = %held.line, detail);
            held.detail = Some(detail.to_owned());
        }
    }

    /// `session` is open: what it replaces ends.
    pub(super) fn end_replaced(&mut self, session: SessionRef, now: Now) {
        let begun = self.sessions.get_mut(&session);
        let Some((former, generation)) = begun.and_then(|begun| begun.replacing.take()) else {
            return;
        };
        let held = self.sessions.get(&former);
        if !held.is_some_and(|held| held.may_be_replaced(generation)) {
            return;
        }
        tracing::info!(session = ?former, generation, "replaced by the terminal");
        let fence = Fence {
            generation,
            kind: FenceKind::Disconnect,
            receipt: None,
        };
        self.persist_fence(former, fence);
        let then = Then {
            receipt: Some(generation),
            connect: None,
        };
        self.start_closing(former, then, now);
        self.timers
            .set(Timer::Session(former), Some(now.at + LINGER));
    }
}

impl Session {
    /// It is in this generation, and not about to end anyway.
    fn may_be_replaced(&self, generation: u64) -> bool {
        self.row.connect.generation == generation
            && !matches!(self.row.phase, Phase::Closing { .. })
    }
}
