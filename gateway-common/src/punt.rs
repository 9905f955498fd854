//! `PUNT`: frames that the daemon must answer.

use crate::{LineKey, shared};

/// Bytes of the ring.
pub const RING_BYTES: u32 = 4 << 20;

/// Longest frame that takes little of the ring, in bytes.
pub const SHORT_FRAME: usize = 320;

/// Longest frame that is punted, in bytes; a longer one is dropped by name.
pub const MAX_FRAME: usize = 1536;

/// Precedes the frame in a record of `PUNT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PuntHeader {
    pub line: LineKey,
    /// Bytes of the frame that follow, as it came, with its tags.
    pub len: u32,
    /// A [`crate::Reason`]'s number: why it was punted.
    pub reason: u16,
    pub pad: u16,
}
shared!(PuntHeader, 16);
