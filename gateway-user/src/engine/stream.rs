//! The streams to the servers: what is told when one opens, receipts, accounting.

use std::time::Duration;

use doorstep_gateway_common::OperatorIndex;
use uuid::Uuid;

use super::message::{Account, Held, HeldPhase, Receipt, Report};
use super::row::{Phase, SessionRef, Write};
use super::{Action, Engine, Now, Timer};
use crate::session::Reading;

/// How often a receipt is repeated.
const RECEIPT_INTERVAL: Duration = Duration::from_secs(5);
/// Sessions in one Accounting message.
const ACCOUNTS: usize = 1000;

impl Engine {
    pub(super) fn on_stream_up(&mut self, operator: OperatorIndex, now: Now) {
        let held = self.held(operator);
        self.operators.entry(operator).or_default().connected = true;
        self.report(operator, Report::Hello { held });
        self.send_receipts(operator, now);
        for session in self.sessions_of(operator) {
            // What has been told before and was lost, the server misses in the Hello and asks for.
            if !self.sessions[&session].told {
                self.report_established(session);
            }
        }
        let at = now.at + self.settings.accounting_interval;
        self.timers.set(Timer::Accounting(operator), Some(at));
    }

    /// Nothing else changes: the fast path forwards on without the server, but for sessions with a
    /// time to live.
    pub(super) fn on_stream_down(&mut self, operator: OperatorIndex, now: Now) {
        self.operators.entry(operator).or_default().connected = false;
        self.timers.set(Timer::Accounting(operator), None);
        self.timers.set(Timer::Receipts(operator), None);
        self.out_of_contact(operator, now);
    }

    fn sessions_of(&self, operator: OperatorIndex) -> Vec<SessionRef> {
        let mut sessions: Vec<_> = self
            .sessions
            .keys()
            .filter(|session| session.operator == operator)
            .copied()
            .collect();
        sessions.sort_unstable();
        sessions
    }

    fn held(&self, operator: OperatorIndex) -> Vec<Held> {
        let mut all = Vec::new();
        for session in self.sessions_of(operator) {
            let held = &self.sessions[&session];
            let row = &held.row;
            let mut add = |generation, phase| {
                all.push(Held {
                    session: session.session,
                    generation,
                    phase,
                    revision: held.revision(generation),
                });
            };
            match &row.phase {
                Phase::Establishing => add(row.connect.generation, HeldPhase::Establishing),
                Phase::Established(_) => add(row.connect.generation, HeldPhase::Established),
                Phase::Closing { then, .. } => {
                    if let Some(generation) = then.receipt {
                        add(generation, HeldPhase::Disconnected);
                    }
                    if let Some(connect) = &then.connect {
                        add(connect.generation, HeldPhase::Establishing);
                    }
                }
            }
        }
        for (session, generation) in self.unknown_disconnects(operator) {
            all.push(Held {
                session: session.session,
                generation,
                phase: HeldPhase::Disconnected,
                revision: 0,
            });
        }
        let receipts = self.operators.get(&operator).map(|state| &state.receipts);
        for receipt in receipts.into_iter().flatten().map(|(_, receipt)| receipt) {
            all.push(Held {
                session: receipt.session,
                generation: receipt.generation,
                phase: HeldPhase::Disconnected,
                revision: 0,
            });
        }
        all
    }

    /// Sends all receipts that are not acknowledged, and again after a while.
    pub(super) fn send_receipts(&mut self, operator: OperatorIndex, now: Now) {
        let Some(state) = self.operators.get(&operator) else {
            return;
        };
        let receipts: Vec<Receipt> = state.receipts.values().cloned().collect();
        let next = (state.connected && !receipts.is_empty()).then(|| now.at + RECEIPT_INTERVAL);
        self.timers.set(Timer::Receipts(operator), next);
        for receipt in receipts {
            self.report(operator, Report::Receipt(receipt));
        }
    }

    pub(super) fn send_receipt(&mut self, session: SessionRef, receipt: Receipt, now: Now) {
        let timer = Timer::Receipts(session.operator);
        let connected = self
            .operators
            .get(&session.operator)
            .is_some_and(|state| state.connected);
        if connected && !self.timers.is_set(timer) {
            self.timers.set(timer, Some(now.at + RECEIPT_INTERVAL));
        }
        self.report(session.operator, Report::Receipt(receipt));
    }

    pub(super) fn on_receipt_ack(&mut self, operator: OperatorIndex, number: u64, now: Now) {
        let state = self.operators.entry(operator).or_default();
        if let Some(receipt) = state.receipts.remove(&number) {
            self.persist(Write::DeleteReceipt(operator, number));
            let session = receipt.session;
            self.note_ended(SessionRef { operator, session }, number, now);
        }
    }

    pub(super) fn on_accounting_timer(&mut self, operator: OperatorIndex, now: Now) {
        let at = now.at + self.settings.accounting_interval;
        self.timers.set(Timer::Accounting(operator), Some(at));
        let slots: Vec<_> = self
            .sessions_of(operator)
            .into_iter()
            .filter_map(|session| {
                let row = &self.sessions[&session].row;
                matches!(row.phase, Phase::Established(_)).then_some((
                    session.session,
                    row.connect.generation,
                    row.slot,
                ))
            })
            .collect();
        if !slots.is_empty() {
            self.out.push(Action::ReadCounters { operator, slots });
        }
    }

    pub(super) fn on_counters_read(
        &mut self,
        operator: OperatorIndex,
        readings: &[(Uuid, u64, Reading)],
        now: Now,
    ) {
        let accounts: Vec<Account> = readings
            .iter()
            .filter_map(|&(session, generation, reading)| {
                let held = self.sessions.get_mut(&SessionRef { operator, session })?;
                let current = matches!(held.row.phase, Phase::Established(_))
                    && held.row.connect.generation == generation;
                if current {
                    self.tally.carry(operator, held, &reading.counters);
                }
                current.then_some(Account {
                    session,
                    generation,
                    counters: reading.counters,
                    silent_since_ms: reading.silent_since_ms(now.unix_ms),
                    blocked: held.is_blocked(),
                })
            })
            .collect();
        for chunk in accounts.chunks(ACCOUNTS) {
            self.report(operator, Report::Accounting(chunk.to_vec()));
        }
    }
}
