//! The maps. Sizes that depend on the configuration are set by the loader.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, RingBuf};
use doorstep_gateway_common::counters::Tally;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::operator::{MAX_OPERATORS, OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::reason::MAX_REASONS;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue};

#[map]
pub static UPSTREAM_V4: HashMap<UpstreamV4Key, UpstreamValue> = HashMap::with_max_entries(1, 0);
#[map]
pub static UPSTREAM_V6: HashMap<UpstreamV6Key, UpstreamValue> = HashMap::with_max_entries(1, 0);
#[map]
pub static DOWNSTREAM_V4: HashMap<DownstreamV4Key, DownstreamValue> =
    HashMap::with_max_entries(1, 0);
#[map]
pub static DOWNSTREAM_V6: HashMap<DownstreamV6Key, DownstreamValue> =
    HashMap::with_max_entries(1, 0);
#[map]
pub static LINES: HashMap<LineKey, LineValue> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static OPERATORS: Array<OperatorValue> = Array::with_max_entries(MAX_OPERATORS, 0);
#[map]
pub static UPLINKS: HashMap<UplinkKey, UplinkValue> = HashMap::with_max_entries(MAX_OPERATORS, 0);
#[map]
pub static COUNTERS: PerCpuArray<Tally> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_REASONS, 0);
#[map]
pub static PUNT: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Set by the loader.
#[unsafe(no_mangle)]
static GLOBALS: Globals = Globals {
    delegated_mask_be: [0; 8],
    gateway_mac: [0; 6],
    default_operator: 0,
};

/// The constants of this boot.
#[inline(always)]
pub fn globals() -> Globals {
    // SAFETY: a live static; volatile because the loader changes what the compiler sees as zero.
    unsafe { core::ptr::read_volatile(&raw const GLOBALS) }
}
