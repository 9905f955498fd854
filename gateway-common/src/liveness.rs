//! `LIVENESS`: which terminal may ask whether its session is alive here, and when it last has.
//! Mapped into user space's memory, as `ACCOUNTS` is; element `slot`.
//!
//! Programs answer without the daemon, so that a daemon that starts again is not taken for a gateway
//! that is gone. `docs/adr/0025-liveness-by-probes.md` has the reasons.

use crate::{LineKey, Word};

/// The record of one slot. Two are a cache line.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Liveness {
    /// Key of SipHash-2-4, in two words.
    pub key: [Word; 2],
    /// [`packed`]; 0: nobody may ask.
    pub line: Word,
    /// The highest sequence number that has come, in the upper half, and in the lower one when it came, in
    /// the clock of `bpf_ktime_get_ns`, in units of 2²⁷ ns; 0: none. Written by the programs.
    pub heard: Word,
}

/// An eighth of a second is enough for a silence of seconds, and the half of a word lasts for 18 years.
const MOMENT_BITS: u32 = 27;

#[inline(always)]
const fn moment(ns: u64) -> u32 {
    (ns >> MOMENT_BITS) as u32
}

const _: () = assert!(size_of::<Liveness>() == 32);

/// A line in one word. None is 0, since no interface has the index 0.
#[inline(always)]
pub const fn packed(line: &LineKey) -> u64 {
    (line.ifindex as u64) << 32 | (line.s_vid as u64) << 16 | line.c_vid as u64
}

impl Liveness {
    /// Lets the terminal with that key ask on that line. Done again, it changes nothing. Programs may
    /// be reading the while: none takes the one session's key for another's line.
    pub fn expect(&self, line: &LineKey, key: [u64; 2]) {
        let line = packed(line);
        let same = self.line.get() == line && self.key[0].get() == key[0];
        if same && self.key[1].get() == key[1] {
            return;
        }
        self.forget();
        self.key[0].set(key[0]);
        self.key[1].set(key[1]);
        self.line.set(line);
    }

    /// Nobody may ask any more.
    pub fn forget(&self) {
        self.line.set(0);
        for word in &self.key {
            word.set(0);
        }
        self.heard.set(0);
    }

    /// The highest sequence number that has come; 0: none.
    #[inline(always)]
    pub fn sequence(&self) -> u32 {
        (self.heard.get() >> 32) as u32
    }

    /// Notes that a number has come.
    #[inline(always)]
    pub fn hear(&self, sequence: u32, now_ns: u64) {
        self.heard
            .set(u64::from(sequence) << 32 | u64::from(moment(now_ns)));
    }

    /// For how long nothing has come, at the least; none where nobody may ask, or has.
    pub fn silent_ns(&self, now_ns: u64) -> Option<u64> {
        let heard = self.heard.get();
        if self.line.get() == 0 || heard == 0 {
            return None;
        }
        let moments = moment(now_ns).wrapping_sub(heard as u32);
        // The clock may have been read before.
        let moments = match moments > u32::MAX / 2 {
            true => 0,
            false => moments.saturating_sub(1),
        };
        Some(u64::from(moments) << MOMENT_BITS)
    }
}
