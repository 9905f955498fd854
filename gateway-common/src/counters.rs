//! `COUNTERS`: packets and bytes of each session, per CPU.

use crate::{Slot, shared};

/// Which way a packet goes, seen from the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Upstream,
    Downstream,
}

/// Packets and bytes (of IP) in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
}
shared!(Tally, 16);

/// Entries of `COUNTERS` that a slot takes: one for each direction.
const DIRECTIONS: u32 = 2;

/// Index in `COUNTERS` of a slot's tally.
pub const fn index(slot: Slot, direction: Direction) -> u32 {
    slot * DIRECTIONS
        + match direction {
            Direction::Upstream => 0,
            Direction::Downstream => 1,
        }
}

/// Entries of `COUNTERS` for that many sessions.
pub const fn entries(sessions: u32) -> u32 {
    sessions * DIRECTIONS
}
