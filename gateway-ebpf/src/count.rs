//! Counters. All are per CPU, so that plain additions suffice.

use doorstep_datapath::Tables as _;
use doorstep_datapath::verdict::Due;
use doorstep_gateway_common::Reason;

use crate::maps::REASONS;
use crate::tables::TABLES;

/// Counts a packet under its reason.
#[inline(always)]
pub fn reason(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(u32::from(reason.number())) {
        // SAFETY: this CPU's own element; programs on one CPU do not preempt each other here.
        unsafe { *count += 1 }
    }
}

/// Counts a packet from a subscriber.
#[inline(always)]
pub fn session(due: &Due) {
    if let Some(account) = TABLES.account(due.slot) {
        account.upstream.count(1, due.bytes.into());
    }
}
