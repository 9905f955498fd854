//! What the programs and the benchmark both know: orders to the generator, and who subscriber
//! number `i` is. A file of both crates, so that neither has to build the other's dependencies.

/// What the generator makes, and when it did; it has one order at a time, and runs on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Order {
    /// State of the random numbers.
    pub state: u64,
    /// Destination MAC address, in the low 48 bits.
    pub destination: u64,
    /// Source MAC address, in the low 48 bits, of frames from the world.
    pub source: u64,
    /// Subscribers to choose from, at random.
    pub sessions: u32,
    /// Where the frames leave.
    pub ifindex: u32,
    /// 0: frames as long as the template; otherwise [`MIX`].
    pub mix: u32,
    /// Frames to make.
    pub packets: u32,
    /// Frames that were made; set to 0 before.
    pub made: u32,
    pub pad: u32,
    /// When the first and the last of them were made, nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    pub last_ns: u64,
}

/// Packets and bytes that a sink has seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub packets: u64,
    pub bytes: u64,
}

/// Bytes of a frame whose verdict is timed.
pub const FRAME_LEN: usize = 104;

/// A frame that is put back before each run of the program that is timed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// In memory order.
    pub words: [u64; FRAME_LEN / 8],
}

/// The mix of sizes: of twelve frames seven, four and one, with these lengths in bytes without
/// the frame check sequence (64, 594 and 1518 with it).
pub const MIX: [(u32, u32); 3] = [(7, 60), (4, 590), (1, 1514)];

/// 198.51.100.7, an address in the world.
pub const WORLD: u32 = 0xc633_6407;

/// The subscriber's IPv4 address.
#[inline(always)]
pub const fn address(i: u32) -> u32 {
    // 100.64.0.0
    0x6440_0000 + i
}

/// The subscriber's MAC address.
#[inline(always)]
pub const fn mac(i: u32) -> u64 {
    0x0200_0000_0000 | i as u64
}

/// The subscriber's S-VLAN and C-VLAN.
#[inline(always)]
pub const fn vlans(i: u32) -> (u16, u16) {
    const C_VLANS: u32 = 4000;
    // Division by multiplication, exact below 2²²: the BPF machine would really divide.
    let outer = ((i as u64 * 1_073_742) >> 32) as u32;
    (100 + outer as u16, 2 + (i - outer * C_VLANS) as u16)
}
