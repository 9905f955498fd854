//! What the XDP programs tell the TC ingress program of a packet that they hand to the kernel,
//! and the firewall mark by which the kernel carries it on.

use crate::{OperatorIndex, shared};

/// Lies in front of the packet, as XDP metadata.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassMeta {
    pub magic: u32,
    pub operator: u32,
}
shared!(PassMeta, 8);

impl PassMeta {
    const MAGIC: u32 = 0x446f_6f72;

    pub const fn new(operator: OperatorIndex) -> Self {
        Self {
            magic: Self::MAGIC,
            operator: operator as u32,
        }
    }

    /// The operator, if this was written by [`PassMeta::new`].
    pub const fn operator(self) -> Option<OperatorIndex> {
        if self.magic == Self::MAGIC {
            Some(self.operator as OperatorIndex)
        } else {
            None
        }
    }
}

const MARK: u32 = 0xd005_0000;
const MARK_MASK: u32 = 0xffff_0000;

/// The firewall mark of an operator's packets in the kernel.
pub const fn mark(operator: OperatorIndex) -> u32 {
    MARK | operator as u32
}

/// The operator of a mark, or none if the mark is not ours.
pub const fn operator_of_mark(mark: u32) -> Option<OperatorIndex> {
    if mark & MARK_MASK == MARK {
        Some((mark & !MARK_MASK) as OperatorIndex)
    } else {
        None
    }
}
