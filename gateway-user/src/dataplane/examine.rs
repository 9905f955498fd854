//! What the programs would do with packets that nobody has sent: a copy of them, run by
//! `BPF_PROG_TEST_RUN`, as if the packets had come in by a port.
//!
//! The copy is of the object in use and decides by the same pinned maps as the programs on the ports.
//! Where it would be noticed it has maps of its own: it counts under no reason, hands nothing to the
//! daemon, uses up no line's limits, and no trace sees it. It cannot have a session's account of its
//! own: what it lets on, or polices, counts there like any packet.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use aya::Ebpf;
use aya::maps::{Array, RingBuf};
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp};
use doorstep_gateway_common::names::{map, program};
use doorstep_gateway_common::record;
use doorstep_gateway_common::trace::{TraceEvent, TraceFilter};
use thiserror::Error;
use tokio::task::spawn_blocking;

use super::ports::{Port, Role};
use super::running::Running;
use super::{DataplaneError, maps};

/// Bytes that the kernel runs a program with at the most: a page, without what it keeps of it for
/// itself (`bpf_prog_test_run_xdp`). And the fewest: an Ethernet header.
pub const FRAME_BYTES: std::ops::RangeInclusive<usize> = 14..=3_500;

/// Maps in which a packet that nobody has sent would be noticed.
const OWN: [&str; 6] = [
    map::REASONS,
    map::LIMITS,
    map::LIMIT_ALL,
    map::PUNT,
    map::TRACE,
    map::TRACE_FILTERS,
];

/// What a driver does with a packet, by the number that an XDP program returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Aborted = 0,
    Drop = 1,
    Pass = 2,
    Tx = 3,
    Redirect = 4,
}

impl Action {
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Aborted),
            1 => Some(Self::Drop),
            2 => Some(Self::Pass),
            3 => Some(Self::Tx),
            4 => Some(Self::Redirect),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Tx => "tx",
            Self::Redirect => "redirect",
        }
    }
}

/// What became of a packet, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examined {
    pub action: Action,
    pub event: TraceEvent,
}

#[derive(Debug, Error)]
pub enum ExamineError {
    #[error("the daemon is stopping")]
    Stopping,
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    #[error("packet {number}: the kernel does not run it: {source}")]
    Refused {
        number: usize,
        source: Box<ProgramError>,
    },
    #[error("packet {number}: the program returned {action}, which is no action")]
    NoAction { number: usize, action: u32 },
    #[error("packet {number}: the program did not tell what it did")]
    NotTold { number: usize },
}

/// Has packets examined, those of one question at a time.
#[derive(Clone, Default)]
pub struct Examiner {
    running: Weak<Mutex<Running>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Examiner {
    pub(super) fn new(running: &Arc<Mutex<Running>>) -> Self {
        Self {
            running: Arc::downgrade(running),
            turn: Arc::default(),
        }
    }

    /// What would become of these frames, each of [`FRAME_BYTES`], if they came in by this port now, one
    /// after the other. Waits for the kernel to verify the copy.
    pub async fn examine(
        &self,
        port: Port,
        frames: Vec<Vec<u8>>,
    ) -> Result<Vec<Examined>, ExamineError> {
        let _turn = self.turn.lock().await;
        let running = self.running.clone();
        let done = spawn_blocking(move || {
            let mut twin = Twin::load(&running, &port)?;
            let numbered = (1..).zip(&frames);
            numbered
                .map(|(number, frame)| twin.run(number, frame))
                .collect()
        });
        // Only when the runtime goes does it drop what has not begun.
        done.await.unwrap_or(Err(ExamineError::Stopping))
    }
}

/// The program of a port, once more.
struct Twin {
    ebpf: Ebpf,
    name: &'static str,
    ifindex: u32,
    told: RingBuf<aya::maps::MapData>,
}

impl Twin {
    fn load(running: &Weak<Mutex<Running>>, port: &Port) -> Result<Self, ExamineError> {
        let name = match port.role {
            Role::Access => program::XDP_ACCESS,
            Role::Uplink => program::XDP_UPLINK,
        };
        // Held no longer: a daemon that sets all up anew waits for nobody who examines packets.
        let mut ebpf = {
            let running = running.upgrade().ok_or(ExamineError::Stopping)?;
            let running = running.lock().unwrap_or_else(PoisonError::into_inner);
            running.beside(&OWN)?
        };
        xdp(&mut ebpf, name)?.load().map_err(failed(name))?;
        let told =
            RingBuf::try_from(own(&mut ebpf, map::TRACE)?).map_err(maps::error(map::TRACE))?;
        let rows = own(&mut ebpf, map::TRACE_FILTERS)?;
        let mut rows: Array<_, TraceFilter> =
            rows.try_into().map_err(maps::error(map::TRACE_FILTERS))?;
        let any = TraceFilter {
            flags: TraceFilter::ENABLED,
            ..TraceFilter::default()
        };
        rows.set(0, any, 0)
            .map_err(maps::error(map::TRACE_FILTERS))?;
        Ok(Self {
            ebpf,
            name,
            ifindex: port.ifindex,
            told,
        })
    }

    fn run(&mut self, number: usize, frame: &[u8]) -> Result<Examined, ExamineError> {
        let context = context(frame.len(), self.ifindex);
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = xdp(&mut self.ebpf, self.name)?.test_run(options);
        let action = result
            .map_err(|source| ExamineError::Refused {
                number,
                source: Box::new(source),
            })?
            .return_value;
        let action =
            Action::from_number(action).ok_or(ExamineError::NoAction { number, action })?;
        let told = self.told.next();
        let event = told.and_then(|told| Some(record::split::<TraceEvent>(&told)?.0));
        Ok(Examined {
            action,
            event: event.ok_or(ExamineError::NotTold { number })?,
        })
    }
}

/// A `struct xdp_md` (`linux/bpf.h`): the whole frame, on the first queue of a port.
fn context(length: usize, ifindex: u32) -> [u8; 24] {
    let end = u32::try_from(length).unwrap_or(u32::MAX);
    let [data, data_meta, rx_queue, egress] = [0; 4];
    let fields = [data, end, data_meta, ifindex, rx_queue, egress];
    let mut bytes = [0; 24];
    for (place, field) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(fields) {
        *place = u32::to_ne_bytes(field);
    }
    bytes
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut Xdp, DataplaneError> {
    let found = ebpf.program_mut(name);
    let found = found.ok_or_else(|| failed(name)(ProgramError::NotLoaded))?;
    found.try_into().map_err(failed(name))
}

/// A map of the copy's; the programs keep it alive.
fn own(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, DataplaneError> {
    let missing = || aya::maps::MapError::InvalidName {
        name: name.to_owned(),
    };
    ebpf.take_map(name)
        .ok_or_else(|| maps::error(name)(missing()))
}

fn failed(program: &'static str) -> impl FnOnce(ProgramError) -> DataplaneError {
    move |source| DataplaneError::Program {
        program,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_is_the_kernels() {
        let word = |context: &[u8; 24], at: usize| {
            let bytes = context[at * 4..][..4].try_into().expect("four bytes");
            u32::from_ne_bytes(bytes)
        };
        let context = context(98, 7);
        let words: Vec<u32> = (0..6).map(|at| word(&context, at)).collect();
        // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        assert_eq!(words, [0, 98, 0, 7, 0, 0]);
    }

    #[test]
    fn actions_are_those_of_xdp() {
        let names: Vec<_> = (0..6)
            .map_while(Action::from_number)
            .map(|action| (action as u32, action.name()))
            .collect();
        let expected = [
            (0, "aborted"),
            (1, "drop"),
            (2, "pass"),
            (3, "tx"),
            (4, "redirect"),
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_decides_is_not_a_map_of_its_own() {
        for name in OWN {
            assert!(map::PINNED.contains(&name), "{name}");
        }
        for name in [
            map::UPSTREAM_V4,
            map::DOWNSTREAM_V6,
            map::LINES,
            map::OPERATORS,
            map::UPLINKS,
            map::GARDEN,
            map::POLICERS,
        ] {
            assert!(!OWN.contains(&name), "{name}");
        }
    }

    #[tokio::test]
    async fn without_a_data_plane_there_is_no_answer() {
        let port = Port {
            name: "access0".to_owned(),
            ifindex: 7,
            mac: doorstep_establish::Mac([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            role: Role::Access,
            shaper: false,
            xdp_mode: "",
            state: super::super::ports::State::Up,
        };
        let examined = Examiner::default().examine(port, Vec::new()).await;
        assert!(matches!(examined, Err(ExamineError::Stopping)));
    }
}
