//! What is special about a session, in the values of the upstream and downstream maps.
//!
//! A packet of a session without any of these bits takes the shortest way.

/// Its line is blocked: everything is dropped.
pub const BLOCKED: u16 = 1 << 0;
/// It is a line's way to the garden: only the operator's garden is reached.
pub const GARDEN: u16 = 1 << 1;
/// Its direction has a rate in `POLICERS`.
pub const POLICED: u16 = 1 << 2;
/// Packets to the subscriber are paced by the kernel (downstream only).
pub const SHAPED: u16 = 1 << 3;
/// The priority of its frames is that of the packet's DSCP (RFC 2474).
pub const PRIORITY_FROM_DSCP: u16 = 1 << 4;
/// The MSS of TCP connections is clamped to what fits the path.
pub const CLAMP_MSS: u16 = 1 << 5;

/// The session's priority (PCP), in the upper three bits; upstream only.
pub const PRIORITY_SHIFT: u32 = 13;

const NAMES: [(u16, &str); 6] = [
    (BLOCKED, "blocked"),
    (GARDEN, "garden"),
    (POLICED, "policed"),
    (SHAPED, "shaped"),
    (PRIORITY_FROM_DSCP, "priority_from_dscp"),
    (CLAMP_MSS, "clamp_mss"),
];

/// The names of the bits that are set, the priority's not.
pub fn names(flags: u16) -> impl Iterator<Item = &'static str> {
    let set = NAMES.into_iter().filter(move |(bit, _)| flags & bit != 0);
    set.map(|(_, name)| name)
}
