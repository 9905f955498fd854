//! `POLICERS`: how fast each session may be, both ways. Mapped into user space's memory, as
//! `ACCOUNTS` is; element `slot`.
//!
//! A rate is kept as a time (the generic cell rate algorithm, ITU-T I.371): `spent_until_ns` is the
//! moment up to which the rate has been used. A CPU takes a *grant* of bytes at a time, which moves
//! that moment by `grant_ns`, and spends it without looking at the clock or at other CPUs.

use crate::{Direction, Word};

/// One direction of a session.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Policer {
    /// Written by the programs. In the clock of `bpf_ktime_get_ns`.
    pub spent_until_ns: Word,
    /// What one grant costs.
    pub grant_ns: Word,
    /// Bytes of one grant; 0: no rate is set.
    pub grant_bytes: Word,
    /// How far the moment may lag behind the clock (policer), or be ahead of it (shaper).
    pub depth_ns: Word,
}

/// Both directions of a session.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Policers {
    pub upstream: Policer,
    pub downstream: Policer,
}

const _: () = assert!(size_of::<Policers>() == 64);

impl Policers {
    #[inline(always)]
    pub fn policer(&self, direction: Direction) -> &Policer {
        match direction {
            Direction::Upstream => &self.upstream,
            Direction::Downstream => &self.downstream,
        }
    }
}

/// A rate as a policer keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub grant_ns: u64,
    pub grant_bytes: u64,
    pub depth_ns: u64,
}

impl Rate {
    /// A grant holds at least one packet of any length that a line may have (9,000 bytes), and no
    /// more than lets two CPUs keep to a rate within a percent or two.
    const MIN_GRANT: u64 = 9_216;
    const MAX_GRANT: u64 = 65_536;

    const SECOND_NS: u64 = 1_000_000_000;

    /// That many bits per second, with that much time's worth of a burst.
    pub const fn new(bps: u64, burst_ns: u64) -> Self {
        if bps == 0 {
            return Self {
                grant_ns: 0,
                grant_bytes: 0,
                depth_ns: 0,
            };
        }
        // A millisecond's worth.
        let bytes = bps / 8_000;
        let grant_bytes = if bytes < Self::MIN_GRANT {
            Self::MIN_GRANT
        } else if bytes > Self::MAX_GRANT {
            Self::MAX_GRANT
        } else {
            bytes
        };
        let grant_ns = (grant_bytes as u128 * 8 * Self::SECOND_NS as u128 / bps as u128) as u64;
        // One grant less than the burst is no burst.
        let least = 2 * grant_ns;
        Self {
            grant_ns,
            grant_bytes,
            depth_ns: if burst_ns < least { least } else { burst_ns },
        }
    }
}

impl Policer {
    /// Sets the rate, while programs may be using the old one.
    pub fn set(&self, rate: Rate) {
        self.depth_ns.set(rate.depth_ns);
        self.grant_ns.set(rate.grant_ns);
        self.grant_bytes.set(rate.grant_bytes);
    }

    pub fn rate(&self) -> Rate {
        Rate {
            grant_ns: self.grant_ns.get(),
            grant_bytes: self.grant_bytes.get(),
            depth_ns: self.depth_ns.get(),
        }
    }
}
