//! `OPERATORS`, `UPLINKS`: how each operator reaches the world.

use crate::{MacWord, OperatorIndex, shared};

/// Operators that one gateway can serve, counting the unused index 0.
pub const MAX_OPERATORS: u32 = 64;

/// Key of `UPLINKS`: a port and the VLAN on it (0: untagged).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UplinkKey {
    pub ifindex: u32,
    pub vid: u16,
    pub pad: u16,
}
shared!(UplinkKey, 8);

/// Value of `UPLINKS`: whose uplink it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UplinkValue {
    /// The port's own MAC address: frames to another are not for the gateway.
    pub port_mac: MacWord,
    pub operator: OperatorIndex,
    pub pad: [u16; 3],
}
shared!(UplinkValue, 16);

/// Value of `OPERATORS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperatorValue {
    /// The uplink port; 0: the operator is not set up.
    pub ifindex: u32,
    /// VLAN id on the uplink; 0: untagged.
    pub vid: u16,
    /// Bits of [`OperatorValue::NEXT_HOP_V4`] and its like.
    pub flags: u16,
    /// The uplink port's own MAC address.
    pub port_mac: MacWord,
    pub next_hop_v4_mac: MacWord,
    pub next_hop_v6_mac: MacWord,
    /// The gateway's own IPv6 address toward this operator's lines; all zero: none.
    pub gateway_v6_be: [u8; 16],
    /// The gateway's own IPv4 address toward this operator's lines; all zero: none.
    pub gateway_v4_be: [u8; 4],
    /// Largest IP packet on the uplink, in bytes; larger ones go to the kernel.
    pub mtu: u16,
    pub pad: u16,
}
shared!(OperatorValue, 56);

impl OperatorValue {
    /// `next_hop_v4_mac` is known; otherwise the kernel forwards IPv4.
    pub const NEXT_HOP_V4: u16 = 1 << 0;
    /// `next_hop_v6_mac` is known; otherwise the kernel forwards IPv6.
    pub const NEXT_HOP_V6: u16 = 1 << 1;
    /// Packets from one of the operator's subscribers to another turn round at the gateway.
    pub const HAIRPIN: u16 = 1 << 2;
}
