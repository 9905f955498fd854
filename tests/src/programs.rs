//! The loaded programs beside the host model: the same maps, the same packets.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::maps::{Array, HashMap as BpfHashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, GlobalData, Pod};
use doorstep_datapath::slice::SliceFrame;
use doorstep_datapath::{Frame as _, Verdict, downstream, upstream};
use doorstep_gateway::dataplane::{CellTable, OBJECT, size_maps};
use doorstep_gateway_common::account::{self, Account};
use doorstep_gateway_common::liveness::Liveness;
use doorstep_gateway_common::meta::PassMeta;
use doorstep_gateway_common::names::{GLOBALS, map, program};
use doorstep_gateway_common::operator::OperatorValue;
use doorstep_gateway_common::policer::Policers;
use doorstep_gateway_common::table::{Key, Layout};
use doorstep_gateway_common::trace::{TraceEvent, TraceFilter, TraceScratch};
use doorstep_gateway_common::{Direction, OperatorIndex, Reason, Slot, Word, record};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::model::Model;

/// The port that test runs come from: the loopback of the namespace.
pub const IFINDEX: u32 = 1;

pub const MAX_SESSIONS: u32 = 64;

/// Which XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Access,
    Uplink,
}

impl Side {
    fn program(self) -> &'static str {
        match self {
            Self::Access => program::XDP_ACCESS,
            Self::Uplink => program::XDP_UPLINK,
        }
    }
}

/// What became of a packet, as a driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// An `XDP_*` action.
    pub action: u32,
    /// Whose it is, as the kernel is told.
    pub operator: Option<OperatorIndex>,
    pub frame: Vec<u8>,
}

pub const XDP_DROP: u32 = 1;
pub const XDP_PASS: u32 = 2;
pub const XDP_TX: u32 = 3;
pub const XDP_REDIRECT: u32 = 4;

/// What the host model does with a packet.
pub fn model(model: &Model, side: Side, bytes: &[u8]) -> (Fate, Verdict, Reason) {
    let mut frame = SliceFrame::new(bytes);
    let verdict = match side {
        Side::Access => upstream::decide(&mut frame, model, IFINDEX),
        Side::Uplink => downstream::decide(&mut frame, model, IFINDEX),
    };
    let mut reason = verdict.reason();
    let action = match &verdict {
        Verdict::Drop(_) => XDP_DROP,
        Verdict::Forward(..) => XDP_REDIRECT,
        Verdict::Host(_) | Verdict::Kernel(_) => XDP_PASS,
        Verdict::Answer(_) => XDP_TX,
        Verdict::Punt(_) => {
            if frame.len() > doorstep_gateway_common::punt::MAX_FRAME {
                reason = Reason::PuntTooLong;
            }
            XDP_DROP
        }
    };
    let operator = match &verdict {
        Verdict::Kernel(to_kernel) => {
            if let Some(due) = to_kernel.due {
                let account = &model.accounts.0[due.slot as usize];
                account.upstream.count(1, due.bytes.into());
            }
            Some(to_kernel.operator)
        }
        _ => None,
    };
    (
        Fate {
            action,
            operator,
            frame: frame.as_slice().to_vec(),
        },
        verdict,
        reason,
    )
}

/// What a session has sent or received, and was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub packets: u64,
    pub bytes: u64,
    pub policed: u64,
}

/// The programs in the kernel, with maps of their own.
pub struct Loaded {
    ebpf: Ebpf,
    punt: RingBuf<MapData>,
    trace: RingBuf<MapData>,
    reasons: PerCpuArray<MapData, u64>,
    out: Vec<u8>,
}

impl Loaded {
    /// Loads the object and fills its maps as the model's.
    pub fn new(model: &Model) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.override_global(GLOBALS, GlobalData::from(&model.globals), true);
        size_maps(&mut loader, MAX_SESSIONS)?;
        let slots = account::slots(MAX_SESSIONS);
        let layout = model.globals.tables();
        ensure!(layout.buckets() == slots, "the model has other slots");
        let mut ebpf = loader.load(OBJECT).context("loading the object")?;
        for name in [program::XDP_ACCESS, program::XDP_UPLINK] {
            let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
        }
        for name in [program::TC_INGRESS, program::TC_EGRESS] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
        }
        fill(&mut ebpf, map::LINES, &model.lines)?;
        fill_cells(&mut ebpf, map::UPLINKS, Layout::UPLINKS, &model.uplinks)?;
        fill_cells(
            &mut ebpf,
            map::UPSTREAM_V4,
            layout,
            &model.sessions.upstream_v4,
        )?;
        fill_cells(
            &mut ebpf,
            map::UPSTREAM_V6,
            layout,
            &model.sessions.upstream_v6,
        )?;
        fill_cells(
            &mut ebpf,
            map::DOWNSTREAM_V4,
            layout,
            &model.sessions.downstream_v4,
        )?;
        fill_cells(
            &mut ebpf,
            map::DOWNSTREAM_V6,
            layout,
            &model.sessions.downstream_v6,
        )?;
        let mut operators: Array<_, OperatorValue> = ebpf
            .map_mut(map::OPERATORS)
            .context("OPERATORS")?
            .try_into()?;
        for (index, value) in &model.operators {
            operators.set(u32::from(*index), value, 0)?;
        }
        fill(&mut ebpf, map::GARDEN, &model.garden)?;
        let mut policers: Array<_, [u64; POLICERS_WORDS]> = ebpf
            .map_mut(map::POLICERS)
            .context("POLICERS")?
            .try_into()?;
        for (slot, value) in model.policers.0.iter().enumerate() {
            policers.set(u32::try_from(slot)?, words(value), 0)?;
        }
        let mut liveness: Array<_, [u64; LIVENESS_WORDS]> = ebpf
            .map_mut(map::LIVENESS)
            .context("LIVENESS")?
            .try_into()?;
        for (slot, value) in model.liveness.0.iter().enumerate() {
            let [first, second] = &value.key;
            let record = [first, second, &value.line, &value.heard].map(Word::get);
            liveness.set(u32::try_from(slot)?, record, 0)?;
        }
        let punt = RingBuf::try_from(ebpf.take_map(map::PUNT).context("PUNT")?)?;
        let trace = RingBuf::try_from(ebpf.take_map(map::TRACE).context("TRACE")?)?;
        let reasons = PerCpuArray::try_from(ebpf.take_map(map::REASONS).context("REASONS")?)?;
        Ok(Self {
            ebpf,
            punt,
            trace,
            reasons,
            out: vec![0; 4096],
        })
    }

    /// When the terminal of a slot has asked last, and with which number, as the programs note it.
    pub fn heard(&self, slot: Slot) -> Result<Liveness> {
        let map = self.ebpf.map(map::LIVENESS).context("LIVENESS")?;
        let records: Array<_, [u64; LIVENESS_WORDS]> = map.try_into()?;
        let [first, second, line, heard] = records.get(&slot, 0)?.map(Word::new);
        Ok(Liveness {
            key: [first, second],
            line,
            heard,
        })
    }

    /// Runs a frame through a program.
    pub fn run(&mut self, side: Side, frame: &[u8]) -> Result<Fate> {
        let name = side.program();
        let program: &Xdp = self.ebpf.program(name).context(name)?.try_into()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut self.out),
            ..TestRunOptions::default()
        })?;
        // The kernel puts the metadata in front of the frame.
        let out = &self.out[..result.data_size_out as usize];
        let (operator, frame) = match split_meta(out) {
            Some((operator, frame)) if result.return_value == XDP_PASS => (Some(operator), frame),
            _ => (None, out),
        };
        Ok(Fate {
            action: result.return_value,
            operator,
            frame: frame.to_vec(),
        })
    }

    /// Runs a frame through a program again and again, on each of these CPUs at once; how long, and for how
    /// long of that a busy machine gave no CPU to it for more than `pause` on end, less that pause.
    pub fn flood(
        &self,
        side: Side,
        frame: &[u8],
        cpus: &[usize],
        time: Duration,
        pause: Duration,
    ) -> Result<(Duration, Duration)> {
        let name = side.program();
        let program = self.xdp(name)?;
        let start = Instant::now();
        // Nanoseconds since the start, of the last run that has ended on any of them.
        let last = AtomicU64::new(0);
        let idle = AtomicU64::new(0);
        let one = |cpu: usize| -> Result<()> {
            let mut only = CpuSet::new();
            only.set(cpu)?;
            sched_setaffinity(Pid::from_raw(0), &only)?;
            while start.elapsed() < time {
                program.test_run(TestRunOptions {
                    data_in: Some(frame),
                    ..TestRunOptions::default()
                })?;
                let now = start.elapsed().as_nanos() as u64;
                let before = last.fetch_max(now, Ordering::Relaxed);
                let gap = Duration::from_nanos(now.saturating_sub(before));
                let without = gap.saturating_sub(pause).as_nanos() as u64;
                idle.fetch_add(without, Ordering::Relaxed);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = cpus.iter().map(|cpu| scope.spawn(|| one(*cpu))).collect();
            threads.into_iter().try_for_each(|thread| {
                let result = thread.join();
                result.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            })
        })?;
        let idle = Duration::from_nanos(idle.into_inner());
        Ok((start.elapsed(), idle))
    }

    /// Runs a packet of the kernel's through the program that sends it to a line; a `TC_ACT_*`.
    pub fn send(&mut self, packet: &[u8]) -> Result<u32> {
        let name = program::TC_EGRESS;
        let program: &SchedClassifier = self.ebpf.program(name).context(name)?.try_into()?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(packet),
            ..TestRunOptions::default()
        })?;
        Ok(result.return_value)
    }

    /// Sets a row of the filters.
    pub fn follow(&mut self, row: u32, filter: TraceFilter) -> Result<()> {
        let map = self.ebpf.map_mut(map::TRACE_FILTERS);
        let mut rows: Array<_, TraceFilter> = map.context("TRACE_FILTERS")?.try_into()?;
        Ok(rows.set(row, filter, 0)?)
    }

    /// What the programs have told of followed packets since the last call.
    pub fn told(&mut self) -> Result<Vec<TraceEvent>> {
        let mut told = Vec::new();
        while let Some(record) = self.trace.next() {
            let (event, _) = record::split(&record).context("a short record")?;
            told.push(event);
        }
        Ok(told)
    }

    /// Followed packets that the programs could not tell of.
    pub fn lost(&self) -> Result<u64> {
        let map = self.ebpf.map(map::TRACE_SCRATCH).context("TRACE_SCRATCH")?;
        let scratch: PerCpuArray<_, TraceScratch> = map.try_into()?;
        Ok(scratch.get(&0, 0)?.iter().map(|cpu| cpu.lost).sum())
    }

    /// Bytes of an XDP program as the kernel runs it.
    pub fn translated(&self, name: &str) -> Result<u32> {
        Ok(self.xdp(name)?.info()?.size_translated().unwrap_or(0))
    }

    fn xdp(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name).context("no such program")?;
        Ok(program.try_into()?)
    }

    /// Instructions that the kernel's verifier went through for an XDP program; none where the kernel
    /// does not tell.
    pub fn verified(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.xdp(name)?.info()?.verified_instruction_count())
    }

    /// Packets counted under a reason.
    pub fn count(&self, reason: Reason) -> Result<u64> {
        Ok(self
            .reasons
            .get(&u32::from(reason.number()), 0)?
            .iter()
            .sum())
    }

    /// Packets counted under all reasons.
    pub fn total(&self) -> Result<u64> {
        Reason::ALL.iter().map(|reason| self.count(*reason)).sum()
    }

    /// What a session has counted on all CPUs.
    pub fn tally(&self, slot: Slot, direction: Direction) -> Result<Tally> {
        let accounts: Array<_, [u64; ACCOUNT_WORDS]> = self
            .ebpf
            .map(map::ACCOUNTS)
            .context("ACCOUNTS")?
            .try_into()?;
        let slots = account::slots(MAX_SESSIONS);
        let at = match direction {
            Direction::Upstream => 0,
            Direction::Downstream => ACCOUNT_WORDS / 2,
        };
        let mut sum = Tally::default();
        for cpu in 0..accounts.len() / slots {
            let words = accounts.get(&(cpu * slots + slot), 0)?;
            sum.packets += words[at];
            sum.bytes += words[at + 1];
            sum.policed += words[at + 2];
        }
        Ok(sum)
    }

    /// The next record of the punt ring.
    pub fn next_punt(&mut self) -> Option<Vec<u8>> {
        self.punt.next().map(|record| record.to_vec())
    }
}

const ACCOUNT_WORDS: usize = size_of::<Account>() / 8;
const LIVENESS_WORDS: usize = size_of::<Liveness>() / 8;
const POLICERS_WORDS: usize = size_of::<Policers>() / 8;

fn words(policers: &Policers) -> [u64; POLICERS_WORDS] {
    let Policers {
        upstream,
        downstream,
    } = policers;
    [
        &upstream.spent_until_ns,
        &upstream.rate,
        &downstream.spent_until_ns,
        &downstream.rate,
    ]
    .map(Word::get)
}

fn split_meta(out: &[u8]) -> Option<(OperatorIndex, &[u8])> {
    let (meta, frame) = out.split_first_chunk::<8>()?;
    let word = |at: usize| meta[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
    let half = |at: usize| meta[at..at + 2].try_into().map(u16::from_ne_bytes).ok();
    let meta = PassMeta {
        magic: word(0)?,
        operator: half(4)?,
        flags: half(6)?,
    };
    meta.is_valid().then_some((meta.operator, frame))
}

fn fill_cells<K: Key + Pod + Eq + Hash, V: Pod + PartialEq>(
    ebpf: &mut Ebpf,
    name: &'static str,
    layout: Layout,
    rows: &HashMap<K, V>,
) -> Result<()> {
    let Some(Map::Array(data)) = ebpf.map(name) else {
        bail!("no array {name}");
    };
    let mut table = CellTable::open(data, name, layout)?;
    for (key, value) in rows {
        table.upsert(key, value)?;
    }
    Ok(())
}

fn fill<K: Pod, V: Pod>(ebpf: &mut Ebpf, name: &str, rows: &HashMap<K, V>) -> Result<()> {
    let map = ebpf
        .map_mut(name)
        .with_context(|| format!("no map {name}"))?;
    let mut map: BpfHashMap<_, K, V> = map.try_into()?;
    for (key, value) in rows {
        map.insert(key, value, 0)?;
    }
    Ok(())
}
