//! `GARDEN`: what a line without a session reaches.
//!
//! A line that has asked for it holds a *lease*: rows as a session's, with [`crate::flag::GARDEN`], in
//! the maps of sessions, for its address at each operator that has a garden.

use crate::{OperatorIndex, Slot, account, shared};

/// Servers of all operators together.
pub const MAX_ENTRIES: u32 = 1024;

/// Leases of a gateway, each counted once for every operator with a garden; beside the sessions.
pub const MAX_LEASES: u32 = 4096;

/// The slots below this are the sessions', those from here on the leases'.
pub const fn first_slot(max_sessions: u32) -> Slot {
    account::slots(max_sessions) - MAX_LEASES
}

/// The slot in which a lease counts, and has its rates.
pub const fn slot(max_sessions: u32, lease: u32) -> Slot {
    first_slot(max_sessions) + lease
}

/// The lease that counts in a slot; none if it is a session's or nobody's.
pub const fn lease(max_sessions: u32, slot: Slot) -> Option<u32> {
    if slot >= account::slots(max_sessions) {
        return None;
    }
    slot.checked_sub(first_slot(max_sessions))
}

/// Key of `GARDEN`: an operator's server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GardenKey {
    pub operator: OperatorIndex,
    /// TCP or UDP port.
    pub port_be: u16,
    /// 6: TCP, 17: UDP.
    pub protocol: u32,
    /// IPv6, or IPv4 mapped to it (RFC 4291 section 2.5.5.2).
    pub address: [u8; 16],
}
shared!(GardenKey, 24);

/// An IPv4 address as [`GardenKey`] has it.
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
