//! `LINES`: the access lines that the inventory names.

use crate::shared;

/// What a location is on the wire: port, S-VLAN, C-VLAN. VLAN id 0 stands for "no such tag";
/// a line with a single tag has it as its C-VLAN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineKey {
    /// The access port.
    pub ifindex: u32,
    /// Outer VLAN id, 0..=4094.
    pub s_vid: u16,
    /// Inner VLAN id, 0..=4094.
    pub c_vid: u16,
}
shared!(LineKey, 8);

/// What the fast path must know of a line, whether or not it has a session.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineValue {
    /// First eight bytes of SHA-256 over the location id's canonical text.
    pub location_hash: u64,
    /// Bits of [`LineValue::BLOCKED`].
    pub flags: u32,
    pub pad: u32,
}
shared!(LineValue, 16);

impl LineValue {
    /// Nothing passes, not even the establishment exchange. Open sessions have
    /// [`crate::flag::BLOCKED`] beside it.
    pub const BLOCKED: u32 = 1 << 0;
}
