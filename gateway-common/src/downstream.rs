//! `DOWNSTREAM_V4`, `DOWNSTREAM_V6`: from an operator and a destination address to the line.

use crate::{LineKey, MacWord, OperatorIndex, Slot, shared};

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
    /// First 64 bits of the IPv6 destination, as in [`crate::upstream::UpstreamV6Key`].
    pub prefix_be: [u8; 8],
}
shared!(DownstreamV6Key, 16);

/// A VLAN tag as it stands on the wire; all zero: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireTag {
    pub tpid_be: u16,
    /// Priority and VLAN id (IEEE 802.1Q clause 9.6).
    pub tci_be: u16,
}

impl WireTag {
    const PRIORITY_SHIFT: u32 = 13;

    pub const NONE: Self = Self {
        tpid_be: 0,
        tci_be: 0,
    };

    /// `priority` is the PCP, 0..=7.
    pub const fn new(tpid: u16, vid: u16, priority: u8) -> Self {
        Self {
            tpid_be: tpid.to_be(),
            tci_be: (vid | (priority as u16) << Self::PRIORITY_SHIFT).to_be(),
        }
    }

    pub const fn is_some(self) -> bool {
        self.tpid_be != 0
    }

    pub const fn tpid(self) -> u16 {
        u16::from_be(self.tpid_be)
    }

    pub const fn vid(self) -> u16 {
        u16::from_be(self.tci_be) & 0x0fff
    }

    /// The same tag with another priority.
    #[inline(always)]
    pub const fn with_priority(self, priority: u8) -> Self {
        Self {
            tci_be: (self.vid() | (priority as u16) << Self::PRIORITY_SHIFT).to_be(),
            ..self
        }
    }
}

/// Where a destination is, and how its frames look on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownstreamValue {
    pub generation: u64,
    /// The subscriber's MAC address.
    pub mac: MacWord,
    /// The line's port.
    pub ifindex: u32,
    pub slot: Slot,
    /// The outer of two tags.
    pub outer: WireTag,
    /// The only or the inner tag.
    pub inner: WireTag,
    /// Largest IP packet on the line, in bytes; larger ones go to the kernel.
    pub mtu: u16,
    /// Bits of [`crate::flag`].
    pub flags: u16,
    pub pad: u32,
}
shared!(DownstreamValue, 40);

impl DownstreamValue {
    /// The line that the session is on.
    pub const fn line(&self) -> LineKey {
        LineKey {
            ifindex: self.ifindex,
            s_vid: self.outer.vid(),
            c_vid: self.inner.vid(),
        }
    }
}
