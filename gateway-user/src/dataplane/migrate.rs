//! From the pins of an earlier version to those of this one, under traffic.
//!
//! 1. [`share`]: maps by which both versions mean the same are pinned a second time, so that the
//!    programs of both work with them.
//! 2. The new maps are filled, as they are at every start: from journal, inventory and kernel.
//! 3. [`take_links`]: the links move, with the former programs on them, to where
//!    [`Programs::attach`](super::attach::Programs::attach) finds them and replaces the programs.
//! 4. [`finish`]: when no former program runs any more, what they have counted is carried over, and
//!    their pins go.
//!
//! Each step does what is left to be done, so that a start that ended early is gone on with by the
//! next one. The former programs forward by the former maps until each is replaced.

use std::fs;
use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use doorstep_gateway_common::names::map::{self, layout_since};
use tracing::{info, warn};

use super::pins::{MapShape, Pins, failed, remove_pin};
use super::{DataplaneError, attach, grace, maps};
use crate::session::Counters;

/// Pins maps of an earlier version that this one goes on with.
pub(super) fn share(
    pins: &Pins,
    shapes: &[(&'static str, MapShape)],
) -> Result<(), DataplaneError> {
    for (version, former) in pins.former()? {
        for (name, wanted) in shapes {
            let (from, to) = (former.map(name), pins.map(name));
            if layout_since(name) > version || to.exists() || !from.exists() {
                continue;
            }
            if former.check_map(name, *wanted).is_err() {
                warn!(pin = %from.display(), "has another size; a new one takes its place");
                continue;
            }
            let error = maps::error(name);
            let data = MapData::from_pin(&from).map_err(&error)?;
            data.pin(&to).map_err(|source| DataplaneError::Io {
                path: to.clone(),
                source: std::io::Error::other(source),
            })?;
        }
    }
    Ok(())
}

/// Moves the links of earlier versions here.
pub(super) fn take_links(pins: &Pins) -> Result<(), DataplaneError> {
    for (version, former) in pins.former()? {
        for from in former.links()? {
            let Some(to) = pins.link_like(&from) else {
                continue;
            };
            if !to.exists() {
                info!(version, pin = %from.display(), "taken over");
                fs::rename(&from, &to).map_err(failed(&from))?;
            }
        }
    }
    Ok(())
}

/// Carries the counters of earlier versions over, and removes their pins. The programs of this
/// version must be in place.
pub(super) fn finish(pins: &Pins, accounts: &maps::Accounts) -> Result<(), DataplaneError> {
    for (version, former) in pins.former()? {
        // What is left is beside a link of this version, at the same place.
        for link in former.links()? {
            attach::take_off(&link)?;
        }
        grace::wait();
        let sessions = match counted(&former.map(map::COUNTERS)) {
            Ok(counted) => {
                // Better lost by a crash between these two than counted twice.
                remove_pin(&former.map(map::COUNTERS))?;
                accounts.add(&counted)?;
                counted.len()
            }
            Err(error) => {
                warn!(version, %error, "the sessions' counters are lost");
                0
            }
        };
        former.remove_version()?;
        info!(version, sessions, "the former version's maps are replaced");
    }
    Ok(())
}

/// What the programs of version 1 have counted, by slot: entry `2 * slot` for what subscribers
/// have sent, the next for what they have received; packets and bytes of IP, for each CPU.
fn counted(pin: &Path) -> Result<Vec<(u32, Counters)>, DataplaneError> {
    if !pin.exists() {
        return Ok(Vec::new());
    }
    let error = maps::error(map::COUNTERS);
    let data = MapData::from_pin(pin).map_err(&error)?;
    let map: PerCpuArray<_, [u64; 2]> = Map::from_map_data(data)
        .and_then(PerCpuArray::try_from)
        .map_err(&error)?;
    let sum = |index: u32| -> Result<[u64; 2], DataplaneError> {
        let cpus = map.get(&index, 0).map_err(&error)?;
        let cpus = cpus.iter();
        Ok(cpus.fold([0; 2], |sum, cpu| [sum[0] + cpu[0], sum[1] + cpu[1]]))
    };
    let mut counted = Vec::new();
    for slot in 0..map.len() / 2 {
        let [upstream_packets, upstream_bytes] = sum(2 * slot)?;
        let [downstream_packets, downstream_bytes] = sum(2 * slot + 1)?;
        let counters = Counters {
            upstream_packets,
            upstream_bytes,
            downstream_packets,
            downstream_bytes,
            ..Counters::default()
        };
        if counters != Counters::default() {
            counted.push((slot, counters));
        }
    }
    Ok(counted)
}
