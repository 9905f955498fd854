//! `TRACE`, `TRACE_FILTERS`: what becomes of the packets that somebody follows.

use crate::{LineKey, OperatorIndex, Slot, shared};

/// Filters that may be set at one time.
pub const MAX_FILTERS: u32 = 8;

/// Bytes of the ring. What does not fit is not told of.
pub const RING_BYTES: u32 = 1 << 20;

/// Bytes of a packet that an event carries at most, from its Ethernet header on.
pub const SNAP: usize = 128;

/// Value of `TRACE_FILTERS`: which packets to follow. What has no bit in `flags` fits any.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFilter {
    /// Bits of [`TraceFilter::ENABLED`] and its like.
    pub flags: u32,
    pub line: LineKey,
    /// Source or destination; IPv4 as in [`crate::garden::mapped`].
    pub address: [u8; 16],
    pub pad: u32,
}
shared!(TraceFilter, 32);

impl TraceFilter {
    pub const ENABLED: u32 = 1 << 0;
    pub const LINE: u32 = 1 << 1;
    pub const ADDRESS: u32 = 1 << 2;
}

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Access = 1,
    Uplink = 2,
    Egress = 3,
    Ingress = 4,
}

/// A record of `TRACE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TraceEvent {
    /// In the clock of `bpf_ktime_get_ns`.
    pub at_ns: u64,
    /// The line that it came from or goes to; all zero: none is known.
    pub line: LineKey,
    /// The port that it was seen on.
    pub ifindex: u32,
    /// Of the map entry that was found; [`TraceEvent::NO_SLOT`]: none was.
    pub slot: Slot,
    pub operator: OperatorIndex,
    /// A [`crate::Reason`]'s number.
    pub reason: u16,
    /// A [`Point`]'s number.
    pub point: u16,
    /// Bytes of `frame` that were filled.
    pub snapped: u16,
    /// Bytes that the packet had.
    pub len: u32,
    /// The map entry's flags, see [`crate::flag`].
    pub flags: u32,
    /// The packet as it came, from its Ethernet header on.
    pub frame: [u8; SNAP],
}
shared!(TraceEvent, 168);

impl TraceEvent {
    pub const NO_SLOT: Slot = u32::MAX;
}
