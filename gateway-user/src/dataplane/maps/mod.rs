//! The maps, each with its types. Removing what is absent is success.

mod accounts;
mod cells;
mod lives;
mod mapped;
mod table;

use std::collections::HashMap;
use std::hash::Hash;

use aya::Pod;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::garden::GardenKey;
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::table::{Key, Layout};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason};
use serde::Serialize;

pub(super) use self::accounts::Accounts;
pub use self::cells::CellTable;
use self::lives::Lives;
use self::table::Table;
use super::DataplaneError;
use super::pins::Pins;
use crate::config::Config;
use crate::plan::{Change, Rows, Tables};

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapUse {
    pub name: &'static str,
    pub used: u64,
    pub max: u64,
}

pub(super) struct Maps {
    upstream_v4: CellTable<UpstreamV4Key, UpstreamValue>,
    upstream_v6: CellTable<UpstreamV6Key, UpstreamValue>,
    downstream_v4: CellTable<DownstreamV4Key, DownstreamValue>,
    downstream_v6: CellTable<DownstreamV6Key, DownstreamValue>,
    lines: Table<LineKey, LineValue>,
    garden: Table<GardenKey, u32>,
    accounts: Accounts,
    lives: Lives,
    reasons: PerCpuArray<MapData, u64>,
}

impl Maps {
    pub(super) fn open(pins: &Pins, layout: Layout) -> Result<Self, DataplaneError> {
        Ok(Self {
            upstream_v4: cells(pins, map::UPSTREAM_V4, layout)?,
            upstream_v6: cells(pins, map::UPSTREAM_V6, layout)?,
            downstream_v4: cells(pins, map::DOWNSTREAM_V4, layout)?,
            downstream_v6: cells(pins, map::DOWNSTREAM_V6, layout)?,
            lines: Table::open(pins, map::LINES)?,
            garden: Table::open(pins, map::GARDEN)?,
            accounts: Accounts::open(pins)?,
            lives: Lives::open(pins)?,
            reasons: pinned(pins, map::REASONS)?,
        })
    }

    pub(super) fn tables(&self) -> Tables {
        let mut tables = Tables {
            upstream_v4: self.upstream_v4.dump(),
            upstream_v6: self.upstream_v6.dump(),
            downstream_v4: self.downstream_v4.dump(),
            downstream_v6: self.downstream_v6.dump(),
            rates: HashMap::new(),
        };
        for slot in tables.slots() {
            tables.set_rates(slot, self.accounts.rates(slot));
        }
        tables
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<(), DataplaneError> {
        match change {
            Change::RemoveUpstreamV4(key) => self.upstream_v4.remove(key),
            Change::RemoveUpstreamV6(key) => self.upstream_v6.remove(key),
            Change::RemoveDownstreamV4(key) => self.downstream_v4.remove(key),
            Change::RemoveDownstreamV6(key) => self.downstream_v6.remove(key),
            Change::UpsertDownstreamV4(key, value) => self.downstream_v4.upsert(key, value)?,
            Change::UpsertDownstreamV6(key, value) => self.downstream_v6.upsert(key, value)?,
            Change::UpsertUpstreamV4(key, value) => self.upstream_v4.upsert(key, value)?,
            Change::UpsertUpstreamV6(key, value) => self.upstream_v6.upsert(key, value)?,
            Change::SetRates(slot, rates) => self.accounts.set_rates(*slot, rates),
        }
        Ok(())
    }

    /// To be called when no program runs any more that began before the last change.
    pub(super) fn settle(&mut self) {
        self.upstream_v4.settle();
        self.upstream_v6.settle();
        self.downstream_v4.settle();
        self.downstream_v6.settle();
    }

    /// Whether the maps hold any of these very rows.
    pub(super) fn holds(&self, rows: &Rows) -> bool {
        self.upstream_v4.holds(rows.upstream_v4.as_ref())
            || rows
                .upstream_v6
                .iter()
                .any(|row| self.upstream_v6.holds(row.as_ref()))
    }

    /// The removals of those rows that the maps hold for the same session, upstream first.
    pub(super) fn held(&self, rows: &Rows) -> Vec<Change> {
        let up_v4 = self.upstream_v4.key_of(rows.upstream_v4);
        let up_v6 = rows.upstream_v6.map(|row| self.upstream_v6.key_of(row));
        let down_v4 = self.downstream_v4.key_of(rows.downstream_v4);
        let down_v6 = rows.downstream_v6.map(|row| self.downstream_v6.key_of(row));
        let up_v4 = up_v4.map(Change::RemoveUpstreamV4).into_iter();
        let up_v6 = up_v6.into_iter().flatten().map(Change::RemoveUpstreamV6);
        let down_v4 = down_v4.map(Change::RemoveDownstreamV4);
        let down_v6 = down_v6.into_iter().flatten();
        let down_v6 = down_v6.map(Change::RemoveDownstreamV6);
        up_v4.chain(up_v6).chain(down_v4).chain(down_v6).collect()
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(super) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Terminals of sessions that are not among these may not ask any more.
    pub(super) fn forget_strangers(&self, held: &Tables) {
        self.lives.retain(&held.slots());
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

    /// Makes `LINES` equal to this.
    pub(super) fn set_lines(
        &mut self,
        lines: &[(LineKey, LineValue)],
    ) -> Result<(), DataplaneError> {
        let desired: HashMap<_, _> = lines.iter().copied().collect();
        self.lines.replace_all(&desired)
    }

    pub(super) fn set_line(
        &mut self,
        key: LineKey,
        value: LineValue,
    ) -> Result<(), DataplaneError> {
        self.lines.upsert(&key, &value)
    }

    /// Makes `GARDEN` what the configuration says.
    pub(super) fn set_garden(&mut self, config: &Config) -> Result<(), DataplaneError> {
        /// There is nothing to say of a server but that it is there.
        const PRESENT: u32 = 1;
        let operators = config.operators.iter();
        let keys = operators.flat_map(|operator| {
            let garden = operator.garden.iter();
            garden.flat_map(|garden| garden.keys(operator.index))
        });
        let desired = keys.map(|key| (key, PRESENT)).collect();
        self.garden.replace_all(&desired)
    }

    /// Without asking the kernel: the daemon alone writes these maps, and counts as it does.
    pub(super) fn usage(&self) -> Vec<MapUse> {
        vec![
            self.upstream_v4.usage(),
            self.upstream_v6.usage(),
            self.downstream_v4.usage(),
            self.downstream_v6.usage(),
            self.lines.usage(),
            self.garden.usage(),
        ]
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

pub(super) fn cells<K: Key + Pod + Eq + Hash, V: Pod + PartialEq>(
    pins: &Pins,
    name: &'static str,
    layout: Layout,
) -> Result<CellTable<K, V>, DataplaneError> {
    let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
    CellTable::open(&data, name, layout)
}

/// Opens a pinned map as the type that is asked for.
pub(super) fn pinned<M: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<M, DataplaneError> {
    let data = MapData::from_pin(pins.map(name)).map_err(error(name))?;
    Map::from_map_data(data)
        .and_then(M::try_from)
        .map_err(error(name))
}

pub(super) fn error(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map {
        map,
        source: Box::new(source),
    }
}
