//! The maps. Sizes that depend on the configuration are set by the loader.

use core::cell::UnsafeCell;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use doorstep_gateway_common::account::Account;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::{LineUse, MAX_LINES, Pace};
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::operator::{MAX_OPERATORS, OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::reason::MAX_REASONS;
use doorstep_gateway_common::table::{Cell, UPLINK_CELLS};
use doorstep_gateway_common::trace::{MAX_FILTERS, TraceFilter, TraceScratch};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, MacWord, Word, garden, punt, trace};

use crate::layouts::Layouts;

#[map]
pub static UPSTREAM_V4: Array<Cell<UpstreamV4Key, UpstreamValue>> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static UPSTREAM_V6: Array<Cell<UpstreamV6Key, UpstreamValue>> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static DOWNSTREAM_V4: Array<Cell<DownstreamV4Key, DownstreamValue>> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static DOWNSTREAM_V6: Array<Cell<DownstreamV6Key, DownstreamValue>> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static LINES: HashMap<LineKey, LineValue> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static OPERATORS: Array<OperatorValue> = Array::with_max_entries(MAX_OPERATORS, 0);
#[map]
pub static UPLINKS: Array<Cell<UplinkKey, UplinkValue>> =
    Array::with_max_entries(UPLINK_CELLS, BPF_F_MMAPABLE);
#[map]
pub static GARDEN: HashMap<GardenKey, u32> = HashMap::with_max_entries(garden::MAX_ENTRIES, 0);
#[map]
pub static ACCOUNTS: Array<Account> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static POLICERS: Array<Policers> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static LIVENESS: Array<Liveness> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_REASONS, 0);
#[map]
pub static LIMITS: LruHashMap<LineKey, LineUse> = LruHashMap::with_max_entries(MAX_LINES, 0);
#[map]
pub static LIMIT_ALL: Array<Word> = Array::with_max_entries(1, 0);
#[map]
pub static PUNT: RingBuf = RingBuf::with_byte_size(punt::RING_BYTES, 0);
#[map]
pub static TRACE: RingBuf = RingBuf::with_byte_size(trace::RING_BYTES, 0);
#[map]
pub static TRACE_FILTERS: Array<TraceFilter> = Array::with_max_entries(MAX_FILTERS, 0);
#[map]
pub static TRACE_SCRATCH: PerCpuArray<TraceScratch> = PerCpuArray::with_max_entries(1, 0);

/// Set by the loader, before the kernel takes it for constant.
#[repr(C)]
struct Constants {
    globals: UnsafeCell<Globals>,
    layouts: Layouts,
}

// SAFETY: nobody writes it any more once programs run.
unsafe impl Sync for Constants {}

/// In the section of constants, but not a constant to the compiler, which must not reckon with the
/// zeros that it sees here.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static GLOBALS: Constants = Constants {
    globals: UnsafeCell::new(Globals {
        delegated_mask_be: [0; 8],
        gateway_mac: MacWord::new([0; 6]),
        table_bits: 0,
        delegated_len: 0,
        default_operator: 0,
        flags: 0,
        punt_line: NO_PACE,
        punt_all: NO_PACE,
        answer_line: NO_PACE,
    }),
    layouts: Layouts::new(),
};

/// What a line begins with. Not on the stack, which is small.
#[unsafe(link_section = ".rodata")]
pub static FRESH: LineUse = LineUse {
    punts: Word::new(0),
    answers: Word::new(0),
};

const NO_PACE: Pace = Pace::per_second(0, 0);

/// The constants of this boot.
#[inline(always)]
pub fn globals() -> &'static Globals {
    // SAFETY: nobody writes it any more.
    unsafe { &*GLOBALS.globals.get() }
}
