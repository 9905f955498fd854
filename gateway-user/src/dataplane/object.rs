//! The object with the programs, and its way into the kernel.

use aya::maps::MapType;
use aya::{Ebpf, EbpfLoader, GlobalData};
use doorstep_establish::Mac;
use doorstep_gateway_common::account::{self, Account};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::{self, GardenKey};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::limit::{LineUse, MAX_LINES, Pace};
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::names::{GLOBALS, map};
use doorstep_gateway_common::operator::{MAX_OPERATORS, OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::reason::MAX_REASONS;
use doorstep_gateway_common::table::{self, Cell, Layout};
use doorstep_gateway_common::trace::{self, MAX_FILTERS, TraceFilter};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, MacWord, punt};

use super::DataplaneError;
use super::elf::Object;
use super::pins::{MapShape, Pins};
use crate::config::Config;

/// The object file that this daemon was built with.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GATEWAY_OBJECT"));

/// Establishment replies: a terminal repeats each a few times a second at the most.
const PUNT_LINE: Pace = Pace::per_second(20, 40);
/// What the daemon can keep up with.
const PUNT_ALL: Pace = Pace::per_second(20_000, 4_000);
/// A home's devices ask for addresses of their neighbours; each answer lasts for half a minute.
const ANSWER_LINE: Pace = Pace::per_second(100, 200);

/// Lines that the inventory may name for each session that the gateway may have.
const LINES_PER_SESSION: u32 = 2;

/// Loads the object: maps adopted or made and pinned, programs not yet loaded.
///
/// `flags` are those of [`Globals`].
pub(super) fn load(
    config: &Config,
    gateway_mac: Mac,
    pins: &Pins,
    object: &Object,
    flags: u16,
) -> Result<Ebpf, DataplaneError> {
    load_with_own(config, gateway_mac, pins, object, flags, &[])
}

/// The same, where some maps are not the pinned ones but new.
pub(super) fn load_with_own(
    config: &Config,
    gateway_mac: Mac,
    pins: &Pins,
    object: &Object,
    flags: u16,
    own: &[&str],
) -> Result<Ebpf, DataplaneError> {
    let shapes = shapes(config.into())?;
    object.check(&shapes)?;
    for (name, shape) in shapes {
        pins.check_map(name, shape)?;
    }
    let globals = Globals {
        flags,
        ..globals(config, gateway_mac)
    };
    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBALS, GlobalData::from(&globals), true);
    for (name, shape) in shapes {
        loader.map_max_entries(name, shape.max_entries);
        if !own.contains(&name) {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    Ok(loader.load(object.bytes())?)
}

fn globals(config: &Config, gateway_mac: Mac) -> Globals {
    let default_operator = match config.operators.as_slice() {
        [only] => only.index,
        _ => 0,
    };
    Globals {
        gateway_mac: MacWord::new(gateway_mac.0),
        default_operator,
        punt_line: PUNT_LINE,
        punt_all: PUNT_ALL,
        answer_line: ANSWER_LINE,
        ..Globals::layout(config.delegated_prefix_len, config.max_sessions)
    }
}

/// Where the sessions' rows lie.
pub(super) fn layout(config: &Config) -> Layout {
    Layout::new(
        config.delegated_prefix_len,
        account::rows(config.max_sessions),
    )
}

/// Gives the maps their sizes, for whoever loads the object without pins.
pub fn size_maps(loader: &mut EbpfLoader<'_>, max_sessions: u32) -> Result<(), DataplaneError> {
    let room = Room {
        max_sessions,
        line_prefixes: false,
    };
    for (name, shape) in shapes(room)? {
        loader.map_max_entries(name, shape.max_entries);
    }
    Ok(())
}

/// What the maps are to have room for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub max_sessions: u32,
    /// Sessions may have a /64 of the line's own besides the delegated prefix.
    pub line_prefixes: bool,
}

impl From<&Config> for Room {
    fn from(config: &Config) -> Self {
        Self {
            max_sessions: config.max_sessions,
            line_prefixes: config.line_prefixes,
        }
    }
}

/// What each pinned map must be.
pub(super) fn shapes(
    room: Room,
) -> Result<[(&'static str, MapShape); map::PINNED.len()], DataplaneError> {
    fn shape<K, V>(kind: MapType, max_entries: u32) -> MapShape {
        MapShape {
            kind,
            key_bytes: size_of::<K>() as u32,
            value_bytes: size_of::<V>() as u32,
            max_entries,
        }
    }
    use MapType::{Array, Hash, LruHash, PerCpuArray, RingBuf};
    let Room {
        max_sessions,
        line_prefixes,
    } = room;
    let lines = max_sessions.saturating_mul(LINES_PER_SESSION);
    let slots = account::slots(max_sessions);
    let cells = table::cells(account::rows(max_sessions));
    // The buckets stay the same, with a slot each. So every second row may lie behind its bucket.
    let cells_v6 = cells + if line_prefixes { max_sessions } else { 0 };
    let accounts = slots.saturating_mul(cpus()?);
    Ok([
        (
            map::UPSTREAM_V4,
            shape::<u32, Cell<UpstreamV4Key, UpstreamValue>>(Array, cells),
        ),
        (
            map::UPSTREAM_V6,
            shape::<u32, Cell<UpstreamV6Key, UpstreamValue>>(Array, cells_v6),
        ),
        (
            map::DOWNSTREAM_V4,
            shape::<u32, Cell<DownstreamV4Key, DownstreamValue>>(Array, cells),
        ),
        (
            map::DOWNSTREAM_V6,
            shape::<u32, Cell<DownstreamV6Key, DownstreamValue>>(Array, cells_v6),
        ),
        (map::LINES, shape::<LineKey, LineValue>(Hash, lines)),
        (
            map::OPERATORS,
            shape::<u32, OperatorValue>(Array, MAX_OPERATORS),
        ),
        (
            map::UPLINKS,
            shape::<u32, Cell<UplinkKey, UplinkValue>>(Array, table::UPLINK_CELLS),
        ),
        (
            map::GARDEN,
            shape::<GardenKey, u32>(Hash, garden::MAX_ENTRIES),
        ),
        (map::ACCOUNTS, shape::<u32, Account>(Array, accounts)),
        (map::POLICERS, shape::<u32, Policers>(Array, slots)),
        (map::LIVENESS, shape::<u32, Liveness>(Array, slots)),
        (map::REASONS, shape::<u32, u64>(PerCpuArray, MAX_REASONS)),
        (map::LIMITS, shape::<LineKey, LineUse>(LruHash, MAX_LINES)),
        (map::LIMIT_ALL, shape::<u32, u64>(Array, 1)),
        (map::PUNT, shape::<(), ()>(RingBuf, punt::RING_BYTES)),
        (map::TRACE, shape::<(), ()>(RingBuf, trace::RING_BYTES)),
        (
            map::TRACE_FILTERS,
            shape::<u32, TraceFilter>(Array, MAX_FILTERS),
        ),
    ])
}

/// CPUs that the kernel may ever have.
pub(super) fn cpus() -> Result<u32, DataplaneError> {
    let cpus = aya::util::nr_cpus().map_err(|(file, source)| DataplaneError::Io {
        path: file.into(),
        source,
    })?;
    Ok(u32::try_from(cpus).unwrap_or(u32::MAX))
}
