//! A hash map that user space alone writes.

use std::collections::HashMap as StdHashMap;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};

use super::{MapUse, error};
use crate::dataplane::DataplaneError;
use crate::dataplane::pins::Pins;

// linux/bpf.h
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

pub(super) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    max: u64,
    used: u64,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq> Table<K, V> {
    pub(super) fn open(pins: &Pins, name: &'static str) -> Result<Self, DataplaneError> {
        let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
        let max = data.info().map_err(error(name))?.max_entries().into();
        let map: HashMap<_, K, V> = Map::from_map_data(data)
            .and_then(HashMap::try_from)
            .map_err(error(name))?;
        let mut used = 0;
        for key in map.keys() {
            key.map_err(error(name))?;
            used += 1;
        }
        Ok(Self {
            name,
            max,
            used,
            map,
        })
    }

    pub(super) fn dump(&self) -> Result<StdHashMap<K, V>, DataplaneError> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(error(self.name))
    }

    pub(super) fn upsert(&mut self, key: &K, value: &V) -> Result<(), DataplaneError> {
        match self.map.insert(key, value, BPF_NOEXIST) {
            Ok(()) => self.used += 1,
            Err(refusal) if is(&refusal, libc::EEXIST) => self
                .map
                .insert(key, value, BPF_EXIST)
                .map_err(error(self.name))?,
            Err(source) => return Err(error(self.name)(source)),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, key: &K) -> Result<(), DataplaneError> {
        match self.map.remove(key) {
            Ok(()) => self.used = self.used.saturating_sub(1),
            Err(MapError::KeyNotFound) => {}
            Err(refusal) if is(&refusal, libc::ENOENT) => {}
            Err(source) => return Err(error(self.name)(source)),
        }
        Ok(())
    }

    pub(super) fn replace_all(&mut self, desired: &StdHashMap<K, V>) -> Result<(), DataplaneError> {
        let actual = self.dump()?;
        for key in actual.keys().filter(|key| !desired.contains_key(key)) {
            self.remove(key)?;
        }
        for (key, value) in desired
            .iter()
            .filter(|(key, value)| actual.get(key) != Some(value))
        {
            self.upsert(key, value)?;
        }
        Ok(())
    }

    pub(super) fn usage(&self) -> MapUse {
        MapUse {
            name: self.name,
            used: self.used,
            max: self.max,
        }
    }
}

fn is(error: &MapError, errno: i32) -> bool {
    match error {
        MapError::SyscallError(failed) => failed.io_error.raw_os_error() == Some(errno),
        _ => false,
    }
}
