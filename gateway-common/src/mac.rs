//! A MAC address that is compared and written at one stroke.

use crate::shared;

/// A MAC address in a word: six bytes in the order of the wire, lowest first, then two of zero.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MacWord(u64);
shared!(MacWord, 8);

impl MacWord {
    const MASK: u64 = 0x0000_ffff_ffff_ffff;

    pub const fn new(bytes: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = bytes;
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// The first six bytes of eight that stand in a packet, loaded in the order of the machine.
    #[inline(always)]
    pub const fn of_wire(word: u64) -> Self {
        Self(u64::from_le(word) & Self::MASK)
    }

    /// Eight bytes to stand in a packet: the address and the next two bytes, in the order of the
    /// machine.
    #[inline(always)]
    pub const fn with_next(self, next_be: u16) -> u64 {
        (self.0 | (u16::from_le(next_be) as u64) << 48).to_le()
    }

    /// The first two bytes, as they stand in a packet.
    #[inline(always)]
    pub const fn first_two_be(self) -> u16 {
        (self.0 as u16).to_le()
    }

    pub const fn bytes(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Whether it is a group address (IEEE 802 clause 8.2).
    #[inline(always)]
    pub const fn is_multicast(self) -> bool {
        self.0 & 1 != 0
    }
}

impl From<[u8; 6]> for MacWord {
    fn from(bytes: [u8; 6]) -> Self {
        Self::new(bytes)
    }
}
