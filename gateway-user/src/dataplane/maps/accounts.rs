//! Counters and rates of the sessions, without a system call for each.

use doorstep_gateway_common::account::{Account, Meter};
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::policer::{Policers, Rate};
use doorstep_gateway_common::{Slot, Word};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

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

    /// Adds to what was counted. Programs may be counting the while.
    ///
    /// A CPU writes its own lines only, and adds without locking the others out. So the addition
    /// is made by one instruction on the very CPU whose line it is: no program, which is not
    /// interrupted by a thread, can be in the middle of its own there.
    pub(in crate::dataplane) fn add(
        &self,
        counted: &[(Slot, Counters)],
    ) -> Result<(), DataplaneError> {
        if counted.is_empty() {
            return Ok(());
        }
        // The thread stays on its CPU; so it is one that nobody needs later.
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| -> Result<(), DataplaneError> {
                let cpu = stay().map_err(|errno| DataplaneError::Kernel {
                    what: "cannot keep a thread on its CPU".to_owned(),
                    source: errno.into(),
                })?;
                for (slot, counters) in counted {
                    if let Some(account) = self.of(*slot).nth(cpu) {
                        let Counters {
                            upstream_packets,
                            upstream_bytes,
                            downstream_packets,
                            downstream_bytes,
                            upstream_policed,
                            downstream_policed,
                        } = *counters;
                        let upstream = [upstream_packets, upstream_bytes, upstream_policed];
                        let downstream = [downstream_packets, downstream_bytes, downstream_policed];
                        add(&account.upstream, upstream);
                        add(&account.downstream, downstream);
                    }
                }
                Ok(())
            });
            adding.join().expect("it does not panic")
        })
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

/// Keeps the calling thread on one CPU, and says on which.
fn stay() -> nix::Result<usize> {
    let thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(thread)?;
    let cpu = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu) == Ok(true));
    let cpu = cpu.ok_or(nix::Error::EINVAL)?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(thread, &only)?;
    Ok(cpu)
}

fn add(meter: &Meter, [packets, bytes, policed]: [u64; 3]) {
    meter.packets.add(packets);
    meter.bytes.add(bytes);
    meter.policed.add(policed);
}

fn read(cell: &Word) -> u64 {
    cell.get()
}
