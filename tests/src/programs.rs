//! The loaded programs beside the host model: the same maps, the same packets.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap as BpfHashMap, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, GlobalData, Pod};
use doorstep_datapath::slice::SliceFrame;
use doorstep_datapath::{Frame as _, Tables, Verdict, downstream, rewrite, upstream};
use doorstep_gateway::dataplane::OBJECT;
use doorstep_gateway::plan;
use doorstep_gateway_common::counters::{self, Tally};
use doorstep_gateway_common::downstream::{DownstreamV4Key, DownstreamV6Key, DownstreamValue};
use doorstep_gateway_common::globals::Globals;
use doorstep_gateway_common::meta::PassMeta;
use doorstep_gateway_common::names::{GLOBALS, map, program};
use doorstep_gateway_common::operator::{OperatorValue, UplinkKey, UplinkValue};
use doorstep_gateway_common::upstream::{UpstreamV4Key, UpstreamV6Key, UpstreamValue};
use doorstep_gateway_common::{Direction, LineKey, LineValue, OperatorIndex, Reason, Slot};

/// The port that test runs come from: the loopback of the namespace.
pub const IFINDEX: u32 = 1;

const MAX_SESSIONS: u32 = 64;

/// What the maps hold, for the host model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub globals: Globals,
    pub lines: HashMap<LineKey, LineValue>,
    pub sessions: plan::Tables,
    pub operators: HashMap<OperatorIndex, OperatorValue>,
    pub uplinks: HashMap<UplinkKey, UplinkValue>,
}

impl Tables for Model {
    fn globals(&self) -> Globals {
        self.globals
    }
    fn line(&self, key: &LineKey) -> Option<&LineValue> {
        self.lines.get(key)
    }
    fn upstream_v4(&self, key: &UpstreamV4Key) -> Option<&UpstreamValue> {
        self.sessions.upstream_v4.get(key)
    }
    fn upstream_v6(&self, key: &UpstreamV6Key) -> Option<&UpstreamValue> {
        self.sessions.upstream_v6.get(key)
    }
    fn downstream_v4(&self, key: &DownstreamV4Key) -> Option<&DownstreamValue> {
        self.sessions.downstream_v4.get(key)
    }
    fn downstream_v6(&self, key: &DownstreamV6Key) -> Option<&DownstreamValue> {
        self.sessions.downstream_v6.get(key)
    }
    fn operator(&self, index: OperatorIndex) -> Option<&OperatorValue> {
        // The kernel's map is an array: what was never set is all zero.
        const NOT_SET: OperatorValue = OperatorValue {
            ifindex: 0,
            vid: 0,
            flags: 0,
            port_mac: [0; 6],
            next_hop_v4_mac: [0; 6],
            next_hop_v6_mac: [0; 6],
            mtu: 0,
            gateway_v4_be: [0; 4],
            gateway_v6_be: [0; 16],
        };
        Some(self.operators.get(&index).unwrap_or(&NOT_SET))
    }
    fn uplink(&self, key: &UplinkKey) -> Option<&UplinkValue> {
        self.uplinks.get(key)
    }
}

/// Which XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Access,
    Uplink,
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
        Side::Uplink => downstream::decide(&frame, model, IFINDEX),
    };
    let mut reason = verdict.reason();
    let action = match &verdict {
        Verdict::Drop(_) => XDP_DROP,
        Verdict::Host(_) => XDP_PASS,
        Verdict::Answer(_) => XDP_TX,
        Verdict::Punt(_) => {
            if frame.len() > doorstep_gateway_common::punt::MAX_FRAME {
                reason = Reason::PuntTooLong;
            }
            XDP_DROP
        }
        Verdict::Forward(forward) => match rewrite::forward(&mut frame, forward) {
            Ok(()) => XDP_REDIRECT,
            Err(error) => {
                reason = error;
                XDP_DROP
            }
        },
        Verdict::Kernel(to_kernel) => match to_kernel.strip {
            None => XDP_PASS,
            Some(len) => match rewrite::strip_tags(&mut frame, len, to_kernel.family) {
                Ok(()) => XDP_PASS,
                Err(error) => {
                    reason = error;
                    XDP_DROP
                }
            },
        },
    };
    let operator = match &verdict {
        Verdict::Kernel(to_kernel) if action == XDP_PASS => Some(to_kernel.operator),
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

/// The programs in the kernel, with maps of their own.
pub struct Loaded {
    ebpf: Ebpf,
    punt: RingBuf<aya::maps::MapData>,
    reasons: PerCpuArray<aya::maps::MapData, u64>,
    out: Vec<u8>,
}

impl Loaded {
    /// Loads the object and fills its maps as the model's.
    pub fn new(model: &Model) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.override_global(GLOBALS, GlobalData::from(&model.globals), true);
        for name in [
            map::UPSTREAM_V4,
            map::UPSTREAM_V6,
            map::DOWNSTREAM_V4,
            map::DOWNSTREAM_V6,
            map::LINES,
        ] {
            loader.map_max_entries(name, MAX_SESSIONS);
        }
        loader.map_max_entries(map::COUNTERS, counters::entries(MAX_SESSIONS));
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
        fill(&mut ebpf, map::UPLINKS, &model.uplinks)?;
        fill(&mut ebpf, map::UPSTREAM_V4, &model.sessions.upstream_v4)?;
        fill(&mut ebpf, map::UPSTREAM_V6, &model.sessions.upstream_v6)?;
        fill(&mut ebpf, map::DOWNSTREAM_V4, &model.sessions.downstream_v4)?;
        fill(&mut ebpf, map::DOWNSTREAM_V6, &model.sessions.downstream_v6)?;
        let mut operators: Array<_, OperatorValue> = ebpf
            .map_mut(map::OPERATORS)
            .context("OPERATORS")?
            .try_into()?;
        for (index, value) in &model.operators {
            operators.set(u32::from(*index), value, 0)?;
        }
        let punt = RingBuf::try_from(ebpf.take_map(map::PUNT).context("PUNT")?)?;
        let reasons = PerCpuArray::try_from(ebpf.take_map(map::REASONS).context("REASONS")?)?;
        Ok(Self {
            ebpf,
            punt,
            reasons,
            out: vec![0; 4096],
        })
    }

    /// Runs a frame through a program.
    pub fn run(&mut self, side: Side, frame: &[u8]) -> Result<Fate> {
        let name = match side {
            Side::Access => program::XDP_ACCESS,
            Side::Uplink => program::XDP_UPLINK,
        };
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

    /// Packets and bytes of a session.
    pub fn tally(&self, slot: Slot, direction: Direction) -> Result<Tally> {
        let counters: PerCpuArray<_, Tally> = self
            .ebpf
            .map(map::COUNTERS)
            .context("COUNTERS")?
            .try_into()?;
        let values = counters.get(&counters::index(slot, direction), 0)?;
        Ok(values.iter().fold(Tally::default(), |sum, cpu| Tally {
            packets: sum.packets + cpu.packets,
            bytes: sum.bytes + cpu.bytes,
        }))
    }

    /// The next record of the punt ring.
    pub fn next_punt(&mut self) -> Option<Vec<u8>> {
        self.punt.next().map(|record| record.to_vec())
    }
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
