//! `UPSTREAM_V4`, `UPSTREAM_V6`: from a line and a source address to the session.
//!
//! An exact match both finds the session and proves that the address belongs to that line.

use crate::{LineKey, OperatorIndex, Slot, shared};

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
    /// First 64 bits of the IPv6 source, masked to the gateway's delegated length.
    pub prefix_be: [u8; 8],
}
shared!(UpstreamV6Key, 16);

/// The session that a line and a source address belong to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamValue {
    pub generation: u64,
    pub slot: Slot,
    pub operator: OperatorIndex,
    pub flags: u16,
    /// The subscriber's MAC address; frames from another are dropped.
    pub mac: [u8; 6],
    pub pad: [u8; 2],
}
shared!(UpstreamValue, 24);
