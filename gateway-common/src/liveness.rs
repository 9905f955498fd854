//! `LIVENESS`: which terminal may ask whether its session is alive here, and when it last has.
//! Mapped into user space's memory, as `ACCOUNTS` is; element `slot`.
//!
//! Programs answer without the daemon, so that a daemon that starts again is not taken for a gateway
//! that is gone. `docs/adr/0025-liveness-by-probes.md` has the reasons.

use crate::{LineKey, Word};

/// The record of one slot. A cache line.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Liveness {
    /// Key of SipHash-2-4, in two words.
    pub key: [Word; 2],
    /// [`packed`]; 0: nobody may ask.
    pub line: Word,
    /// Highest sequence number that has come. Written by the programs.
    pub sequence: Word,
    /// When it came, in the clock of `bpf_ktime_get_ns`; 0: never. Written by the programs.
    pub heard_ns: Word,
    pub pad: [Word; 3],
}

const _: () = assert!(size_of::<Liveness>() == 64);

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
        self.sequence.set(0);
        self.heard_ns.set(0);
    }
}
