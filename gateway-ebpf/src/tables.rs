//! The maps as the deciding code sees them.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::maps::Array;
use core::arch::asm;
use core::hint::black_box;
use doorstep_datapath::Tables;
use doorstep_gateway_common::account::Account;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::LineUse;
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::table::{Cell, Key, Layout, Table};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Slot, Word};

use crate::maps;

/// `NEAR`: rows for homes are looked for in place, which is faster, and takes more of the stack.
pub struct KernelTables<const NEAR: bool>;

/// For a program that looks for one home.
pub const TO_HOMES: KernelTables<true> = KernelTables;
/// For all else.
pub const TABLES: KernelTables<false> = KernelTables;

/// Looks a key up in a hash map.
macro_rules! get {
    ($map:ident, $key:expr) => {
        // SAFETY: the value lives until the program ends (RCU). The daemon, the only writer, waits
        // after removals before it inserts, so that an element is not used anew under a reader.
        unsafe { maps::$map.get($key) }
    };
}

/// A table of rows.
struct Cells<K: 'static, V: 'static>(&'static Array<Cell<K, V>>);

impl<K, V> Clone for Cells<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Cells<K, V> {}

impl<K: Key, V> Table<'static, K, V> for Cells<K, V> {
    #[inline(always)]
    fn cell(self, index: u32) -> Option<&'static Cell<K, V>> {
        self.0.get(index)
    }
}

/// Finds a session's row.
#[inline(always)]
fn find<K: Key, V>(map: &'static Array<Cell<K, V>>, key: &K) -> Option<&'static V> {
    Cells(map).find(bucket(key), key)
}

/// As [`find`], where it is to take little of the stack.
#[inline(never)]
fn find_apart<K: Key, V>(map: &'static Array<Cell<K, V>>, key: &K) -> Option<&'static V> {
    Cells(map).search(bucket(key), key)
}

/// Most likely the session's slot has the number of its bucket: then its account is already on its
/// way from memory while the row is.
#[inline(always)]
fn bucket<K: Key>(key: &K) -> u32 {
    let bucket = maps::globals().tables().bucket(key);
    if let Some(account) = TABLES.account(bucket) {
        let _ = black_box(account.upstream.packets.get());
    }
    bucket
}

impl<const NEAR: bool> Tables for KernelTables<NEAR> {
    #[inline(always)]
    fn globals(&self) -> &Globals {
        maps::globals()
    }

    #[inline(always)]
    fn line(&self, key: &LineKey) -> Option<&LineValue> {
        get!(LINES, key)
    }

    #[inline(always)]
    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue> {
        find(&maps::UPSTREAM_V4, key)
    }

    #[inline(always)]
    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue> {
        find_apart(&maps::UPSTREAM_V6, key)
    }

    #[inline(always)]
    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue> {
        match NEAR {
            true => find(&maps::DOWNSTREAM_V4, key),
            false => find_apart(&maps::DOWNSTREAM_V4, key),
        }
    }

    #[inline(always)]
    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue> {
        match NEAR {
            true => find(&maps::DOWNSTREAM_V6, key),
            false => find_apart(&maps::DOWNSTREAM_V6, key),
        }
    }

    #[inline(always)]
    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue> {
        maps::OPERATORS.get(u32::from(index))
    }

    #[inline(always)]
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue> {
        Cells(&maps::UPLINKS).find(Layout::UPLINKS.bucket(key), key)
    }

    #[inline(always)]
    fn is_in_garden(&self, key: &GardenKey) -> bool {
        get!(GARDEN, key).is_some()
    }

    #[inline(always)]
    fn account(&self, slot: Slot) -> Option<&Account> {
        // SAFETY: a plain helper call.
        let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
        maps::ACCOUNTS.get(cpu * maps::globals().tables().buckets() + slot)
    }

    #[inline(always)]
    fn policers(&self, slot: Slot) -> Option<&Policers> {
        maps::POLICERS.get(slot)
    }

    #[inline(always)]
    fn liveness(&self, slot: Slot) -> Option<&Liveness> {
        maps::LIVENESS.get(slot)
    }

    #[inline(always)]
    fn line_use(&self, key: &LineKey) -> Option<&LineUse> {
        if let Some(line_use) = get!(LIMITS, key) {
            return Some(line_use);
        }
        // Another CPU may have been faster: either is as good.
        let _ = maps::LIMITS.insert(key, &maps::FRESH, BPF_NOEXIST.into());
        get!(LIMITS, key)
    }

    #[inline(always)]
    fn punts(&self) -> Option<&Word> {
        maps::LIMIT_ALL.get(0)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: a plain helper call.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn swap(&self, cell: &Word, old: u64, new: u64) -> bool {
        let found: u64;
        // SAFETY: the cell is shared memory of a map, valid for as long as it is borrowed.
        unsafe {
            asm!(
                "r0 = cmpxchg_64({cell} + 0, r0, {new})",
                cell = in(reg) cell.as_ptr(),
                new = in(reg) new,
                inlateout("r0") old => found,
            );
        }
        found == old
    }
}
