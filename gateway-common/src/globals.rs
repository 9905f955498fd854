//! Constants of a boot, set in the object before it is loaded.

use crate::{OperatorIndex, shared};

/// The object's `GLOBALS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// First 64 bits of the netmask of a delegated prefix, in wire order.
    pub delegated_mask_be: [u8; 8],
    /// The gateway's MAC address on every line.
    pub gateway_mac: [u8; 6],
    /// Whose a packet is that the kernel itself sends to a line without a mark; 0: nobody's.
    pub default_operator: OperatorIndex,
}
shared!(Globals, 16);

impl Globals {
    /// The mask for prefixes of `length` bits, 1..=64.
    pub const fn delegated_mask(length: u8) -> [u8; 8] {
        (!0u64 << (64 - length as u32)).to_be_bytes()
    }
}
