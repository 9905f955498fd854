//! What the XDP programs tell the TC ingress program of a packet that they hand to the kernel,
//! and the firewall mark by which the kernel carries it on.

use crate::{OperatorIndex, shared};

/// Lies in front of the packet, as XDP metadata.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassMeta {
    pub magic: u32,
    pub operator: OperatorIndex,
    /// Bits of [`PassMeta::TRANSIT`].
    pub flags: u16,
}
shared!(PassMeta, 8);

impl PassMeta {
    const MAGIC: u32 = 0x446f_6f72;

    /// The kernel may forward the packet or answer that it cannot, but not take it for itself.
    pub const TRANSIT: u16 = 1 << 0;

    pub const fn new(operator: OperatorIndex, flags: u16) -> Self {
        Self {
            magic: Self::MAGIC,
            operator,
            flags,
        }
    }

    /// Whether this was written by [`PassMeta::new`].
    pub const fn is_valid(self) -> bool {
        self.magic == Self::MAGIC
    }
}

const MARK: u32 = 0xd005_0000;

/// The bits of a firewall mark that are the gateway's: all.
pub const MARK_MASK: u32 = 0xffff_ffff;

/// The firewall mark of an operator's packets in the kernel.
pub const fn mark(operator: OperatorIndex) -> u32 {
    MARK | operator as u32
}

/// The operator of a mark, or none if the mark is not ours.
pub const fn operator_of_mark(mark: u32) -> Option<OperatorIndex> {
    const OPERATOR: u32 = 0x0000_ffff;
    if mark & !OPERATOR == MARK {
        Some((mark & OPERATOR) as OperatorIndex)
    } else {
        None
    }
}
