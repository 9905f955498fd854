//! Counters and rates of the sessions, without a system call for each.

use doorstep_gateway_common::account::{Account, Meter};
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::policer::{Policers, Rate};
use doorstep_gateway_common::{Slot, Word};

use super::mapped::Mapped;
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;
use crate::plan::Rates;
use crate::session::Counters;

/// `ACCOUNTS` and `POLICERS`.
pub(in crate::dataplane) struct Accounts {
    accounts: Mapped<Account>,
    policers: Mapped<Policers>,
}

impl Accounts {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            accounts: Mapped::open(pins, map::ACCOUNTS)?,
            policers: Mapped::open(pins, map::POLICERS)?,
        })
    }

    /// What all CPUs have counted for a slot.
    pub(in crate::dataplane) fn counters(&self, slot: Slot) -> Counters {
        let mut sum = Counters::default();
        for account in self.of(slot) {
            let Account {
                upstream,
                downstream,
            } = account;
            sum.upstream_packets += read(&upstream.packets);
            sum.upstream_bytes += read(&upstream.bytes);
            sum.upstream_policed += read(&upstream.policed);
            sum.downstream_packets += read(&downstream.packets);
            sum.downstream_bytes += read(&downstream.bytes);
            sum.downstream_policed += read(&downstream.policed);
        }
        sum
    }

    /// Begins a slot anew. No program may be using it.
    pub(in crate::dataplane) fn reset(&self, slot: Slot) {
        for account in self.of(slot) {
            for meter in [&account.upstream, &account.downstream] {
                let Meter {
                    packets,
                    bytes,
                    policed,
                    credit,
                } = meter;
                for cell in [packets, bytes, policed, credit] {
                    cell.set(0);
                }
            }
        }
        if let Some(policers) = self.policers.get(slot as usize) {
            for policer in [&policers.upstream, &policers.downstream] {
                policer.set(Rate::default());
                policer.spent_until_ns.set(0);
            }
        }
    }

    /// Sets the rates of a session, which may be forwarding.
    pub(in crate::dataplane) fn set_rates(&self, slot: Slot, rates: &Rates) {
        if let Some(policers) = self.policers.get(slot as usize) {
            policers.upstream.set(rates.upstream);
            policers.downstream.set(rates.downstream);
        }
    }

    pub(in crate::dataplane) fn rates(&self, slot: Slot) -> Rates {
        match self.policers.get(slot as usize) {
            Some(policers) => Rates {
                upstream: policers.upstream.rate(),
                downstream: policers.downstream.rate(),
            },
            None => Rates::default(),
        }
    }

    /// The slot's account of each CPU.
    fn of(&self, slot: Slot) -> impl Iterator<Item = &Account> {
        let slots = self.policers.len();
        let cpus = self.accounts.len() / slots.max(1);
        (0..cpus).filter_map(move |cpu| self.accounts.get(cpu * slots + slot as usize))
    }
}

fn read(cell: &Word) -> u64 {
    cell.get()
}
