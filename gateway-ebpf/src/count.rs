//! Counters. All are per CPU, so that plain additions suffice.

use doorstep_datapath::verdict::Account;
use doorstep_gateway_common::{Reason, counters};

use crate::maps::{COUNTERS, REASONS};

/// Counts a packet under its reason.
#[inline(always)]
pub fn reason(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(u32::from(reason.number())) {
        // SAFETY: this CPU's own element; programs on one CPU do not preempt each other here.
        unsafe { *count += 1 }
    }
}

/// Counts a packet for its session.
#[inline(always)]
pub fn session(account: &Account) {
    let index = counters::index(account.slot, account.direction);
    if let Some(tally) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: as above.
        unsafe {
            (*tally).packets += 1;
            (*tally).bytes += u64::from(account.bytes);
        }
    }
}
