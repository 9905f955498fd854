//! `doorstep-bench control`: the server under the load of a city, over the real protocol.
//!
//! The server is its own process; everything else is this one: thousands of simulated gateways, each
//! with a connection and a certificate of its own, and the terminals of all subscribers.

mod acks;
mod database;
mod fleet;
mod gateway;
mod kill9;
mod layout;
mod ledger;
mod moves;
mod overload;
mod population;
mod report;
mod server;
mod streams;
mod terminals;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::database::Kind;
use self::kill9::Kills;
use self::layout::Layout;
use self::report::{Found, Report, Settings};
use self::world::{Plan, World};
use crate::asked::{Asked, Clock};
use crate::machine::Machine;

/// Registrations at once while the population is made.
const POPULATE_AT_ONCE: u32 = 512;

/// Move subscribers between thousands of gateways as fast as the server can, and kill it meanwhile.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// What the server keeps its tables in.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "sqlite,postgres"
    )]
    databases: Vec<Kind>,
    /// Gateways, each with a stream of its own.
    #[arg(long, default_value_t = 4_000)]
    gateways: u32,
    /// Subscribers with a session each.
    #[arg(long)]
    subscribers: Option<u32>,
    /// Seconds of each measurement of moves.
    #[arg(long)]
    seconds: Option<u32>,
    /// Moves under way at once while as many as possible are made.
    #[arg(long, default_value_t = 512)]
    in_flight: usize,
    /// Moves per second whose times are measured, evenly; without it, half of as many as possible.
    #[arg(long, value_name = "PER_S")]
    offered_per_s: Option<u32>,
    /// Connections that all terminals share.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How often the server is killed while subscribers move; 0: that is left out.
    #[arg(long)]
    kills: Option<u32>,
    /// Gateways while it is killed.
    #[arg(long, default_value_t = 64)]
    kill_gateways: u32,
    /// Subscribers that move while it is killed.
    #[arg(long, default_value_t = 256)]
    kill_subscribers: u32,
    /// Threads of the load.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Settings of PostgreSQL, beside fsync=on.
    #[arg(
        long,
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        default_value = "shared_buffers=1GB,max_wal_size=8GB,wal_compression=lz4"
    )]
    postgres_settings: Vec<String>,
}

impl Args {
    fn settings(&self) -> Settings {
        let or = |quick, full| if self.asked.quick { quick } else { full };
        Settings {
            databases: self.databases.clone(),
            gateways: self.gateways,
            subscribers: self.subscribers.unwrap_or(or(20_000, 1_000_000)),
            seconds: self.seconds.unwrap_or(or(5, 20)).max(1),
            in_flight: self.in_flight.max(1),
            offered_per_s: self.offered_per_s.map(|per_s| per_s.max(1)),
            connections: self.connections.max(1),
            kills: self.kills.unwrap_or(or(3, 100)),
            kill_gateways: self.kill_gateways,
            kill_subscribers: self.kill_subscribers.max(1),
            threads: self.threads.max(1),
            postgres_settings: self.postgres_settings.clone(),
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let settings = args.settings();
    allow_files()?;
    let machine = Machine::read(None)?;
    let clock = Clock(Instant::now());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads)
        .enable_all()
        .build()?;
    let mut databases = BTreeMap::new();
    for &kind in &settings.databases {
        let found = runtime
            .block_on(measure(kind, &settings, &clock))
            .with_context(|| format!("{kind:?}"))?;
        databases.insert(kind, found);
    }
    let report = Report::new(machine, settings, databases);
    args.asked.write(&report)?;
    Ok(match report.holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn measure(kind: Kind, settings: &Settings, clock: &Clock) -> Result<Found> {
    let say = |what: std::fmt::Arguments<'_>| clock.say(format_args!("{kind:?}: {what}"));
    let gateways = settings.gateways;
    let mut world = World::start(&Plan {
        kind,
        postgres_settings: &settings.postgres_settings,
        layout: Layout::new(gateways, settings.subscribers)?,
        connections: settings.connections,
    })
    .await?;
    let streams = streams::up(&mut world).await?;
    say(format_args!(
        "{gateways} streams up in {:.1} s, {:.0} bytes each",
        streams.up_s, streams.bytes_per_stream
    ));
    let count = settings.subscribers;
    let population = population::populate(&mut world, count, POPULATE_AT_ONCE.min(count)).await?;
    say(format_args!(
        "{count} subscribers connected in {:.0} s",
        population.took_s
    ));
    world.server.database.settle()?;
    let world = Arc::new(world);
    let peak = moves::peak(&world, settings.in_flight, settings.seconds).await?;
    say(format_args!(
        "{:.0} moves/s, {} failed",
        peak.moves_per_s, peak.failed
    ));
    let offered = settings
        .offered_per_s
        .map_or(peak.moves_per_s / 2.0, f64::from);
    let latency = moves::latency(&world, offered, settings.seconds).await?;
    say(format_args!(
        "at {offered:.0} moves/s: half within {:.1} ms, 99 % within {:.1} ms, {} failed",
        latency.ms_p50.unwrap_or(f64::NAN),
        latency.ms_p99.unwrap_or(f64::NAN),
        latency.failed
    ));
    let overload = overload::measure(&world, &peak, settings.seconds).await?;
    say(format_args!(
        "with {} clients: {:.0} moves/s, {:.0} % of the peak, {:.0} refused/s, {} failed",
        overload.clients,
        overload.moves_per_s,
        overload.of_peak * 100.0,
        overload.refused_per_s,
        overload.failed
    ));
    let acks = acks::measure(&world).await?;
    say(format_args!(
        "{:.0} instructions acknowledged/s when a plan changes, {:.0} when each is asked for",
        acks.acks_per_s, acks.requested_per_s
    ));
    let restart = streams::back(&world).await?;
    say(format_args!(
        "{gateways} streams back {:.1} s after kill -9, {} instructions sent again",
        restart.back_s, restart.instructions
    ));
    let counts = &world.fleet.counts;
    let (doubled, refused) = (
        world.fleet.ledger.doubled(),
        counts.refused.load(Ordering::Relaxed),
    );
    drop(world);
    let kill9 = match settings.kills {
        0 => None,
        _ => Some(kills(kind, settings).await?),
    };
    if let Some(kills) = &kill9 {
        say(format_args!(
            "kill -9 {} times: {} acknowledged moves, {} lost, {} doubled{}",
            kills.kills,
            kills.acknowledged,
            kills.lost,
            kills.doubled,
            kills
                .first_problem
                .as_deref()
                .map_or_else(String::new, |text| format!("; {text}"))
        ));
    }
    Ok(Found {
        streams,
        population,
        peak,
        latency,
        overload,
        acks,
        restart,
        doubled,
        refused,
        kill9,
    })
}

/// In a world of its own: a smaller one starts again faster.
async fn kills(kind: Kind, settings: &Settings) -> Result<Kills> {
    let count = settings.kill_subscribers;
    let mut world = World::start(&Plan {
        kind,
        postgres_settings: &settings.postgres_settings,
        layout: Layout::new(settings.kill_gateways, count)?,
        connections: settings.connections,
    })
    .await?;
    streams::up(&mut world).await?;
    population::populate(&mut world, count, POPULATE_AT_ONCE.min(count)).await?;
    kill9::measure(&world, settings.kills).await
}

/// Every stream is a file, here and in the server, which inherits the limit.
fn allow_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}
