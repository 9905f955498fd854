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
