//! What becomes of a state when nothing breaks any more.

use std::collections::HashSet;
use std::sync::Mutex;

use doorstep_server::session;

use super::message::{Place, ToServer};
use super::{Budget, GATEWAYS, Gateway, Input, Request, State, gateway};

/// More rounds than any state has needed, by far: each brings every message to its end.
const ROUNDS: usize = 40;

/// States that are known to come to rest, by digest.
#[derive(Default)]
pub struct Settled(Mutex<HashSet<u64>>);

impl Settled {
    pub(super) fn has(&self, digest: u64) -> bool {
        self.0.lock().expect("no panic").contains(&digest)
    }

    pub(super) fn note(&self, digests: impl IntoIterator<Item = u64>) {
        self.0.lock().expect("no panic").extend(digests);
    }
}

impl State {
    /// Lets everything happen that may, with no more crashes, losses or failures; true if it comes
    /// to rest, and then the table and all gateways agree.
    pub fn settle(mut self, settled: &Settled) -> bool {
        self.budget = Budget::default();
        self.run_replicas();
        self.begin_streams();
        for place in 0..GATEWAYS {
            self.contacts.iter_mut().for_each(|all| all.write(place));
        }
        let mut again = false;
        let mut way = Vec::new();
        for _ in 0..ROUNDS {
            let before = self.digest();
            if settled.has(before) {
                settled.note(way);
                return true;
            }
            way.push(before);
            self.run_replicas();
            for place in 0..GATEWAYS {
                self.run_gateway(place);
            }
            if self.digest() == before {
                if !self.agrees() && !again {
                    // What is held though it was refused is seen at the next Hello.
                    again = true;
                    self.begin_streams();
                    continue;
                }
                let agrees = self.agrees();
                if agrees {
                    settled.note(way);
                }
                return agrees;
            }
        }
        false
    }

    /// Has carried out requests to their end.
    pub(super) fn after(mut self, requests: &[Request]) -> Self {
        let (budget, settled) = (self.budget, Settled::default());
        self.budget = Budget::default();
        for request in requests {
            self.begin(Input::Request(*request));
            let mut before = 0;
            while before != self.digest() {
                before = self.digest();
                self.run_replicas();
                (0..GATEWAYS).for_each(|place| self.run_gateway(place));
            }
        }
        assert!(self.clone().settle(&settled), "{requests:?}: {self:?}");
        for at in &mut self.gateways {
            at.inbound.clear();
        }
        self.budget = Budget {
            request: requests.len(),
            ..budget
        };
        self
    }

    /// All streams begin anew, as after the last crash.
    fn begin_streams(&mut self) {
        for place in 0..GATEWAYS {
            self.gateway(place, |gateway| {
                gateway.disconnect();
                gateway.forget_the_count_of_streams();
                gateway.connect()
            });
        }
    }

    pub(super) fn run_replicas(&mut self) {
        let finish = |state: &mut State| {
            while let Some(busy) = state.pending.iter().position(Option::is_some) {
                state.commit(busy);
            }
        };
        finish(self);
        // What an answer tells is seen to in the next round.
        for report in std::mem::take(&mut self.outbound) {
            if let ToServer::Hello(..) = report {
                self.answer(&report);
            } else {
                self.begin(Input::Report(report));
                finish(self);
            }
        }
    }

    pub(super) fn run_gateway(&mut self, place: Place) {
        self.deliver_answer(place);
        let inbound = &mut self.gateways[usize::from(place)].inbound;
        for message in std::mem::take(inbound) {
            self.gateway(place, |gateway| gateway.deliver(&message));
        }
        self.gateway(place, Gateway::tick);
        while self.at(place).gateway.has_orders() {
            self.gateway(place, |gateway| gateway.work(true));
        }
        for who in self.sessions() {
            self.gateway(place, |gateway| gateway.accept(who));
        }
        while self.at(place).gateway.has_orders() {
            self.gateway(place, |gateway| gateway.work(true));
        }
    }

    /// Each row is at an end of its own, and gateways forward what the rows say and no more.
    fn agrees(&self) -> bool {
        self.sessions().all(|who| {
            let Some(row) = &self.table.row(who).session else {
                return (0..GATEWAYS).all(|place| self.forwards(place, who).is_none());
            };
            let ended = match row.state {
                session::State::Established | session::State::Released => true,
                session::State::Refused => !row.detail.is_empty(),
                _ => false,
            };
            ended
                && (0..GATEWAYS).all(|place| {
                    let wanted = (row.state == session::State::Established
                        && row.connection.gateway == gateway(place))
                    .then_some(row.generation);
                    self.forwards(place, who) == wanted
                })
        }) && self
            .gateways
            .iter()
            .all(|at| at.gateway.unacknowledged_receipts() == 0)
    }

    fn forwards(&self, place: Place, who: super::Who) -> Option<u64> {
        self.at(place).gateway.forwards(who).max()
    }
}
