//! The object with the programs, and its way into the kernel.

use aya::maps::MapType;
use aya::{Ebpf, EbpfLoader, GlobalData};
use doorstep_establish::Mac;
use doorstep_gateway_common::counters::{self, Tally};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::names::{GLOBALS, map};
use doorstep_gateway_common::operator::{MAX_OPERATORS, OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::reason::MAX_REASONS;
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue};

use super::DataplaneError;
use super::pins::{MapShape, Pins};
use crate::config::Config;

/// The object file that this daemon was built with.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("GATEWAY_OBJECT"));

/// Bytes of the punt ring, as in the object.
const PUNT_BYTES: u32 = 256 * 1024;

/// Lines that the inventory may name for each session that the gateway may have.
const LINES_PER_SESSION: u32 = 2;

/// Loads the object: maps adopted or made and pinned, programs not yet loaded.
pub(super) fn load(config: &Config, gateway_mac: Mac, pins: &Pins) -> Result<Ebpf, DataplaneError> {
    let shapes = shapes(config.max_sessions);
    for (name, shape) in shapes {
        pins.check_map(name, shape)?;
    }
    let globals = globals(config, gateway_mac);
    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBALS, GlobalData::from(&globals), true);
    for (name, shape) in shapes {
        loader
            .map_max_entries(name, shape.max_entries)
            .map_pin_path(name, pins.map(name));
    }
    Ok(loader.load(OBJECT)?)
}

fn globals(config: &Config, gateway_mac: Mac) -> Globals {
    let default_operator = match config.operators.as_slice() {
        [only] => only.index,
        _ => 0,
    };
    Globals {
        delegated_mask_be: Globals::delegated_mask(config.delegated_prefix_len),
        gateway_mac: gateway_mac.0,
        default_operator,
    }
}

/// What each pinned map must be.
fn shapes(max_sessions: u32) -> [(&'static str, MapShape); map::PINNED.len()] {
    fn shape<K, V>(kind: MapType, max_entries: u32) -> MapShape {
        MapShape {
            kind,
            key_bytes: size_of::<K>() as u32,
            value_bytes: size_of::<V>() as u32,
            max_entries,
        }
    }
    use MapType::{Array, Hash, PerCpuArray, RingBuf};
    let lines = max_sessions.saturating_mul(LINES_PER_SESSION);
    let tallies = counters::entries(max_sessions);
    [
        (
            map::UPSTREAM_V4,
            shape::<UpstreamV4Key, UpstreamValue>(Hash, max_sessions),
        ),
        (
            map::UPSTREAM_V6,
            shape::<UpstreamV6Key, UpstreamValue>(Hash, max_sessions),
        ),
        (
            map::DOWNSTREAM_V4,
            shape::<DownstreamV4Key, DownstreamValue>(Hash, max_sessions),
        ),
        (
            map::DOWNSTREAM_V6,
            shape::<DownstreamV6Key, DownstreamValue>(Hash, max_sessions),
        ),
        (map::LINES, shape::<LineKey, LineValue>(Hash, lines)),
        (
            map::OPERATORS,
            shape::<u32, OperatorValue>(Array, MAX_OPERATORS),
        ),
        (
            map::UPLINKS,
            shape::<UplinkKey, UplinkValue>(Hash, MAX_OPERATORS),
        ),
        (map::COUNTERS, shape::<u32, Tally>(PerCpuArray, tallies)),
        (map::REASONS, shape::<u32, u64>(PerCpuArray, MAX_REASONS)),
        (map::PUNT, shape::<(), ()>(RingBuf, PUNT_BYTES)),
    ]
}
