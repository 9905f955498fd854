//! `doorstep-bench program`: how long an empty gateway takes to have all its bindings.
//!
//! Two ways lead there. A gateway without a journal is told every binding by its operator's server:
//! it checks and records each, durably, acknowledges it, and begins to ask the terminal. A gateway
//! whose host has started again has the journal and empty maps: it reads the one and fills the
//! others. Between the two lie the terminals' answers, which are limited on purpose and are not
//! measured: the journal is told that all terminals have answered.

pub mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_gateway::config::Config;
use doorstep_gateway::dataplane::{Dataplane, InUse};
use doorstep_gateway::engine::row::{Opened, Phase, Write};
use doorstep_gateway::inventory::Inventory;
use doorstep_gateway::journal::Journal;
use doorstep_gateway::{daemon, runtime};
use doorstep_proto::v1;
use doorstep_tests::lab::bpffs;
use doorstep_tests::lab::cleanup::{Folder, Guard};
use ipnet::Ipv6Net;
use nix::net::if_::if_nametoindex;
use nix::unistd::Uid;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::server::process_cpu;
use crate::asked::write;
use crate::lab::{self, ACCESS, Lab, UPLINK};
use crate::machine::Machine;
use crate::{shared, subscriber};

/// Of the report's structure. A field that changes its meaning makes a new one.
const SCHEMA: u32 = 2;

/// As many as the figures in docs/performance.md are for.
pub const BINDINGS: u32 = 100_000;

/// Tell an empty gateway all its bindings, and start it again with empty maps.
#[derive(clap::Args)]
pub struct Args {
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Dual-stack sessions with rates, on lines with two tags.
    #[arg(long, default_value_t = BINDINGS)]
    bindings: u32,
}

/// How long it took, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Program {
    pub bindings: u32,
    /// All of it: `acknowledged_s` and `forwarding_s`.
    pub seconds: f64,
    /// From the first Connect on the stream until the last of them is in the journal and
    /// acknowledged.
    pub acknowledged_s: f64,
    /// What the gateway computed meanwhile, on all CPUs, and the server that told it everything.
    pub acknowledged_cpu_s: f64,
    pub server_cpu_s: f64,
    /// From opening the journal until every row is in the maps, which were empty, that of the lines
    /// included.
    pub forwarding_s: f64,
    /// What the gateway computed meanwhile, on all CPUs.
    pub forwarding_cpu_s: f64,
    /// The part of it that opens the journal and checks it against the configuration.
    pub admitted_s: f64,
    /// Rows in the maps of sessions.
    pub rows: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    machine: Machine,
    program: Program,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        Uid::effective().is_root(),
        "this makes network namespaces and loads programs, which needs root"
    );
    let machine = Machine::read(None)?;
    let program = measure(args.bindings)?;
    println!(
        "{} bindings in {:.2} s: {:.2} s until all are acknowledged (CPU: the gateway {:.2} s, its \
         server {:.2} s), {:.2} s from the journal into the maps (CPU {:.2} s; {} rows; {:.2} s of it \
         until the journal is open)",
        program.bindings,
        program.seconds,
        program.acknowledged_s,
        program.acknowledged_cpu_s,
        program.server_cpu_s,
        program.forwarding_s,
        program.forwarding_cpu_s,
        program.rows,
        program.admitted_s
    );
    if let Some(path) = &args.json {
        let report = Report {
            schema: SCHEMA,
            machine,
            program,
        };
        write(path, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures in a lab of its own.
pub fn measure(bindings: u32) -> Result<Program> {
    let lab = Lab::new()?;
    let gateway = &lab.gateway;
    gateway.ip("link set lo up")?;
    gateway.ip(&format!("addr add 192.0.2.2/30 dev {UPLINK}"))?;
    gateway.ip(&format!("addr add 2001:db8:ff00::2/64 dev {UPLINK} nodad"))?;
    let host = Host::new(bindings)?;
    gateway.run(move || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(in_namespace(&host, bindings))
    })?
}

async fn in_namespace(host: &Host, bindings: u32) -> Result<Program> {
    let connects = (0..bindings).map(connect).collect::<Result<_>>()?;
    let mut server = server::Programmer::start(host.folder.path(), connects)?;
    let config = host.config(bindings, server.address.port())?;
    let stop = CancellationToken::new();
    let mut gateway = std::pin::pin!(daemon::run(config.clone(), stop.clone()));
    let acknowledged = tokio::select! {
        ended = &mut gateway => {
            ended?;
            anyhow::bail!("the gateway has ended by itself");
        }
        took = server.programmed() => took?,
    };
    stop.cancel();
    gateway.await?;
    // As after a start of the host.
    Dataplane::detach(&config).await?;
    answer_all(&config)?;
    let forwarding = forward(config.clone()).await;
    Dataplane::detach(&config).await?;
    let Forwarding {
        took,
        cpu,
        admitted,
        rows,
    } = forwarding?;
    Ok(Program {
        bindings,
        seconds: (acknowledged.took + took).as_secs_f64(),
        acknowledged_s: acknowledged.took.as_secs_f64(),
        acknowledged_cpu_s: (acknowledged.cpu - acknowledged.server_cpu).as_secs_f64(),
        server_cpu_s: acknowledged.server_cpu.as_secs_f64(),
        forwarding_s: took.as_secs_f64(),
        forwarding_cpu_s: cpu.as_secs_f64(),
        admitted_s: admitted.as_secs_f64(),
        rows,
    })
}

/// Records that every terminal has answered.
fn answer_all(config: &Config) -> Result<()> {
    let journal = Journal::admit(&mut config.clone())?;
    let mut writes = Vec::new();
    for (session, mut row) in journal.load()?.sessions {
        let number = u32::try_from(session.session.as_u128() - 1)?;
        row.phase = Phase::Established(Opened {
            mac: subscriber::mac(number),
            at_unix_ms: 0,
        });
        writes.push(Write::PutSession(session, Box::new(row)));
    }
    Ok(journal.commit(&writes)?)
}

struct Forwarding {
    took: Duration,
    cpu: Duration,
    admitted: Duration,
    rows: usize,
}

/// What the daemon does of a start, from the journal to the maps; loading the programs is left out.
async fn forward(mut config: Config) -> Result<Forwarding> {
    let (start, cpu) = (Instant::now(), process_cpu());
    let journal = Journal::admit(&mut config)?;
    let (admitted, admitted_cpu) = (start.elapsed(), process_cpu() - cpu);
    let port = |name: &str| if_nametoindex(name).ok();
    let inventory = Arc::new(Inventory::load(&config.inventory, port)?);
    let mut dataplane = Dataplane::open(&config, InUse::default()).await?;
    let settings = daemon::settings(&config, &dataplane, inventory);
    let (start, cpu) = (Instant::now(), process_cpu());
    runtime::recover(settings, &journal, &mut dataplane, &port)?;
    let took = admitted + start.elapsed();
    let cpu = admitted_cpu + (process_cpu() - cpu);
    let tables = dataplane.tables()?;
    let rows = [
        tables.upstream_v4.len(),
        tables.upstream_v6.len(),
        tables.downstream_v4.len(),
        tables.downstream_v6.len(),
    ];
    Ok(Forwarding {
        took,
        cpu,
        admitted,
        rows: rows.iter().sum(),
    })
}

/// The files of a gateway: certificates, and an inventory with the lines of the subscribers.
pub struct Host {
    // The file system must go before the folder that it lies in.
    _bpffs: Guard,
    pub folder: Folder,
}

impl Host {
    pub fn new(bindings: u32) -> Result<Self> {
        let folder = Folder::new()?;
        let mounted = bpffs::mount(&folder.path().join("bpf"))?;
        server::certificates(folder.path())?;
        let mut inventory = "location,port,s_vlan,c_vlan\n".to_owned();
        for i in 0..bindings {
            let (s_vid, c_vid) = shared::vlans(i);
            inventory += &format!("{},{ACCESS},{s_vid},{c_vid}\n", location(i));
        }
        std::fs::write(folder.path().join("inventory.csv"), inventory)?;
        Ok(Self {
            _bpffs: mounted,
            folder,
        })
    }

    fn config(&self, max_sessions: u32, port: u16) -> Result<Config> {
        let text = lab::gateway_config(
            server::GATEWAY,
            max_sessions,
            "admin_socket = \"admin.sock\"",
            "",
            &format!(
                "url = \"https://127.0.0.1:{port}\"\nserver_name = \"{}\"",
                server::SERVER
            ),
        );
        Ok(Config::parse(
            &self.folder.path().join("gateway.toml"),
            &text,
        )?)
    }
}

fn location(i: u32) -> String {
    let (building, unit, room) = (1 + i / 1_000_000, 1 + i / 1000 % 1000, i % 1000);
    format!("110103-bench-{building:03}-{unit:03}-{room:03}")
}

/// The binding of subscriber `i`.
pub fn connect(i: u32) -> Result<v1::Connect> {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&i.to_be_bytes());
    let ipv6 = Ipv6Net::new(subscriber::ipv6(i), subscriber::DELEGATED_LEN)?;
    Ok(v1::Connect {
        session_id: Uuid::from_u128(u128::from(i) + 1).to_string(),
        generation: 1,
        location_id: location(i),
        session_key: key.to_vec(),
        ipv4_address: subscriber::ipv4(i).to_string(),
        ipv6_prefix: ipv6.to_string(),
        dns: vec!["192.0.2.53".into(), "2001:db8:ff00::53".into()],
        mtu: subscriber::LINE_MTU.into(),
        service: Some(v1::Service {
            upstream_bps: 50_000_000,
            downstream_bps: 300_000_000,
            ..v1::Service::default()
        }),
        ..v1::Connect::default()
    })
}
