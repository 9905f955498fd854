//! `GARDEN`: what a line without a session reaches.

use crate::{OperatorIndex, shared};

/// Servers of all operators together.
pub const MAX_ENTRIES: u32 = 1024;

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
