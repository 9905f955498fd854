//! Sessions opened and closed through the daemon's own code.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use doorstep_gateway::config::Config;
use doorstep_gateway::dataplane::{Dataplane, InUse};
use doorstep_gateway::plan::{Plan, Tables};
use doorstep_gateway::session::SessionEntry;
use doorstep_gateway_common::names::SCHEMA_VERSION;
use doorstep_gateway_common::{LineKey, LineValue};
use doorstep_tests::lab::bpffs;
use doorstep_tests::lab::cleanup::{Folder, Guard};
use serde::Serialize;

use crate::lab::{self, Lab, UPLINK};
use crate::machine::memory_kib;
use crate::memory::Memory;
use crate::percentile::percentile;
use crate::rows::median;
use crate::{rates, subscriber};

/// How fast sessions come and go. All are dual-stack, policed, on lines with two tags.
#[derive(Clone, Debug, Serialize)]
pub struct Sessions {
    /// Sessions opened in each round.
    pub sessions: u32,
    /// `Dataplane::apply` of one plan with all of them; median.
    pub sessions_per_s: f64,
    /// The same with making the plan; median.
    pub sessions_per_s_with_plan: f64,
    /// `Dataplane::open_session`, one at a time; median.
    pub sessions_per_s_singly: f64,
    pub receipt: Receipt,
    pub memory: Memory,
}

/// `Dataplane::close_session`: rows removed, every program run that could still forward ended,
/// final counters read. The receipt's commit to the journal comes on top.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// Sessions closed, one after the other.
    pub closed: usize,
    /// Microseconds.
    pub us_p50: f64,
    pub us_p99: f64,
    pub us_max: f64,
}

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    pub sessions: u32,
    pub rounds: usize,
    pub receipts: usize,
}

/// Measures in a lab of its own.
pub fn measure(amount: Amount) -> Result<Sessions> {
    let lab = Lab::new()?;
    let uplink = &lab.gateway;
    uplink.ip(&format!("addr add 192.0.2.2/30 dev {UPLINK}"))?;
    uplink.ip(&format!("addr add 2001:db8:ff00::2/64 dev {UPLINK} nodad"))?;
    let host = Host::new(amount.sessions)?;
    let ifindex = lab.access.ifindex;
    lab.gateway.run(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(in_namespace(&host, ifindex, amount))
    })?
}

/// A gateway's configuration, and a place for its pins.
struct Host {
    config: Config,
    maps: PathBuf,
    // The file system must go before the folder that it lies in.
    _bpffs: Guard,
    _folder: Folder,
}

impl Host {
    fn new(max_sessions: u32) -> Result<Self> {
        let folder = Folder::new()?;
        let bpf = folder.path().join("bpf");
        let mounted = bpffs::mount(&bpf)?;
        let server = "url = \"https://192.0.2.1:7443\"";
        let text = lab::gateway_config("bench", max_sessions, "", "", server);
        Ok(Self {
            config: Config::parse(&folder.path().join("gateway.toml"), &text)?,
            maps: bpf.join(format!("doorstep/v{SCHEMA_VERSION}/maps")),
            _bpffs: mounted,
            _folder: folder,
        })
    }
}

async fn in_namespace(host: &Host, ifindex: u32, amount: Amount) -> Result<Sessions> {
    let service = rates::policed(amount.sessions);
    let entries: Vec<SessionEntry> = (0..amount.sessions)
        .map(|i| subscriber::entry(i, ifindex, service))
        .collect::<Result<_>>()?;
    let lines: Vec<(LineKey, LineValue)> = entries
        .iter()
        .map(|entry| (entry.line.key, LineValue::default()))
        .collect();
    let removal = Plan::diff(&Tables::default(), &Tables::of(&entries));
    let available = || memory_kib("MemAvailable").and_then(|kib| i64::try_from(kib).ok());
    let available_before = available();
    let mut dataplane = Dataplane::open(&host.config, InUse::default()).await?;
    dataplane.set_lines(&lines, &Tables::default())?;
    dataplane.attach()?;

    let (mut applied, mut planned, mut singly) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..amount.rounds {
        let start = Instant::now();
        let plan = Plan::diff(&Tables::of(&entries), &Tables::default());
        let made = start.elapsed();
        dataplane.apply(&plan)?;
        let done = start.elapsed();
        applied.push(per_second(amount.sessions, done - made));
        planned.push(per_second(amount.sessions, done));
        dataplane.apply(&removal)?;
    }
    for _ in 0..amount.rounds {
        let start = Instant::now();
        for entry in &entries {
            dataplane.open_session(entry)?;
        }
        singly.push(per_second(amount.sessions, start.elapsed()));
        if singly.len() < amount.rounds {
            dataplane.apply(&removal)?;
        }
    }
    let fell = available_before
        .zip(available())
        .map(|(before, after)| before - after);
    let memory = Memory::read(&host.maps, amount.sessions, fell)?;
    let receipt = receipts(&mut dataplane, &entries, amount.receipts)?;
    drop(dataplane);
    Dataplane::detach(&host.config).await?;
    Ok(Sessions {
        sessions: amount.sessions,
        sessions_per_s: median(&applied),
        sessions_per_s_with_plan: median(&planned),
        sessions_per_s_singly: median(&singly),
        receipt,
        memory,
    })
}

/// Closes sessions spread over all of them.
fn receipts(dataplane: &mut Dataplane, entries: &[SessionEntry], count: usize) -> Result<Receipt> {
    let step = (entries.len() / count.max(1)).max(1);
    let mut times = Vec::new();
    for entry in entries.iter().step_by(step).take(count) {
        let start = Instant::now();
        dataplane.close_session(entry)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(Receipt {
        closed: times.len(),
        us_p50: percentile(&times, 50).context("no session was closed")?,
        us_p99: percentile(&times, 99).context("no session was closed")?,
        us_max: percentile(&times, 100).context("no session was closed")?,
    })
}

fn per_second(sessions: u32, took: Duration) -> f64 {
    f64::from(sessions) / took.as_secs_f64()
}
