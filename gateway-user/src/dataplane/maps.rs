//! The maps, each with its types. Removing what is absent is success.

use std::collections::HashMap as StdHashMap;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use doorstep_gateway_common::counters::{self, Tally};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{Direction, LineKey, LineValue, OperatorIndex, Reason, Slot};
use serde::Serialize;

use super::DataplaneError;
use super::pins::Pins;
use super::ports::{self, Port};
use crate::config::Config;
use crate::plan::{Change, Rows, Tables};
use crate::session::Counters;

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapUse {
    pub name: &'static str,
    pub used: u64,
    pub max: u64,
}

pub(super) struct Maps {
    upstream_v4: Table<UpstreamV4Key, UpstreamValue>,
    upstream_v6: Table<UpstreamV6Key, UpstreamValue>,
    downstream_v4: Table<DownstreamV4Key, DownstreamValue>,
    downstream_v6: Table<DownstreamV6Key, DownstreamValue>,
    lines: Table<LineKey, LineValue>,
    uplinks: Table<UplinkKey, UplinkValue>,
    counters: PerCpuArray<MapData, Tally>,
    reasons: PerCpuArray<MapData, u64>,
}

impl Maps {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        Ok(Self {
            upstream_v4: Table::open(pins, map::UPSTREAM_V4)?,
            upstream_v6: Table::open(pins, map::UPSTREAM_V6)?,
            downstream_v4: Table::open(pins, map::DOWNSTREAM_V4)?,
            downstream_v6: Table::open(pins, map::DOWNSTREAM_V6)?,
            lines: Table::open(pins, map::LINES)?,
            uplinks: Table::open(pins, map::UPLINKS)?,
            counters: pinned(pins, map::COUNTERS)?,
            reasons: pinned(pins, map::REASONS)?,
        })
    }

    pub(super) fn tables(&self) -> Result<Tables, DataplaneError> {
        Ok(Tables {
            upstream_v4: self.upstream_v4.dump()?,
            upstream_v6: self.upstream_v6.dump()?,
            downstream_v4: self.downstream_v4.dump()?,
            downstream_v6: self.downstream_v6.dump()?,
        })
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<(), DataplaneError> {
        match change {
            Change::RemoveUpstreamV4(key) => self.upstream_v4.remove(key),
            Change::RemoveUpstreamV6(key) => self.upstream_v6.remove(key),
            Change::RemoveDownstreamV4(key) => self.downstream_v4.remove(key),
            Change::RemoveDownstreamV6(key) => self.downstream_v6.remove(key),
            Change::UpsertDownstreamV4(key, value) => self.downstream_v4.upsert(key, value),
            Change::UpsertDownstreamV6(key, value) => self.downstream_v6.upsert(key, value),
            Change::UpsertUpstreamV4(key, value) => self.upstream_v4.upsert(key, value),
            Change::UpsertUpstreamV6(key, value) => self.upstream_v6.upsert(key, value),
        }
    }

    /// Whether the maps hold any of these very rows.
    pub(super) fn holds(&self, rows: &Rows) -> Result<bool, DataplaneError> {
        Ok(self.upstream_v4.holds(rows.upstream_v4.as_ref())?
            || self.upstream_v6.holds(rows.upstream_v6.as_ref())?)
    }

    /// The removals of those rows that the maps hold for that generation, upstream first.
    pub(super) fn held(&self, rows: &Rows, generation: u64) -> Result<Vec<Change>, DataplaneError> {
        let mut changes = Vec::with_capacity(4);
        if let Some((key, _)) = rows.upstream_v4
            && self
                .upstream_v4
                .get(&key)?
                .is_some_and(|value| value.generation == generation)
        {
            changes.push(Change::RemoveUpstreamV4(key));
        }
        if let Some((key, _)) = rows.upstream_v6
            && self
                .upstream_v6
                .get(&key)?
                .is_some_and(|value| value.generation == generation)
        {
            changes.push(Change::RemoveUpstreamV6(key));
        }
        if let Some((key, _)) = rows.downstream_v4
            && self
                .downstream_v4
                .get(&key)?
                .is_some_and(|value| value.generation == generation)
        {
            changes.push(Change::RemoveDownstreamV4(key));
        }
        if let Some((key, _)) = rows.downstream_v6
            && self
                .downstream_v6
                .get(&key)?
                .is_some_and(|value| value.generation == generation)
        {
            changes.push(Change::RemoveDownstreamV6(key));
        }
        Ok(changes)
    }

    /// Makes `LINES` equal to this.
    pub(super) fn set_lines(
        &mut self,
        lines: &[(LineKey, LineValue)],
    ) -> Result<(), DataplaneError> {
        let desired: StdHashMap<_, _> = lines.iter().copied().collect();
        self.lines.replace_all(&desired)
    }

    /// Makes `UPLINKS` what the configuration says.
    pub(super) fn set_uplinks(
        &mut self,
        config: &Config,
        ports: &[Port],
    ) -> Result<(), DataplaneError> {
        let mut desired = StdHashMap::new();
        for operator in &config.operators {
            let port = ports::find(ports, &operator.uplink)?;
            let key = UplinkKey {
                ifindex: port.ifindex,
                vid: operator.uplink_vlan,
                pad: 0,
            };
            let value = UplinkValue {
                operator: operator.index,
                port_mac: port.mac.0,
            };
            desired.insert(key, value);
        }
        self.uplinks.replace_all(&desired)
    }

    pub(super) fn counters(&self, slot: Slot) -> Result<Counters, DataplaneError> {
        let tally = |direction| -> Result<Tally, DataplaneError> {
            let values = self
                .counters
                .get(&counters::index(slot, direction), 0)
                .map_err(error(map::COUNTERS))?;
            Ok(values.iter().fold(Tally::default(), |sum, cpu| Tally {
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
            }))
        };
        let (up, down) = (tally(Direction::Upstream)?, tally(Direction::Downstream)?);
        Ok(Counters {
            upstream_packets: up.packets,
            upstream_bytes: up.bytes,
            downstream_packets: down.packets,
            downstream_bytes: down.bytes,
        })
    }

    pub(super) fn reset_counters(&mut self, slot: Slot) -> Result<(), DataplaneError> {
        let cpus = aya::util::nr_cpus().map_err(|(file, source)| DataplaneError::Io {
            path: file.into(),
            source,
        })?;
        for direction in [Direction::Upstream, Direction::Downstream] {
            let zero = PerCpuValues::try_from(vec![Tally::default(); cpus]).map_err(|source| {
                DataplaneError::Kernel {
                    what: "counting CPUs".to_owned(),
                    source,
                }
            })?;
            self.counters
                .set(counters::index(slot, direction), zero, 0)
                .map_err(error(map::COUNTERS))?;
        }
        Ok(())
    }

    pub(super) fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = self
                    .reasons
                    .get(&u32::from(reason.number()), 0)
                    .map_err(error(map::REASONS))?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }

    pub(super) fn usage(&self) -> Result<Vec<MapUse>, DataplaneError> {
        Ok(vec![
            self.upstream_v4.usage()?,
            self.upstream_v6.usage()?,
            self.downstream_v4.usage()?,
            self.downstream_v6.usage()?,
            self.lines.usage()?,
        ])
    }
}

/// `OPERATORS`, opened apart: whoever follows the next hops writes it.
pub(super) struct Operators(Array<MapData, OperatorValue>);

impl Operators {
    pub(super) fn open(pins: &Pins) -> Result<Self, DataplaneError> {
        pinned(pins, map::OPERATORS).map(Self)
    }

    pub(super) fn set(
        &mut self,
        index: OperatorIndex,
        value: OperatorValue,
    ) -> Result<(), DataplaneError> {
        self.0
            .set(u32::from(index), value, 0)
            .map_err(error(map::OPERATORS))
    }
}

/// A hash map.
struct Table<K: Pod, V: Pod> {
    name: &'static str,
    max: u64,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod + Eq + Hash, V: Pod + PartialEq> Table<K, V> {
    fn open(pins: &Pins, name: &'static str) -> Result<Self, DataplaneError> {
        let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
        let max = data.info().map_err(error(name))?.max_entries().into();
        let map = Map::from_map_data(data)
            .and_then(HashMap::try_from)
            .map_err(error(name))?;
        Ok(Self { name, max, map })
    }

    fn get(&self, key: &K) -> Result<Option<V>, DataplaneError> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(error(self.name)(source)),
        }
    }

    fn holds(&self, row: Option<&(K, V)>) -> Result<bool, DataplaneError> {
        match row {
            Some((key, value)) => Ok(self.get(key)?.as_ref() == Some(value)),
            None => Ok(false),
        }
    }

    fn dump(&self) -> Result<StdHashMap<K, V>, DataplaneError> {
        self.map
            .iter()
            .collect::<Result<_, _>>()
            .map_err(error(self.name))
    }

    fn upsert(&mut self, key: &K, value: &V) -> Result<(), DataplaneError> {
        self.map.insert(key, value, 0).map_err(error(self.name))
    }

    fn remove(&mut self, key: &K) -> Result<(), DataplaneError> {
        match self.map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(failed))
                if failed.io_error.raw_os_error() == Some(libc::ENOENT) =>
            {
                Ok(())
            }
            Err(source) => Err(error(self.name)(source)),
        }
    }

    fn replace_all(&mut self, desired: &StdHashMap<K, V>) -> Result<(), DataplaneError> {
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

    fn usage(&self) -> Result<MapUse, DataplaneError> {
        let mut used = 0;
        for key in self.map.keys() {
            key.map_err(error(self.name))?;
            used += 1;
        }
        Ok(MapUse {
            name: self.name,
            used,
            max: self.max,
        })
    }
}

/// Opens a pinned map as the type that is asked for.
fn pinned<M: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<M, DataplaneError> {
    let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
    Map::from_map_data(data)
        .and_then(M::try_from)
        .map_err(error(name))
}

fn error(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map {
        map,
        source: Box::new(source),
    }
}
