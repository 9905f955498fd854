//! Constants of a boot, set in the object before it is loaded.

use crate::limit::Pace;
use crate::table::Layout;
use crate::{MacWord, OperatorIndex, account, shared};

/// The object's `GLOBALS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// First 64 bits of the netmask of a delegated prefix, in wire order.
    pub delegated_mask_be: [u8; 8],
    /// The gateway's MAC address on every line.
    pub gateway_mac: MacWord,
    /// Bits of a bucket's number in the sessions' tables, and of a delegated prefix. There are as many
    /// slots as buckets.
    pub table_bits: u16,
    pub delegated_len: u16,
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
    /// Those that say where things lie, for prefixes of that length and that many sessions.
    pub const fn layout(delegated_len: u8, max_sessions: u32) -> Self {
        let Layout {
            bits,
            delegated_len: length,
        } = Layout::new(delegated_len, account::rows(max_sessions));
        let none = Pace::per_second(0, 0);
        Self {
            delegated_mask_be: Self::delegated_mask(delegated_len),
            gateway_mac: MacWord::new([0; 6]),
            table_bits: bits as u16,
            delegated_len: length as u16,
            default_operator: 0,
            flags: 0,
            punt_line: none,
            punt_all: none,
            answer_line: none,
        }
    }

    /// These programs tell what becomes of the packets that somebody follows. The others have no
    /// code for it: the verifier removes it.
    pub const TRACE: u16 = 1 << 0;

    /// Where the sessions' rows lie in their tables.
    #[inline(always)]
    pub const fn tables(&self) -> Layout {
        Layout {
            bits: self.table_bits as u32,
            delegated_len: self.delegated_len as u32,
        }
    }

    /// The mask for prefixes of `length` bits, 1..=64.
    pub const fn delegated_mask(length: u8) -> [u8; 8] {
        (!0u64 << (64 - length as u32)).to_be_bytes()
    }
}
