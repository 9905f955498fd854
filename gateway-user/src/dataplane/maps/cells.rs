//! The daemon's side of the tables of rows, which it alone writes. Their shape is in
//! [`doorstep_gateway_common::table`].

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use aya::Pod;
use aya::maps::MapData;
use doorstep_gateway_common::Slot;
use doorstep_gateway_common::downstream::DownstreamValue;
use doorstep_gateway_common::table::{Cell, Key, Layout, MAX_CHAIN, Row, Table as _};
use doorstep_gateway_common::upstream::UpstreamValue;

use super::MapUse;
use super::mapped::Mapped;
use crate::dataplane::{DataplaneError, grace};

/// One of `UPSTREAM_V4`, `UPSTREAM_V6`, `DOWNSTREAM_V4`, `DOWNSTREAM_V6`, `UPLINKS`.
pub struct CellTable<K: Key + Pod, V: Pod> {
    name: &'static str,
    cells: Mapped<Cell<K, V>>,
    layout: Layout,
    /// Cells beside the buckets that nobody uses: these, and all from `fresh` on.
    free: Vec<u32>,
    fresh: u32,
    /// No longer used, but programs may still be reading them.
    resting: HashSet<u32>,
    used: u64,
}

/// A cell of a chain, and the one that leads to it.
#[derive(Clone, Copy)]
struct Link {
    before: Option<u32>,
    at: u32,
}

impl<K: Key + Pod + Eq + Hash, V: Pod + PartialEq> CellTable<K, V> {
    /// Takes a table over, which nobody else writes from now on. What an earlier writer has not
    /// finished is taken back.
    pub fn open(map: &MapData, name: &'static str, layout: Layout) -> Result<Self, DataplaneError> {
        Ok(Self::over(Mapped::of(map, name)?, name, layout))
    }

    fn over(cells: Mapped<Cell<K, V>>, name: &'static str, layout: Layout) -> Self {
        let buckets = layout.buckets();
        let mut table = Self {
            name,
            cells,
            layout,
            free: Vec::new(),
            fresh: buckets,
            resting: HashSet::new(),
            used: 0,
        };
        let linked = table.take_over();
        table.fresh = linked.iter().max().map_or(buckets, |last| last + 1);
        table.free = (buckets..table.fresh)
            .filter(|cell| !linked.contains(cell))
            .collect();
        table.wait();
        table
    }

    /// Counts the rows, removes those that no program would find, and returns the cells that are
    /// chained to a bucket.
    fn take_over(&mut self) -> HashSet<u32> {
        let mut linked = HashSet::new();
        let mut used = 0;
        let mut stray = Vec::new();
        let mut seen = HashSet::new();
        for bucket in 0..self.layout.buckets() {
            seen.clear();
            for link in self.chain(bucket) {
                let cell = self.cell(link.at);
                let key = cell.row().key;
                if link.at != bucket {
                    linked.insert(link.at);
                }
                if !cell.is_used() {
                    continue;
                }
                if self.bucket(&key) == bucket && seen.insert(key) {
                    used += 1;
                } else {
                    stray.push((bucket, link.at));
                }
            }
        }
        self.used = used;
        for (bucket, at) in stray {
            self.unlink(bucket, at);
        }
        linked
    }

    fn get(&self, key: &K) -> Option<V> {
        (&self.cells).find(self.bucket(key), key).copied()
    }

    pub(super) fn holds(&self, row: Option<&(K, V)>) -> bool {
        row.is_some_and(|(key, value)| self.get(key).as_ref() == Some(value))
    }

    /// Every row.
    pub fn dump(&self) -> HashMap<K, V> {
        let chains = (0..self.layout.buckets()).flat_map(|bucket| self.chain(bucket));
        let cells = chains.map(|link| self.cell(link.at));
        let rows = cells.filter(|cell| cell.is_used()).map(Cell::row);
        rows.map(|Row { key, value }| (key, value)).collect()
    }

    /// Puts a row in place of what the key has. Programs find the one or the other.
    pub fn upsert(&mut self, key: &K, value: &V) -> Result<(), DataplaneError> {
        let bucket = self.bucket(key);
        let mut last = bucket;
        let mut length = 0;
        let mut old = None;
        for link in self.chain(bucket) {
            let cell = self.cell(link.at);
            if cell.is_used() && cell.row().key == *key {
                if cell.row().value == *value {
                    return Ok(());
                }
                old = Some(link.at);
            }
            last = link.at;
            length += 1;
        }
        let row = Row {
            key: *key,
            value: *value,
        };
        let first = self.cell(bucket);
        if !first.is_used() && !self.resting.contains(&bucket) {
            // SAFETY: not used, and no program reads it any more; all writing is by `&mut self`.
            unsafe { first.fill(row) };
            before_it_is_found();
            first.set(true, first.next());
        } else {
            if length >= MAX_CHAIN {
                return Err(self.full());
            }
            let new = self.take()?;
            let cell = self.cell(new);
            // SAFETY: as above.
            unsafe { cell.fill(row) };
            cell.set(true, 0);
            before_it_is_found();
            let last = self.cell(last);
            last.set(last.is_used(), new);
        }
        match old {
            Some(old) => self.unlink(bucket, old),
            None => self.used += 1,
        }
        Ok(())
    }

    /// Programs that run already may still find the row. Its cell is used anew after
    /// [`CellTable::settle`].
    pub fn remove(&mut self, key: &K) {
        let bucket = self.bucket(key);
        let found = self.chain(bucket).find(|link| {
            let cell = self.cell(link.at);
            cell.is_used() && cell.row().key == *key
        });
        if let Some(link) = found {
            self.unlink(bucket, link.at);
            self.used -= 1;
        }
    }

    /// Makes the table equal to this.
    pub(in crate::dataplane) fn replace_all(
        &mut self,
        desired: &HashMap<K, V>,
    ) -> Result<(), DataplaneError> {
        let held = self.dump();
        for key in held.keys().filter(|key| !desired.contains_key(key)) {
            self.remove(key);
        }
        for (key, value) in desired {
            self.upsert(key, value)?;
        }
        self.wait();
        Ok(())
    }

    /// Waits until all cells that are no longer used can be used anew.
    pub(in crate::dataplane) fn wait(&mut self) {
        if !self.resting.is_empty() {
            grace::wait();
            self.settle();
        }
    }

    /// To be called when no program runs any more that began before the last change.
    pub(super) fn settle(&mut self) {
        let buckets = self.layout.buckets();
        let cells = self.resting.drain().filter(|cell| *cell >= buckets);
        self.free.extend(cells);
    }

    pub(super) fn usage(&self) -> MapUse {
        MapUse {
            name: self.name,
            used: self.used,
            max: self.cells.len() as u64,
        }
    }

    fn bucket(&self, key: &K) -> u32 {
        self.layout.bucket(key)
    }

    /// The cells of a bucket's chain, the bucket itself first.
    fn chain(&self, bucket: u32) -> impl Iterator<Item = Link> {
        let first = Link {
            before: None,
            at: bucket,
        };
        std::iter::successors(Some(first), |link| {
            let next = self.cell(link.at).next();
            (next != 0).then_some(Link {
                before: Some(link.at),
                at: next,
            })
        })
    }

    fn cell(&self, index: u32) -> &Cell<K, V> {
        // Indexes come from the table itself.
        self.cells.get(index as usize).expect("within the table")
    }

    /// A row's end. Where the cell leads stays, for those who are reading it.
    fn unlink(&mut self, bucket: u32, at: u32) {
        let next = self.cell(at).next();
        let before = self.chain(bucket).find(|link| link.at == at);
        if let Some(before) = before.and_then(|link| link.before) {
            let before = self.cell(before);
            before.set(before.is_used(), next);
        }
        self.cell(at).set(false, next);
        self.resting.insert(at);
    }

    /// A cell for a row whose bucket is taken.
    fn take(&mut self) -> Result<u32, DataplaneError> {
        if self.free.is_empty() && self.fresh as usize >= self.cells.len() {
            self.wait();
        }
        if let Some(cell) = self.free.pop() {
            return Ok(cell);
        }
        if self.fresh as usize >= self.cells.len() {
            return Err(self.full());
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }

    fn full(&self) -> DataplaneError {
        DataplaneError::Full { map: self.name }
    }
}

impl<K: Key + Pod + Eq + Hash, V: Pod + PartialEq + Owned> CellTable<K, V> {
    /// The key of that row, if what is there belongs to the row's session.
    pub(super) fn key_of(&self, row: Option<(K, V)>) -> Option<K> {
        let (key, value) = row?;
        let held = self.get(&key)?;
        (held.owner() == value.owner()).then_some(key)
    }
}

/// What a cell was filled with is to be seen by whoever finds it. Programs read without barriers, and
/// only x86-64 keeps the order of stores and of loads by itself.
fn before_it_is_found() {
    if !cfg!(target_arch = "x86_64") {
        grace::wait();
    }
}

/// A value that belongs to a session.
pub trait Owned {
    /// Generations count by subscriber, slots are the gateway's own: together they name a session.
    fn owner(&self) -> (Slot, u64);
}

impl Owned for UpstreamValue {
    fn owner(&self) -> (Slot, u64) {
        (self.slot, self.generation)
    }
}

impl Owned for DownstreamValue {
    fn owner(&self) -> (Slot, u64) {
        (self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests;
