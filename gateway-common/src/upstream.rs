//! `UPSTREAM_V4`, `UPSTREAM_V6`: from a line and a source address to the session.
//!
//! An exact match both finds the session and proves that the address belongs to that line.

use crate::{LineKey, MacWord, OperatorIndex, Slot, shared};

/// Key of `UPSTREAM_V4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamV4Key {
    pub line: LineKey,
    /// IPv4 source address.
    pub source_be: [u8; 4],
}
shared!(UpstreamV4Key, 12);

/// Key of `UPSTREAM_V6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamV6Key {
    pub line: LineKey,
    /// First 64 bits of the IPv6 source: masked to the gateway's delegated length for a delegated
    /// prefix, whole for the line's own /64.
    pub prefix_be: [u8; 8],
}
shared!(UpstreamV6Key, 16);

/// The session that a line and a source address belong to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamValue {
    pub generation: u64,
    /// The subscriber's MAC address; frames from another are dropped.
    pub mac: MacWord,
    pub slot: Slot,
    pub operator: OperatorIndex,
    /// Bits of [`crate::flag`].
    pub flags: u16,
}
shared!(UpstreamValue, 24);
