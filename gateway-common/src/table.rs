//! Hash tables of rows, each in one array map that the daemon has in its memory: the sessions', and
//! the uplinks'.
//!
//! A row with all that a packet needs lies in one cache line, at a place that follows from the
//! address alone: a packet waits for memory once, where the kernel's own hash map has it wait for
//! its bucket, for the element, and for what follows from that. The first cells are buckets; rows that
//! do not find theirs free lie behind them, chained from it.
//!
//! Addresses of a pool lie in a row, so no two of them want the same bucket as long as the pool is
//! not larger than the table; the parts of larger or further pools are laid over each other at
//! random.
//!
//! The daemon alone writes. It fills a cell before it links it, and uses it anew only when no
//! program that could have found it still runs; so programs see whole rows.

use core::cell::UnsafeCell;

use crate::LineKey;
use crate::downstream::{DownstreamV4Key, DownstreamV6Key};
use crate::operator::{MAX_OPERATORS, UplinkKey};
use crate::upstream::{UpstreamV4Key, UpstreamV6Key};
use crate::word::Word;

/// Rows that may share a bucket. With as many rows as buckets, at random, one in 10¹⁰ buckets
/// would need more. The verifier follows each look, so more would cost time at each start.
pub const MAX_CHAIN: u32 = 12;

/// Where rows lie in the sessions' tables of a gateway, or in [`Layout::UPLINKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of a bucket's number.
    pub bits: u32,
    pub delegated_len: u32,
}

impl Layout {
    /// Of `UPLINKS`. With so much room that hardly two share a bucket.
    pub const UPLINKS: Self = Self::new(0, UPLINK_ROWS);

    /// For delegated prefixes of that length and at most that many rows.
    pub const fn new(delegated_len: u8, rows: u32) -> Self {
        Self {
            bits: rows.next_power_of_two().trailing_zeros(),
            delegated_len: delegated_len as u32,
        }
    }

    /// The buckets are the cells below this.
    #[inline(always)]
    pub const fn buckets(self) -> u32 {
        1 << self.bits
    }

    /// The bucket of a key's row.
    #[inline(always)]
    pub fn bucket<K: Key>(self, key: &K) -> u32 {
        bucket(key.number(self.delegated_len), self.bits)
    }
}

/// Cells of a table for that many rows.
///
/// As many as buckets, and as many again as are needed when all rows are of four pools of one size
/// whose buckets are the same. At random it takes half of these.
pub const fn cells(rows: u32) -> u32 {
    rows.next_power_of_two() + rows - rows / 4
}

const UPLINK_ROWS: u32 = 4 * MAX_OPERATORS;

/// Cells of `UPLINKS`.
pub const UPLINK_CELLS: u32 = cells(UPLINK_ROWS);

/// `number` counts the addresses of a pool one by one.
#[inline(always)]
const fn bucket(number: u64, bits: u32) -> u32 {
    // The golden ratio of 2⁶⁴ (Knuth, The Art of Computer Programming, volume 3, 6.4).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let block = number >> bits;
    let offset = block.wrapping_mul(SPREAD) >> 32;
    ((number ^ offset) & ((1 << bits) - 1)) as u32
}

/// A table's key.
pub trait Key: Copy {
    /// Counts the addresses of a pool one by one.
    fn number(&self, delegated_len: u32) -> u64;

    /// Zero if both are the same. Without a branch: the verifier follows each.
    fn difference(&self, other: &Self) -> u64;
}

impl Key for UpstreamV4Key {
    #[inline(always)]
    fn number(&self, _: u32) -> u64 {
        u32::from_be_bytes(self.source_be).into()
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u64 {
        lines(&self.line, &other.line) | addresses(self.source_be, other.source_be)
    }
}

impl Key for DownstreamV4Key {
    #[inline(always)]
    fn number(&self, _: u32) -> u64 {
        u32::from_be_bytes(self.destination_be).into()
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u64 {
        u64::from(self.operator ^ other.operator)
            | addresses(self.destination_be, other.destination_be)
    }
}

impl Key for UpstreamV6Key {
    #[inline(always)]
    fn number(&self, delegated_len: u32) -> u64 {
        prefix_number(self.prefix_be, delegated_len)
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u64 {
        lines(&self.line, &other.line) | prefixes(self.prefix_be, other.prefix_be)
    }
}

impl Key for DownstreamV6Key {
    #[inline(always)]
    fn number(&self, delegated_len: u32) -> u64 {
        prefix_number(self.prefix_be, delegated_len)
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u64 {
        u64::from(self.operator ^ other.operator) | prefixes(self.prefix_be, other.prefix_be)
    }
}

impl Key for UplinkKey {
    #[inline(always)]
    fn number(&self, _: u32) -> u64 {
        u64::from(self.ifindex) << 12 | u64::from(self.vid)
    }

    #[inline(always)]
    fn difference(&self, other: &Self) -> u64 {
        u64::from(self.ifindex ^ other.ifindex) | u64::from(self.vid ^ other.vid)
    }
}

#[inline(always)]
fn lines(one: &LineKey, other: &LineKey) -> u64 {
    u64::from(one.ifindex ^ other.ifindex)
        | u64::from(one.s_vid ^ other.s_vid)
        | u64::from(one.c_vid ^ other.c_vid)
}

#[inline(always)]
fn addresses(one: [u8; 4], other: [u8; 4]) -> u64 {
    (u32::from_ne_bytes(one) ^ u32::from_ne_bytes(other)).into()
}

#[inline(always)]
fn prefixes(one: [u8; 8], other: [u8; 8]) -> u64 {
    u64::from_ne_bytes(one) ^ u64::from_ne_bytes(other)
}

/// Delegated prefixes one by one; what is below them, in a line's own /64, counts in larger steps. In
/// ones that still reach the bucket: the uppermost bits of a number are lost when its block is spread.
#[inline(always)]
fn prefix_number(prefix_be: [u8; 8], delegated_len: u32) -> u64 {
    let prefix = u64::from_be_bytes(prefix_be);
    // At the upper end; all of it where there is nothing below.
    let below = prefix.wrapping_shl(delegated_len);
    (below | prefix.wrapping_shr(64 - delegated_len)) ^ below >> 24
}

/// A row.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Row<K, V> {
    pub value: V,
    pub key: K,
}

/// A place for a row.
#[repr(C, align(64))]
pub struct Cell<K, V> {
    /// Lower half: the next cell of the chain, 0: none. Upper half: whether there is a row here.
    link: Word,
    row: UnsafeCell<Row<K, V>>,
}

// SAFETY: the row is written only while no program can find it.
unsafe impl<K: Sync, V: Sync> Sync for Cell<K, V> {}

const USED: u64 = 1 << 32;

impl<K: Key, V> Cell<K, V> {
    const ONE_CACHE_LINE: () = assert!(size_of::<Self>() == 64);

    /// The value, if this is the row with that key; otherwise where to look next.
    #[inline(always)]
    fn look(&self, key: &K) -> Result<&V, u32> {
        const { Self::ONE_CACHE_LINE };
        let link = self.link.get();
        // SAFETY: not written as long as a program runs that could find it.
        let row = unsafe { &*self.row.get() };
        if row.key.difference(key) | (link & USED ^ USED) == 0 {
            return Ok(&row.value);
        }
        Err(link as u32)
    }
}

/// A table, as a program or the daemon has it.
pub trait Table<'t, K: Key + 't, V: 't>: Copy {
    fn cell(self, index: u32) -> Option<&'t Cell<K, V>>;

    /// The value of that key, whose bucket is known. Where it is not in its bucket takes a call.
    #[inline(always)]
    fn find(self, bucket: u32, key: &K) -> Option<&'t V> {
        match self.cell(bucket)?.look(key) {
            Ok(value) => Some(value),
            Err(0) => None,
            Err(next) => further(self, next, key),
        }
    }

    /// The value of that key, at a cell of its chain or behind it.
    #[inline(always)]
    fn search(self, mut at: u32, key: &K) -> Option<&'t V> {
        let mut looks = 0;
        while looks < MAX_CHAIN {
            match self.cell(at)?.look(key) {
                Ok(value) => return Some(value),
                Err(0) => return None,
                Err(next) => at = next,
            }
            looks += 1;
        }
        None
    }
}

#[inline(never)]
fn further<'t, K: Key + 't, V: 't, T: Table<'t, K, V>>(
    table: T,
    at: u32,
    key: &K,
) -> Option<&'t V> {
    table.search(at, key)
}

/// What the daemon does with a cell.
#[cfg(not(target_arch = "bpf"))]
impl<K: Key, V: Copy> Cell<K, V> {
    pub fn is_used(&self) -> bool {
        self.link.get() & USED != 0
    }

    /// The next cell of the chain; 0: none.
    pub fn next(&self) -> u32 {
        self.link.get() as u32
    }

    /// Whatever lies here, used or not.
    pub fn row(&self) -> Row<K, V> {
        // SAFETY: this thread alone writes it.
        unsafe { *self.row.get() }
    }

    /// Fills a cell.
    ///
    /// # Safety
    /// It is not used, no program can find it any more, and no other thread writes it.
    pub unsafe fn fill(&self, row: Row<K, V>) {
        // SAFETY: as the caller promises.
        unsafe { self.row.get().write(row) };
    }

    /// Says whether there is a row here, and what comes next. What was written before is seen by
    /// whoever sees this.
    pub fn set(&self, used: bool, next: u32) {
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        self.link.set(u64::from(next) | if used { USED } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;
    use crate::{LineKey, account, garden};

    #[test]
    fn a_pool_has_a_bucket_for_each_address() {
        for (start, addresses) in [(0x0a00_0000u32, 1 << 12), (0x6440_0000, 1 << 12)] {
            let buckets: BTreeSet<_> = (start..start + addresses)
                .map(|address| bucket(address.into(), 12))
                .collect();
            assert_eq!(buckets.len(), 1 << 12);
        }
        // 2001:db8:40::/44 in prefixes of 56 bits.
        let prefixes = (0u64..1 << 12).map(|home| 0x2001_0db8_0040_0000 | home << 8);
        let keys = prefixes.map(|prefix| UpstreamV6Key {
            line: LineKey::default(),
            prefix_be: prefix.to_be_bytes(),
        });
        let layout = Layout::new(56, 1 << 12);
        let buckets: BTreeSet<_> = keys.map(|key| layout.bucket(&key)).collect();
        assert_eq!(buckets.len(), 1 << 12);
    }

    /// A cell more for each session, as with `line_prefixes`.
    #[test]
    fn prefixes_of_lines_find_room_beside_the_delegated_ones() {
        for (sessions, delegated_len) in [
            (1 << 10, 56),
            (1 << 12, 56),
            (100_000, 56),
            (65_536, 48),
            (5_000, 64),
        ] {
            let rows = account::rows(sessions);
            let layout = Layout::new(delegated_len, rows);
            let below = 64 - u32::from(delegated_len);
            let mut load = std::vec![0u32; layout.buckets() as usize];
            let mut put = |prefix: u64| {
                let key = DownstreamV6Key {
                    prefix_be: prefix.to_be_bytes(),
                    ..DownstreamV6Key::default()
                };
                load[layout.bucket(&key) as usize] += 1;
            };
            // 2001:db8::/32 in delegated prefixes.
            (0..u64::from(sessions)).for_each(|home| put((0x2001_0db8 << 32) + (home << below)));
            // The others in /64s, those of sessions and of leases, without the first of each.
            for (pool, count) in [(0x3001_0db8, sessions), (0xfd00_0db8, garden::MAX_LEASES)] {
                let lines = (0u64..).filter(|line| below == 0 || line % (1 << below) != 0);
                lines
                    .take(count as usize)
                    .for_each(|line| put((pool << 32) + line));
            }
            let most = load.iter().max().expect("some");
            assert!(*most < MAX_CHAIN, "{sessions} {delegated_len}: {most}");
            let behind: u32 = load.iter().map(|rows| rows.saturating_sub(1)).sum();
            let spare = cells(rows) - layout.buckets() + sessions;
            assert!(
                behind <= spare,
                "{sessions} {delegated_len}: {behind} of {spare}"
            );
        }
    }

    #[test]
    fn pools_with_the_same_end_do_not_pile_up() {
        let mut load = [0u32; 1 << 12];
        for pool in 0..16u64 {
            for address in 0..1u64 << 8 {
                load[bucket((10 << 24) + (pool << 16) + address, 12) as usize] += 1;
            }
        }
        let most = load.iter().max().expect("some");
        assert!(*most < MAX_CHAIN / 2, "{most}");
    }
}
