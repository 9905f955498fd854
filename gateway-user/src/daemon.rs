//! The composition root: everything that runs is made and joined here.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::metrics::Metrics;
use doorstep_daemon::network::Network;
use doorstep_daemon::socket::AdminSocket;
use doorstep_daemon::supervisor;
use doorstep_daemon::traces::Traces;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::config::Config;
use crate::control::{Client, Renewal, ServerStates};
use crate::dataplane::{Attachment, Dataplane, InUse, Object, Port, PuntStream, Role};
use crate::engine::{LinePort, Settings};
use crate::inventory::Inventory;
use crate::journal::Journal;
use crate::metrics::GatewayMetrics;
use crate::runtime::{self, Feeds, Frame, FrameSender, Input, Query, Runtime};

/// Reports that may wait for a server, besides two for each session.
const REPORTS: usize = 1024;

/// Runs the gateway until told to stop. The fast path stays as it is.
///
/// A port that comes back as another device needs all that a start does; so the gateway starts
/// anew, in the same process, as a daemon that adopts what the one before has left.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let started = Instant::now();
    let object = InUse::default();
    while let End::Renewal(why) = run_once(config.clone(), &object, started, &stop).await? {
        warn!(
            why,
            "setting the data plane up anew; it forwards on meanwhile"
        );
    }
    Ok(())
}

/// Why the gateway has ended without an error.
enum End {
    Stopped,
    /// It is to start anew.
    Renewal(String),
}

async fn run_once(
    mut config: Config,
    object: &InUse,
    started: Instant,
    stop: &CancellationToken,
) -> anyhow::Result<End> {
    let stop = stop.child_token();
    let journal = Journal::admit(&mut config)?;
    info!(?config, "effective configuration");
    let inventory = Arc::new(inventory(&config)?);
    let socket = AdminSocket::bind(&config.admin_socket)?;
    let metrics = match config.metrics {
        Some(metrics) => Some(Metrics::bind(metrics).await?),
        None => None,
    };
    let mut dataplane = Dataplane::open(&config, object.clone()).await?;
    let lines = inventory.len();
    let settings = settings(&config, &dataplane, inventory.clone());
    let recovered = runtime::recover(settings, &journal, &mut dataplane, &access_port(&config))?;
    // Not before: no packet is to meet maps that are not filled yet.
    dataplane.attach()?;
    info!(
        lines,
        ports = ?dataplane.ports(),
        "data plane is up"
    );

    let mut tasks = JoinSet::new();
    let punt = dataplane.take_punt().context("the punt ring is taken")?;
    let follower = dataplane.take_follower().context("the follower is taken")?;
    let uplinks = follower.states();
    if let Some(log) = dataplane.take_log() {
        tasks.spawn(log);
    }

    let tracing = dataplane.take_tracing().context("tracing is taken")?;
    let tracer = dataplane.tracer();
    let examiner = dataplane.examiner();
    let injector = dataplane.injector();
    let transmit = Box::new(move |ifindex, frame: &[u8]| injector.send(ifindex, frame));
    let traces = Traces::start(config.traces.as_ref(), "doorstep-gateway", &config.id)?;
    let (runtime, feeds) = Runtime::start(recovered, journal, dataplane, transmit)?;
    let runtime = runtime.told_to(traces);

    let Feeds { inputs, frames } = feeds;
    let states = ServerStates::default();
    let mut clients = JoinSet::new();
    for operator in &config.operators {
        let (states_now, index, uplink) =
            (uplinks.clone(), operator.index, operator.uplink.clone());
        let client = Client {
            gateway_id: config.id.clone(),
            operator: operator.clone(),
            capacity: REPORTS + 2 * config.max_sessions as usize,
            events: inputs.clone(),
            states: states.clone(),
            network: Network::default(),
            uplink: Arc::new(move || states_now.problem(index, &uplink)),
        };
        clients.spawn(client.run(stop.clone()));
        let renewal = Renewal {
            gateway_id: config.id.clone(),
            operator: operator.name.clone(),
            server: operator.server.clone(),
        };
        clients.spawn(renewal.run(stop.clone()));
    }
    let alive = {
        let inputs = inputs.clone();
        move || answers(inputs.clone())
    };
    clients.spawn(supervisor::follow(alive, stop.clone()));
    let punts = follow_punts(punt, frames);
    let tracing = tokio::spawn(tracing.run(stop.clone()));
    if let Some(metrics) = metrics {
        let source = GatewayMetrics {
            config: config.clone(),
            uplinks: uplinks.clone(),
            servers: states.clone(),
            inputs: inputs.clone(),
            journal: runtime.journal_measures(),
            started,
        };
        clients.spawn(metrics.serve(source, stop.clone()));
    }
    let admin = Admin {
        config,
        inventory,
        tracer,
        examiner,
        uplinks,
        servers: states,
        inputs,
        started,
    };
    let admin = tokio::spawn(socket.serve(admin.router(), stop.clone()));

    let mut runtime = pin!(runtime.run(stop.clone()));
    let (ended, end) = tokio::select! {
        result = &mut runtime => (Some(result), Ok(End::Stopped)),
        // Without its frames no session can be established: whoever supervises starts it again.
        () = punts => (None, Err(anyhow!("the punt ring cannot be read any more"))),
        why = follower.run() => (None, Ok(End::Renewal(why))),
    };
    // The loop may have ended by itself; the others follow.
    stop.cancel();
    let result = match ended {
        Some(result) => result,
        // It finishes what it has begun, and lets go of journal and data plane.
        None => runtime.await,
    };
    clients.join_all().await;
    // It has put the plain programs back.
    tracing.await.context("the task that follows packets")?;
    admin.await.context("the admin socket")??;
    tasks.shutdown().await;
    info!("stopped; the fast path forwards on");
    result.and(end)
}

/// Puts the programs of another object on the ports that a daemon has left its own on.
pub async fn upgrade(
    mut config: Config,
    object: &Object,
    run: Run,
) -> anyhow::Result<Vec<Attachment>> {
    // Held to the end, as below.
    let _journal = Journal::admit(&mut config)?;
    Ok(Dataplane::upgrade_alone(&config, object, run).await?)
}

/// Loads and attaches everything, and leaves it. The sessions of the journal are forwarded for.
pub async fn load(mut config: Config) -> anyhow::Result<Dataplane> {
    // Held to the end: a daemon that starts meanwhile would load as well.
    let journal = Journal::admit(&mut config)?;
    let inventory = Arc::new(inventory(&config)?);
    let mut dataplane = Dataplane::open(&config, InUse::default()).await?;
    let settings = settings(&config, &dataplane, inventory);
    // What else is to be done about the sessions is the daemon's.
    runtime::recover(settings, &journal, &mut dataplane, &access_port(&config))?;
    dataplane.attach()?;
    if let Some(mut follower) = dataplane.take_follower() {
        follower.resync().await?;
    }
    Ok(dataplane)
}

/// What the engine goes by, of a configuration and the ports as they are.
pub fn settings(config: &Config, dataplane: &Dataplane, inventory: Arc<Inventory>) -> Settings {
    let ports = dataplane.ports().iter();
    let access = ports.filter(|port| port.role == Role::Access);
    Settings {
        gateway_id: config.id.clone(),
        gateway_mac: dataplane.gateway_mac(),
        delegated_prefix_len: config.delegated_prefix_len,
        line_prefixes: config.line_prefixes,
        max_sessions: config.max_sessions,
        accounting_interval: Duration::from_millis(config.accounting_interval_ms),
        operators: config.operators.clone(),
        inventory,
        garden: config.garden,
        ports: access.map(line_port).collect(),
        is_traced: config.traces.is_some(),
    }
}

fn line_port(port: &Port) -> (u32, LinePort) {
    let &Port { mtu, shaper, .. } = port;
    (port.ifindex, LinePort { mtu, shaper })
}

fn inventory(config: &Config) -> anyhow::Result<Inventory> {
    for port in &config.access_ports {
        if ifindex(&port.name).is_none() {
            bail!(
                "{}: access port '{}' is not on this host; `ip link` lists what is",
                config.file.display(),
                port.name
            );
        }
    }
    Ok(Inventory::load(&config.inventory, access_port(config))?)
}

/// Interface indexes of the configured access ports, and of no other.
fn access_port(config: &Config) -> impl Fn(&str) -> Option<u32> {
    |name| {
        let known = config.access_ports.iter().any(|port| port.name == name);
        known.then(|| ifindex(name)).flatten()
    }
}

/// Index of an interface of this network namespace.
fn ifindex(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Whether the loop and the thread of the fast path answer.
async fn answers(inputs: mpsc::Sender<Input>) -> bool {
    let (reply, answer) = oneshot::channel();
    let asked = inputs.send(Input::Query(Query::Alive(reply))).await;
    asked.is_ok() && answer.await.is_ok()
}

/// Feeds the loop with frames; returns when there can be no more.
async fn follow_punts(mut punts: PuntStream, mut frames: FrameSender) {
    while let Some(punt) = punts.next().await {
        let frame = Frame {
            line: punt.line,
            bytes: punt.frame,
        };
        if !frames.offer(frame, Instant::now()) {
            // The loop has ended and says why by itself.
            return std::future::pending().await;
        }
    }
}
