//! Constants of a boot, set in the object before it is loaded.

use crate::limit::Pace;
use crate::{MacWord, OperatorIndex, shared};

/// The object's `GLOBALS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// First 64 bits of the netmask of a delegated prefix, in wire order.
    pub delegated_mask_be: [u8; 8],
    /// The gateway's MAC address on every line.
    pub gateway_mac: MacWord,
    /// Slots for each CPU in `ACCOUNTS`, and entries of `POLICERS`.
    pub slots: u32,
    /// Whose a packet is that the kernel itself sends to a line without a mark; 0: nobody's.
    pub default_operator: OperatorIndex,
    /// Bits of [`Globals::TRACE`].
    pub flags: u16,
    /// Frames for the daemon, from one line and from all.
    pub punt_line: Pace,
    pub punt_all: Pace,
    /// Frames that the programs answer, for one line.
    pub answer_line: Pace,
}
shared!(Globals, 72);

impl Globals {
    /// These programs tell what becomes of the packets that somebody follows. The others have no
    /// code for it: the verifier removes it.
    pub const TRACE: u16 = 1 << 0;

    /// The mask for prefixes of `length` bits, 1..=64.
    pub const fn delegated_mask(length: u8) -> [u8; 8] {
        (!0u64 << (64 - length as u32)).to_be_bytes()
    }
}
