//! The gateway's maps, filled by hand as its daemon would: one function for each of them.

use std::hash::Hash;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::{Ebpf, Pod};
use doorstep_establish::ProbeKey;
use doorstep_gateway::dataplane::CellTable;
use doorstep_gateway::plan::{self, Rates, Rows};
use doorstep_gateway::session::SessionEntry;
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::liveness::{self, Liveness};
use doorstep_gateway_common::names::map;
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::policer::{Policers, Rate};
use doorstep_gateway_common::table::{Key, Layout};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason};

/// The maps that the benchmark writes or reads, of one loaded object.
pub struct Maps {
    upstream_v4: CellTable<UpstreamV4Key, UpstreamValue>,
    upstream_v6: CellTable<UpstreamV6Key, UpstreamValue>,
    downstream_v4: CellTable<DownstreamV4Key, DownstreamValue>,
    downstream_v6: CellTable<DownstreamV6Key, DownstreamValue>,
    lines: HashMap<MapData, LineKey, LineValue>,
    operators: Array<MapData, OperatorValue>,
    uplinks: CellTable<UplinkKey, UplinkValue>,
    policers: Array<MapData, PolicerWords>,
    liveness: Array<MapData, LivenessWords>,
    reasons: PerCpuArray<MapData, u64>,
}

/// As `POLICERS` has them: what is spent, then the rate, for each direction.
type PolicerWords = [u64; size_of::<Policers>() / 8];
/// As `LIVENESS` has them: the key, the line, and what was heard.
type LivenessWords = [u64; size_of::<Liveness>() / 8];

impl Maps {
    /// Takes the maps out of the object; its programs keep them.
    pub fn take(ebpf: &mut Ebpf, layout: Layout) -> Result<Self> {
        Ok(Self {
            upstream_v4: cells(ebpf, map::UPSTREAM_V4, layout)?,
            upstream_v6: cells(ebpf, map::UPSTREAM_V6, layout)?,
            downstream_v4: cells(ebpf, map::DOWNSTREAM_V4, layout)?,
            downstream_v6: cells(ebpf, map::DOWNSTREAM_V6, layout)?,
            lines: take(ebpf, map::LINES)?.try_into()?,
            operators: take(ebpf, map::OPERATORS)?.try_into()?,
            uplinks: cells(ebpf, map::UPLINKS, Layout::UPLINKS)?,
            policers: take(ebpf, map::POLICERS)?.try_into()?,
            liveness: take(ebpf, map::LIVENESS)?.try_into()?,
            reasons: take(ebpf, map::REASONS)?.try_into()?,
        })
    }

    /// All rows of a session.
    pub fn session(&mut self, entry: &SessionEntry) -> Result<()> {
        let rows = plan::rows(entry);
        self.rates(&rows)?;
        self.downstream_v4(&rows)?;
        self.downstream_v6(&rows)?;
        self.upstream_v4(&rows)?;
        self.upstream_v6(&rows)
    }

    /// Lets the terminal with that key ask whether its session is alive.
    pub fn expect_probes(&mut self, entry: &SessionEntry, key: &ProbeKey) -> Result<()> {
        let [first, second] = key.words();
        let line = liveness::packed(&entry.line.key);
        Ok(self.liveness.set(entry.slot, [first, second, line, 0], 0)?)
    }

    fn rates(&mut self, rows: &Rows) -> Result<()> {
        let (slot, rates) = rows.rates;
        if rates == Rates::default() {
            return Ok(());
        }
        let [up, down] = [rates.upstream, rates.downstream].map(Rate::packed);
        Ok(self.policers.set(slot, [0, up, 0, down], 0)?)
    }

    fn upstream_v4(&mut self, rows: &Rows) -> Result<()> {
        if let Some((key, value)) = &rows.upstream_v4 {
            self.upstream_v4.upsert(key, value)?;
        }
        Ok(())
    }

    fn upstream_v6(&mut self, rows: &Rows) -> Result<()> {
        for (key, value) in rows.upstream_v6.iter().flatten() {
            self.upstream_v6.upsert(key, value)?;
        }
        Ok(())
    }

    fn downstream_v4(&mut self, rows: &Rows) -> Result<()> {
        if let Some((key, value)) = &rows.downstream_v4 {
            self.downstream_v4.upsert(key, value)?;
        }
        Ok(())
    }

    fn downstream_v6(&mut self, rows: &Rows) -> Result<()> {
        for (key, value) in rows.downstream_v6.iter().flatten() {
            self.downstream_v6.upsert(key, value)?;
        }
        Ok(())
    }

    pub fn line(&mut self, key: LineKey, value: LineValue) -> Result<()> {
        Ok(self.lines.insert(key, value, 0)?)
    }

    pub fn operator(&mut self, index: OperatorIndex, value: OperatorValue) -> Result<()> {
        Ok(self.operators.set(u32::from(index), value, 0)?)
    }

    pub fn uplink(&mut self, key: UplinkKey, value: UplinkValue) -> Result<()> {
        Ok(self.uplinks.upsert(&key, &value)?)
    }

    /// Packets counted under each reason so far, in the order of [`Reason::ALL`].
    pub fn reasons(&self) -> Result<Vec<u64>> {
        let count = |reason: &Reason| -> Result<u64> {
            let values = self.reasons.get(&u32::from(reason.number()), 0)?;
            Ok(values.iter().sum())
        };
        Reason::ALL.iter().map(count).collect()
    }
}

fn cells<K: Key + Pod + Eq + Hash, V: Pod + PartialEq>(
    ebpf: &Ebpf,
    name: &'static str,
    layout: Layout,
) -> Result<CellTable<K, V>> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        bail!("the object has no array {name}");
    };
    Ok(CellTable::open(data, name, layout)?)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name)
        .with_context(|| format!("the object has no map {name}"))
}
