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
    /// A [`Rate`], in its [packed](Rate::packed) form.
    pub rate: Word,
}

/// Both directions of a session.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Policers {
    pub upstream: Policer,
    pub downstream: Policer,
}

/// Two sessions in a cache line.
const _: () = assert!(size_of::<Policers>() == 32);

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
    /// What one grant costs.
    pub grant_ns: u64,
    /// Bytes of one grant, a whole number of KiB; 0: no rate is set.
    pub grant_bytes: u64,
    /// How far the moment may lag behind the clock (policer), or be ahead of it (shaper); a multiple of
    /// 65,536.
    pub depth_ns: u64,
}

/// Bits of a grant's time in the packed form: up to 68 s.
const GRANT_NS_BITS: u32 = 36;
/// Bits of the depth, in its unit: up to 137 s. The KiB of a grant are above.
const DEPTH_BITS: u32 = 21;
const DEPTH_UNIT_BITS: u32 = 16;
const KIB_BITS: u32 = 10;

/// The value, or the highest one that so many bits hold.
const fn fit(value: u64, bits: u32) -> u64 {
    if value > low(bits) { low(bits) } else { value }
}

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl Rate {
    /// A grant holds at least one packet of any length that a line may have (9,000 bytes), and no
    /// more than lets two CPUs keep to a rate within a percent or two.
    const MIN_GRANT: u64 = 9_216;
    const MAX_GRANT: u64 = 65_536;

    /// A rate below this is kept as this: one grant, and so one packet, takes a minute of it.
    pub const SLOWEST_BPS: u64 = 1_100;

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
        let bps = if bps < Self::SLOWEST_BPS {
            Self::SLOWEST_BPS
        } else {
            bps
        };
        // A millisecond's worth.
        let bytes = (bps / 8_000).next_multiple_of(1 << KIB_BITS);
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
        let depth_ns = if burst_ns < least { least } else { burst_ns };
        let depth = fit(depth_ns.div_ceil(1 << DEPTH_UNIT_BITS), DEPTH_BITS);
        Self {
            grant_ns,
            grant_bytes,
            depth_ns: depth << DEPTH_UNIT_BITS,
        }
    }

    /// In one word, so that whoever reads it has all of one rate. Times that are too long for it become
    /// the longest ones that are not.
    pub const fn packed(self) -> u64 {
        let kib = fit(
            self.grant_bytes >> KIB_BITS,
            64 - GRANT_NS_BITS - DEPTH_BITS,
        );
        let depth = fit(self.depth_ns >> DEPTH_UNIT_BITS, DEPTH_BITS);
        let grant_ns = fit(self.grant_ns, GRANT_NS_BITS);
        kib << (GRANT_NS_BITS + DEPTH_BITS) | depth << GRANT_NS_BITS | grant_ns
    }

    /// From that word.
    #[inline(always)]
    pub const fn unpacked(word: u64) -> Self {
        Self {
            grant_ns: word & low(GRANT_NS_BITS),
            grant_bytes: word >> (GRANT_NS_BITS + DEPTH_BITS) << KIB_BITS,
            depth_ns: (word >> GRANT_NS_BITS & low(DEPTH_BITS)) << DEPTH_UNIT_BITS,
        }
    }
}

impl Policer {
    /// Sets the rate, while programs may be using the old one.
    pub fn set(&self, rate: Rate) {
        self.rate.set(rate.packed());
    }

    #[inline(always)]
    pub fn rate(&self) -> Rate {
        Rate::unpacked(self.rate.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[test]
    fn a_rate_fits_into_a_word_and_is_what_it_was() {
        assert_eq!(Rate::new(0, 20 * MILLISECOND).packed(), 0);
        let speeds = [1, Rate::SLOWEST_BPS, 64_000, 20_000_000, 300_123_457];
        for bps in speeds.into_iter().chain([10_000_000_000, u64::MAX / 8]) {
            for burst_ns in [0, 10 * MILLISECOND, 50 * MILLISECOND, u64::MAX / 2] {
                let rate = Rate::new(bps, burst_ns);
                assert_eq!(Rate::unpacked(rate.packed()), rate, "{bps} {burst_ns}");
                assert!(rate.depth_ns >= 2 * rate.grant_ns, "{rate:?}");
            }
        }
    }

    #[test]
    fn grants_and_bursts_are_rounded_and_speeds_are_not() {
        for bps in [2_000_000, 81_234_567, 300_000_000, 1_000_000_000] {
            let rate = Rate::new(bps, 20 * MILLISECOND);
            let kept = rate.grant_bytes as u128 * 8 * 1_000_000_000 / rate.grant_ns as u128;
            assert!(kept.abs_diff(bps.into()) <= bps as u128 / 10_000, "{kept}");
            assert!((9_216..=65_536).contains(&rate.grant_bytes));
            let late = rate.depth_ns - (20 * MILLISECOND).max(2 * rate.grant_ns);
            assert!(late < 65_536, "{late}");
        }
    }
}
