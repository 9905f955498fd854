//! Disconnect: taken out of the fast path, receipted, released.

use doorstep_gateway_common::Slot;

use super::message::{Receipt, RefusalReason, Report};
use super::row::{Fence, FenceKind, Phase, SessionRef, StepName, Then, Write};
use super::{Action, Engine, Now, Objection, Timer, timed};
use crate::session::Counters;

impl Engine {
    pub(super) fn on_disconnect(&mut self, session: SessionRef, generation: u64, now: Now) {
        if let Some(fence) = self.fences.get(&session) {
            let newer = generation > fence.generation;
            let repeated = generation == fence.generation && fence.kind == FenceKind::Disconnect;
            if repeated {
                let receipt = fence.receipt.clone();
                self.acknowledge(session, generation);
                match receipt {
                    Some(receipt) => self.report(session.operator, Report::Receipt(receipt)),
                    // Follows by itself.
                    None if self.sessions.contains_key(&session) => {}
                    None => self.receipt_unknown(session, generation, now),
                }
                return;
            }
            if !newer {
                let what = format!("generation {} has been seen already", fence.generation);
                let why = Objection::new(RefusalReason::StaleGeneration, what);
                return self.refuse(session, generation, why);
            }
        }
        if generation == 0 {
            let why = Objection::new(RefusalReason::Malformed, "generation: 0; the first is 1");
            return self.refuse(session, generation, why);
        }
        if self.sessions.contains_key(&session) {
            let fence = Fence {
                generation,
                kind: FenceKind::Disconnect,
                receipt: None,
            };
            self.persist_fence(session, fence);
            let then = Then {
                receipt: Some(generation),
                connect: None,
            };
            tracing::info!(?session, generation, "disconnect recorded");
            self.start_closing(session, then, now);
            self.acknowledge(session, generation);
            self.close_unless_under_way(session, now);
        } else {
            let fence = Fence {
                generation,
                kind: FenceKind::Disconnect,
                receipt: None,
            };
            self.persist_fence(session, fence);
            self.acknowledge(session, generation);
            self.receipt_unknown(session, generation, now);
        }
    }

    /// A session that is not held forwards nothing, once no row is left that might be its.
    pub(super) fn receipt_unknown(&mut self, session: SessionRef, generation: u64, now: Now) {
        if !self.wait_unknown(session, generation) {
            let receipt = self.issue(session, generation, Counters::default(), now);
            self.send_receipt(session, receipt, now);
        }
    }

    /// Records that a session is to end, and what follows. A receipt that was promised before stays
    /// promised when a Connect follows.
    pub(super) fn start_closing(&mut self, session: SessionRef, then: Then, now: Now) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        match &mut held.row.phase {
            Phase::Closing { then: waiting, .. } => {
                waiting.receipt = then.receipt.or(waiting.receipt);
                waiting.connect = then.connect;
            }
            phase => {
                let opened = match phase {
                    Phase::Established(opened) => Some(*opened),
                    _ => held.opening,
                };
                self.tally.leave(session.operator, phase);
                *phase = Phase::Closing { opened, then };
                self.tally.enter(session.operator, phase);
                held.step(StepName::Closing, now);
                held.detail = None;
                held.failures = 0;
                held.changing = None;
                // Until the close has been sent off, the timer stands for it.
                self.timers.set(Timer::Session(session), Some(now.at));
            }
        }
        self.claim(session);
        self.persist_session(session);
    }

    /// Sends the close off, unless that has been done: then its answer comes.
    pub(super) fn close_unless_under_way(&mut self, session: SessionRef, now: Now) {
        if self.timers.is_set(Timer::Session(session)) {
            self.timers.set(Timer::Session(session), None);
            self.close(session, now);
        }
    }

    /// Takes a session out of the fast path, if it ever was in it.
    pub(super) fn close(&mut self, session: SessionRef, now: Now) {
        let Some(held) = self.sessions.get(&session) else {
            return;
        };
        match held.row.phase {
            Phase::Closing {
                opened: Some(opened),
                ..
            } => {
                let entry = held.entry(session.operator, opened.mac);
                self.out.push(Action::Close { session, entry });
            }
            Phase::Closing { opened: None, .. } => {
                if self.wait_with_receipt(session) {
                    return;
                }
                self.finish_closing(session, Counters::default(), now);
            }
            Phase::Establishing | Phase::Established(_) => {}
        }
    }

    pub(super) fn on_closed(
        &mut self,
        session: SessionRef,
        generation: u64,
        result: Result<Counters, String>,
        now: Now,
    ) {
        let Some(held) = self.sessions.get_mut(&session) else {
            return;
        };
        if !matches!(held.row.phase, Phase::Closing { .. }) {
            return;
        }
        if held.row.connect.generation != generation {
            return;
        }
        match result {
            Ok(last) => {
                self.tally.carry(session.operator, held, &last);
                if !self.wait_with_receipt(session) {
                    self.finish_closing(session, last, now);
                }
            }
            Err(error) => {
                tracing::error!(?session, generation, error, "cannot close; trying again");
                held.detail = Some(format!("cannot close the fast path: {error}"));
                let at = now.at + held.pause();
                self.timers.set(Timer::Session(session), Some(at));
            }
        }
    }

    /// The session forwards nothing more.
    fn finish_closing(&mut self, session: SessionRef, last: Counters, now: Now) {
        let Some(held) = self.remove(session) else {
            return;
        };
        let Phase::Closing { opened, then } = held.row.phase.clone() else {
            return;
        };
        let receipt = then
            .receipt
            .map(|generation| self.issue(session, generation, last, now));
        let begun = match then.connect {
            Some(connect) => {
                let same_line =
                    self.settings.inventory.resolve(&connect.location) == Some(&held.line);
                let slot = self.next_slot(held.row.slot, self.near(&connect), now);
                let begun = self.begin(session, *connect, slot, now);
                if !begun {
                    self.forget(session);
                }
                Some((begun, same_line))
            }
            None => {
                self.slots.free(held.row.slot, now.at);
                self.forget(session);
                None
            }
        };
        if held.is_by_dhcp() {
            if !matches!(begun, Some((true, true))) {
                self.retire(&held);
            }
            self.force_renew(session, &held, now);
        }
        // On the same line the terminal replaces the old generation by the new one by itself.
        if !matches!(begun, Some((true, true))) && !held.is_by_dhcp() {
            let release = held.initiator.release();
            let to = opened.map(|opened| opened.mac);
            let gateway = self.settings.gateway_mac;
            self.out.push(held.frame(gateway, &release, to));
        }
        if let Some(receipt) = receipt {
            tracing::info!(
                ?session,
                number = receipt.number,
                generation = receipt.generation,
                "session closed"
            );
            let closing = held.row.steps.last().map(std::slice::from_ref);
            let mut steps = timed(closing.unwrap_or_default());
            steps.push(("closed", now.unix_ms));
            self.trace(session, receipt.generation, "close", steps);
            self.send_receipt(session, receipt, now);
        }
        if matches!(begun, Some((true, _))) {
            self.ask_terminal(session, now);
        }
    }

    /// A slot for the next generation; its own again where there is no other.
    fn next_slot(&mut self, own: Slot, near: Option<Slot>, now: Now) -> Slot {
        match self.slots.take(near, now.at) {
            Some(slot) => {
                self.slots.free(own, now.at);
                slot
            }
            None => own,
        }
    }

    /// Numbers a receipt and records it.
    fn issue(&mut self, session: SessionRef, generation: u64, last: Counters, now: Now) -> Receipt {
        let state = self.operators.entry(session.operator).or_default();
        state.last_number += 1;
        let receipt = Receipt {
            number: state.last_number,
            session: session.session,
            generation,
            final_counters: last,
            at_unix_ms: now.unix_ms,
        };
        state.receipts.insert(receipt.number, receipt.clone());
        self.persist(Write::PutReceipt(session.operator, receipt.clone()));
        if let Some(fence) = self.fences.get(&session)
            && fence.kind == FenceKind::Disconnect
            && fence.generation == generation
        {
            let fence = Fence {
                receipt: Some(receipt.clone()),
                ..fence.clone()
            };
            self.persist_fence(session, fence);
        }
        receipt
    }
}
