//! What the kernel keeps for sessions.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use serde::Serialize;

/// Kernel memory of the gateway's maps, with every session open.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Sessions that the maps were made for, all of them open.
    pub max_sessions: u32,
    /// The sum of `maps` over the sessions, bytes.
    pub bytes_per_session: f64,
    /// By map, bytes: `memlock` of `/proc/self/fdinfo`.
    pub maps: BTreeMap<String, u64>,
    /// To compare: how far `MemAvailable` fell, over the sessions, bytes. All that the machine
    /// did meanwhile is in it.
    pub available_fell_by_bytes_per_session: Option<f64>,
}

impl Memory {
    /// Reads the maps pinned in that folder. `fell_kib`: how far `MemAvailable` fell.
    pub fn read(folder: &Path, max_sessions: u32, fell_kib: Option<i64>) -> Result<Self> {
        let mut maps = BTreeMap::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            maps.insert(name, memlock(&entry.path())?);
        }
        let total: u64 = maps.values().sum();
        let sessions = f64::from(max_sessions);
        Ok(Self {
            max_sessions,
            bytes_per_session: total as f64 / sessions,
            maps,
            available_fell_by_bytes_per_session: fell_kib.map(|kib| kib as f64 * 1024.0 / sessions),
        })
    }
}

/// Bytes of a pinned map, as the kernel accounts them.
fn memlock(pin: &Path) -> Result<u64> {
    let fd = MapInfo::from_pin(pin)?.fd()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
        .with_context(|| format!("{path} tells no memlock of {}", pin.display()))
}
