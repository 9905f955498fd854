//! Rates: of sessions, and of what lines may ask for.

use doorstep_gateway_common::account::Meter;
use doorstep_gateway_common::limit::Pace;
use doorstep_gateway_common::policer::Policer;
use doorstep_gateway_common::{Direction, LineKey, Reason, Slot, Word};

use crate::Tables;

/// Other CPUs may change the same rate at the same time; after so many tries a packet has no luck.
const TRIES: u32 = 4;

/// Takes a packet's bytes from its session's rate; false if there are not enough.
///
/// The clock is only read, and memory shared with other CPUs only touched, when this CPU's credit
/// has run out.
#[inline(always)]
pub(crate) fn admit<T: Tables>(
    tables: &T,
    meter: &Meter,
    slot: Slot,
    direction: Direction,
    bytes: u32,
) -> bool {
    let bytes = u64::from(bytes);
    let mut credit = meter.credit.get();
    if credit < bytes {
        let Some(policers) = tables.policers(slot) else {
            return true;
        };
        let policer = policers.policer(direction);
        let short = bytes - credit;
        let Some(more) = grant(tables, policer, tables.now_ns(), short) else {
            return false;
        };
        credit += more;
    }
    meter.credit.set(credit - bytes);
    true
}

/// Bytes that the rate gives at that time, at least `short`; none if it cannot.
#[inline(never)]
fn grant<T: Tables>(tables: &T, policer: &Policer, now_ns: u64, short: u64) -> Option<u64> {
    let rate = policer.rate();
    if rate.grant_bytes == 0 {
        // The rate was taken away a moment ago, and the session's flag has not followed yet.
        return Some(short);
    }
    // One, but for a packet that is longer than a grant.
    let grants = 1 + short.wrapping_sub(1) / rate.grant_bytes;
    let cost_ns = rate.grant_ns * grants;
    take(
        tables,
        &policer.spent_until_ns,
        now_ns,
        cost_ns,
        rate.depth_ns,
    )
    .then_some(rate.grant_bytes * grants)
}

/// Spends that much time, if it has passed already.
#[inline(always)]
fn take<T: Tables>(
    tables: &T,
    spent_until_ns: &Word,
    now_ns: u64,
    cost_ns: u64,
    depth_ns: u64,
) -> bool {
    let earliest = now_ns.saturating_sub(depth_ns);
    let mut tries = 0;
    while tries < TRIES {
        let spent = spent_until_ns.get();
        let base = if spent < earliest { earliest } else { spent };
        if base + cost_ns > now_ns {
            return false;
        }
        if tables.swap(spent_until_ns, spent, base + cost_ns) {
            return true;
        }
        tries += 1;
    }
    false
}

/// When a packet of that length may leave, so that the rate is kept; none if it would have to wait
/// longer than the policer's depth.
#[inline(always)]
pub(crate) fn departure<T: Tables>(tables: &T, policer: &Policer, bytes: u32) -> Option<u64> {
    let now_ns = tables.now_ns();
    let rate = policer.rate();
    if rate.grant_bytes == 0 {
        return Some(now_ns);
    }
    let cost_ns = u64::from(bytes) * rate.grant_ns / rate.grant_bytes;
    let mut tries = 0;
    while tries < TRIES {
        let spent = policer.spent_until_ns.get();
        let at = if spent < now_ns { now_ns } else { spent };
        if at > now_ns + rate.depth_ns {
            return None;
        }
        if tables.swap(&policer.spent_until_ns, spent, at + cost_ns) {
            return Some(at);
        }
        tries += 1;
    }
    None
}

/// Whether a line may have another frame punted.
#[inline(always)]
pub(crate) fn punt<T: Tables>(tables: &T, line: &LineKey) -> Result<(), Reason> {
    let globals = tables.globals();
    let used = tables.line_use(line).ok_or(Reason::PuntLimitedLine)?;
    if !event(tables, &used.punts, globals.punt_line) {
        return Err(Reason::PuntLimitedLine);
    }
    let all = tables.punts().ok_or(Reason::PuntLimitedAll)?;
    if !event(tables, all, globals.punt_all) {
        return Err(Reason::PuntLimitedAll);
    }
    Ok(())
}

/// Whether a line may have another frame answered.
#[inline(always)]
pub(crate) fn answer<T: Tables>(tables: &T, line: &LineKey) -> Result<(), Reason> {
    let used = tables.line_use(line).ok_or(Reason::AnswerLimited)?;
    match event(tables, &used.answers, tables.globals().answer_line) {
        true => Ok(()),
        false => Err(Reason::AnswerLimited),
    }
}

#[inline(always)]
fn event<T: Tables>(tables: &T, used: &Word, pace: Pace) -> bool {
    pace.every_ns == 0 || take(tables, used, tables.now_ns(), pace.every_ns, pace.depth_ns)
}

#[cfg(test)]
mod tests;
