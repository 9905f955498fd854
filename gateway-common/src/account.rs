//! `ACCOUNTS`: what each session has sent and received, and how much it may send on.
//!
//! A plain array that user space maps into its memory: element `cpu * slots + slot`, one cache line
//! each. A CPU writes its own lines only, so that plain additions suffice, and an address leads to
//! them without the indirection of a per-CPU array.

use crate::{Word, garden};

/// Which way a packet goes, seen from the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Upstream,
    Downstream,
}

/// One direction of a session, on one CPU.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Meter {
    pub packets: Word,
    /// Of IP.
    pub bytes: Word,
    /// Packets above the session's rate, dropped. Not among `packets`.
    pub policed: Word,
    /// Bytes that this CPU has taken from the session's rate and not used yet.
    pub credit: Word,
}

/// Both directions of a session, on one CPU.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Account {
    pub upstream: Meter,
    pub downstream: Meter,
}

const _: () = assert!(size_of::<Account>() == 64);

impl Meter {
    /// Counts packets that go on. Only the CPU that the meter belongs to may call it.
    #[inline(always)]
    pub fn count(&self, packets: u64, bytes: u64) {
        add(&self.packets, packets);
        add(&self.bytes, bytes);
    }

    /// Counts packets above the rate. Only the CPU that the meter belongs to may call it.
    #[inline(always)]
    pub fn refuse(&self, packets: u64) {
        add(&self.policed, packets);
    }
}

/// Not a read-modify-write: nobody else writes.
#[inline(always)]
fn add(cell: &Word, more: u64) {
    cell.set(cell.get().wrapping_add(more));
}

/// Rows of a gateway in each table of the sessions', those of the garden's leases included.
pub const fn rows(max_sessions: u32) -> u32 {
    max_sessions + garden::MAX_LEASES
}

/// Slots of a gateway: as many as the tables have buckets, so that a session can have the slot with
/// its bucket's number. The last are the garden's leases'.
pub const fn slots(max_sessions: u32) -> u32 {
    rows(max_sessions).next_power_of_two()
}
