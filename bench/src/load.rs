//! The benchmark's own programs: generator, sink and bare redirect.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, GlobalData, Pod};
use doorstep_establish::Mac;
use doorstep_tests::lab::netns::Netns;

use crate::gateway::xdp;
use crate::shared::{MIX, Order, Seen, Template};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("BENCH_OBJECT"));

/// Frames that the kernel makes at a time.
pub const BATCH: u32 = 64;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared<T>(T);

// SAFETY: these are `repr(C)`, made of integers only, and without implicit padding.
unsafe impl Pod for Shared<Order> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Seen> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Template> {}

/// How long frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// 64 bytes each, with the frame check sequence.
    #[serde(rename = "64")]
    Small,
    /// Of twelve frames seven of 64, four of 594 and one of 1518 bytes.
    Imix,
}

impl Size {
    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "64",
            Self::Imix => "imix",
        }
    }

    /// Length of the generator's template.
    const fn template(self) -> usize {
        match self {
            Self::Small => MIX[0].1 as usize,
            Self::Imix => MIX[MIX.len() - 1].1 as usize,
        }
    }
}

/// From where to where, and with which link layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From homes, two tags.
    Up,
    /// From homes, no tags.
    UpUntagged,
    /// From the world.
    Down,
}

impl Traffic {
    const fn generator(self) -> &'static str {
        match self {
            Self::Up => "generate_up",
            Self::UpUntagged => "generate_up_untagged",
            Self::Down => "generate_down",
        }
    }
}

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub traffic: Traffic,
    pub size: Size,
    pub sessions: u32,
    pub packets: u32,
    /// The port that the frames leave by.
    pub ifindex: u32,
    /// The gateway's port that they are for.
    pub destination: Mac,
    /// The router's MAC address, for frames from the world.
    pub source: Mac,
    /// For the random numbers.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// From the first frame made to the last. Around that the kernel waits twice for a grace
    /// period of RCU, as long as for some ten thousand frames.
    pub took: Duration,
    pub seen: Seen,
}

/// The loaded programs.
pub struct Load {
    ebpf: Ebpf,
    order: Array<MapData, Shared<Order>>,
    seen: PerCpuArray<MapData, Shared<Seen>>,
    template: Array<MapData, Shared<Template>>,
    next: ProgramArray<MapData>,
}

impl Load {
    /// `out` is the ifindex that the bare redirect sends to.
    pub fn new(out: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.override_global("OUT_IFINDEX", GlobalData::from(&out), true);
        let mut ebpf = loader
            .load(OBJECT)
            .context("loading the benchmark's object")?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("loading {name}"))?;
        }
        let mut map = |name: &str| ebpf.take_map(name).with_context(|| name.to_owned());
        Ok(Self {
            order: map("ORDER")?.try_into()?,
            seen: map("SEEN")?.try_into()?,
            template: map("TEMPLATE")?.try_into()?,
            next: map("NEXT")?.try_into()?,
            ebpf,
        })
    }

    pub fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        xdp(&mut self.ebpf, name)
    }

    /// Generates frames from inside that namespace, and waits until the last of them has arrived
    /// or is lost. The calling thread ends up in the namespace.
    pub fn send(&mut self, from: &Netns, wanted: &Wanted) -> Result<Sent> {
        from.enter()?;
        let order = Order {
            state: wanted.seed,
            destination: number(wanted.destination),
            source: number(wanted.source),
            sessions: wanted.sessions,
            ifindex: wanted.ifindex,
            mix: u32::from(wanted.size == Size::Imix),
            packets: wanted.packets,
            ..Order::default()
        };
        self.order.set(0, Shared(order), 0)?;
        let before = self.seen()?;
        let template = vec![0; wanted.size.template()];
        let name = wanted.traffic.generator();
        let generator = xdp(&mut self.ebpf, name)?;
        let options = TestRunOptions {
            data_in: Some(&template),
            repeat: wanted.packets,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::default()
        };
        generator
            .test_run(options)
            .with_context(|| format!("running {name} with live frames (Linux 5.18 or newer)"))?;
        let Shared(order) = self.order.get(&0, 0)?;
        ensure!(
            order.made == wanted.packets,
            "{name} made {} frames instead of {}",
            order.made,
            wanted.packets
        );
        let took = Duration::from_nanos(order.last_ns - order.first_ns);
        let after = self.settled()?;
        Ok(Sent {
            took,
            seen: Seen {
                packets: after.packets - before.packets,
                bytes: after.bytes - before.bytes,
            },
        })
    }

    /// What the sink has seen once nothing arrives any more.
    fn settled(&self) -> Result<Seen> {
        let mut last = self.seen()?;
        loop {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.seen()?;
            if now.packets == last.packets {
                return Ok(now);
            }
            last = now;
        }
    }

    fn seen(&self) -> Result<Seen> {
        let values = self.seen.get(&0, 0)?;
        Ok(values.iter().fold(Seen::default(), |sum, cpu| Seen {
            packets: sum.packets + cpu.0.packets,
            bytes: sum.bytes + cpu.0.bytes,
        }))
    }

    /// Sets the frame that `restore` puts back.
    pub fn set_template(&mut self, template: Template) -> Result<()> {
        Ok(self.template.set(0, Shared(template), 0)?)
    }

    /// Sets the program that `restore` runs.
    pub fn set_next(&mut self, program: &Xdp) -> Result<()> {
        Ok(self.next.set(0, program.fd()?, 0)?)
    }

    /// Sets the program that `restore` runs to one that does nothing.
    pub fn set_next_to_nothing(&mut self) -> Result<()> {
        let nothing = xdp(&mut self.ebpf, "nothing")?;
        Ok(self.next.set(0, nothing.fd()?, 0)?)
    }
}

fn number(mac: Mac) -> u64 {
    mac.0
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
