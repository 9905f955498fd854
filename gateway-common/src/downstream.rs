//! `DOWNSTREAM_V4`, `DOWNSTREAM_V6`: from an operator and a destination address to the line.

use crate::{LineKey, OperatorIndex, Slot, shared};

/// Key of `DOWNSTREAM_V4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DownstreamV4Key {
    pub operator: OperatorIndex,
    pub pad: u16,
    /// IPv4 destination address.
    pub destination_be: [u8; 4],
}
shared!(DownstreamV4Key, 8);

/// Key of `DOWNSTREAM_V6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DownstreamV6Key {
    pub operator: OperatorIndex,
    pub pad: [u16; 3],
    /// First 64 bits of the IPv6 destination, masked to the gateway's delegated length.
    pub prefix_be: [u8; 8],
}
shared!(DownstreamV6Key, 16);

/// Where a destination is, and how its frames look on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownstreamValue {
    pub generation: u64,
    pub line: LineKey,
    pub slot: Slot,
    /// TPID of the outer tag, pushed when `line.s_vid` is not 0.
    pub s_tpid: u16,
    /// TPID of the inner tag, pushed when `line.c_vid` is not 0.
    pub c_tpid: u16,
    /// The subscriber's MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet on the line, in bytes; larger ones go to the kernel.
    pub mtu: u16,
}
shared!(DownstreamValue, 32);
