//! `LIMITS`, `LIMIT_ALL`: how often a line, and all lines together, may ask for work to be done.

use crate::{Word, shared};

/// Lines whose use is remembered; the longest unused is forgotten.
pub const MAX_LINES: u32 = 65_536;

/// What a line has used, each as in [`crate::policer::Policer::spent_until_ns`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct LineUse {
    /// Frames for the daemon.
    pub punts: Word,
    /// Frames answered by the programs: ARP, neighbour discovery.
    pub answers: Word,
}

const _: () = assert!(size_of::<LineUse>() == 16);

/// A rate of events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Between two events in the long run; 0: no limit.
    pub every_ns: u64,
    /// How much may be made up for at once.
    pub depth_ns: u64,
}
shared!(Pace, 16);

impl Pace {
    /// That many events each second, and at most that many at once.
    pub const fn per_second(events: u32, burst: u32) -> Self {
        if events == 0 {
            return Self {
                every_ns: 0,
                depth_ns: 0,
            };
        }
        let every_ns = 1_000_000_000 / events as u64;
        Self {
            every_ns,
            depth_ns: every_ns * burst as u64,
        }
    }
}
