//! Times to live, counted in ticks.
//!
//! Between two ticks anything may happen that may happen without time, in any order. A tick itself
//! waits for what takes less than one, which is what the time to live relies on
//! (docs/adr/0019):
//!
//! * A stream whose contact has not been written down for a tick ends before the next, at both ends:
//!   the real server's `WRITTEN` and `NOTICED`.
//! * What has lapsed is out of the fast path before the next tick: the real server's `CLOSED`. A daemon
//!   that dies is back within that.
//! * What was said on a stream that has ended is gone.
//!
//! How long a gateway waits to be welcomed is a part of `NOTICED` there, and takes no tick here. A daemon
//! that is dead for longer while its kernel forwards is what a time to live does not cover.

use std::time::Duration;

use doorstep_server::session;

use super::message::{Place, Who};
use super::settle::Settled;
use super::table::Input;
use super::{Action, Budget, Fault, GATEWAYS, Gateway, State, gateway};

/// What one tick is to a gateway's clocks.
pub const TICK: Duration = Duration::from_secs(10);
pub const TICK_MS: i64 = 10_000;

/// Until the end of a stream whose contact cannot be written down has reached the gateway.
const NOTICED: u8 = 1;
/// Until what has lapsed is out of the fast path.
const CLOSED: u8 = 1;

/// Ages in ticks do not differ beyond this.
pub const LONGEST: u8 = 16;

/// A time to live and how long it is looked at, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct TimeToLive {
    pub ticks: u8,
    pub passes: u8,
}

impl TimeToLive {
    pub fn seconds(self) -> u32 {
        u32::from(self.ticks) * TICK.as_secs() as u32
    }
}

/// What the table says of the gateways' contact.
#[derive(Clone, Debug, Hash)]
pub struct Contacts {
    time_to_live: u8,
    /// Ticks since contact was last written down, of each gateway.
    written: [u8; GATEWAYS as usize],
}

impl Contacts {
    pub fn new(time_to_live: TimeToLive) -> Self {
        Self {
            time_to_live: time_to_live.ticks,
            written: [0; GATEWAYS as usize],
        }
    }

    pub fn write(&mut self, place: Place) {
        self.written[usize::from(place)] = 0;
    }

    fn written(&self, place: Place) -> u8 {
        self.written[usize::from(place)]
    }

    fn pass(&mut self) {
        for age in &mut self.written {
            *age = (*age + 1).min(LONGEST);
        }
    }

    /// Whether a gateway has ended by itself what it serves, as a server sees it.
    fn are_over(&self, place: Place, fault: Fault) -> bool {
        let margin = match fault {
            Fault::NoMargin => 0,
            _ => NOTICED + CLOSED,
        };
        self.written(place) >= self.time_to_live + margin
    }
}

impl State {
    /// What may happen by time alone.
    pub(super) fn time_actions(&self, actions: &mut Vec<Action>) {
        let Some(contacts) = &self.contacts else {
            return;
        };
        for who in self.sessions() {
            if self.fault != Fault::NobodyLooks
                && let Some(session) = &self.table.row(who).session
                && session.state.is_disconnecting()
                && contacts.are_over(super::place(&session.connection.gateway), self.fault)
            {
                let input = Input::Outlived(who, session.generation);
                actions.push(Action::Begin(input));
            }
        }
        if self.budget.passes > 0 && (0..GATEWAYS).all(|place| self.has_closed(place)) {
            actions.push(Action::Pass { written: false });
            if self.at(0).gateway.is_connected() {
                actions.push(Action::Pass { written: true });
            }
        }
    }

    /// Nothing that has lapsed is still in the fast path.
    fn has_closed(&self, place: Place) -> bool {
        let gateway = &self.at(place).gateway;
        let time_to_live = self.contacts.as_ref().map_or(0, |all| all.time_to_live);
        let age = gateway.ticks_without_contact().unwrap_or_default();
        !gateway.has_orders() || age + 1 < u32::from(time_to_live + CLOSED)
    }

    /// `written`: whether a replica could write down that the first gateway is in contact. That the
    /// others are always can be.
    pub(super) fn pass(&mut self, written: bool) {
        let Some(contacts) = &mut self.contacts else {
            return;
        };
        let before = contacts.clone();
        contacts.pass();
        for place in 0..GATEWAYS {
            let connected = self.gateways[usize::from(place)].gateway.is_connected();
            let ends = before.written(place) >= NOTICED && self.fault != Fault::UnwrittenGoOn;
            if connected && (written || place > 0) {
                self.contacts.iter_mut().for_each(|all| all.write(place));
            } else if connected && ends {
                self.gateway(place, |gateway| {
                    gateway.disconnect();
                    Vec::new()
                });
            }
            let at = &mut self.gateways[usize::from(place)];
            if !at.gateway.is_connected() {
                at.inbound.clear();
                at.answer = None;
            }
            self.gateway(place, Gateway::pass);
        }
    }

    /// Lets a gateway stay away from now on, and everything else go well. True if what waits for it
    /// goes on by itself, as far as the gateway has agreed to a time to live; what else waits for it
    /// says why.
    pub(super) fn ends_without(mut self, away: Place, known: &Settled) -> bool {
        let Some(contacts) = &self.contacts else {
            return true;
        };
        let passes = contacts.time_to_live + NOTICED + CLOSED + 1;
        self.budget = Budget::default();
        self.run_replicas();
        self.gateway(away, |gateway| {
            gateway.disconnect();
            Vec::new()
        });
        let begun = self.digest();
        if known.has(begun) {
            return true;
        }
        for _ in 0..passes {
            for place in 0..GATEWAYS {
                self.work_all(place);
            }
            self.pass(true);
        }
        for _ in 0..ROUNDS {
            for place in 0..GATEWAYS {
                self.work_all(place);
                if place != away {
                    if !self.at(place).gateway.is_connected() {
                        self.gateway(place, Gateway::connect);
                    }
                    self.run_gateway(place);
                }
            }
            self.run_replicas();
            let mut actions = Vec::new();
            self.time_actions(&mut actions);
            for action in actions {
                if let Action::Begin(input) = action {
                    self.begin(input);
                    self.run_replicas();
                }
            }
        }
        let ends = self.sessions().all(|who| self.goes_on_without(away, who));
        if ends {
            known.note([begun]);
        }
        ends
    }

    fn goes_on_without(&self, away: Place, who: Who) -> bool {
        let forwarding = self.forwarding(who);
        let Some(row) = &self.table.row(who).session else {
            return forwarding == 0;
        };
        let agreed = row.service.acknowledged == row.service.revision;
        if row.connection.gateway != gateway(away) {
            // It has nothing of the one that is away to wait for.
            return !row.state.is_disconnecting() && forwarding <= 1;
        }
        let waits = row.state.is_disconnecting() && agreed;
        !waits && (row.state == session::State::Released || !row.detail.is_empty())
    }

    fn work_all(&mut self, place: Place) {
        while self.at(place).gateway.has_orders() {
            self.gateway(place, |gateway| gateway.work(true));
        }
    }
}

/// More than a session needs to be established at another gateway.
const ROUNDS: usize = 6;
