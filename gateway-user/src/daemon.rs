//! The composition root: everything that runs is made and joined here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use doorstep_daemon::socket::AdminSocket;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::admin::Admin;
use crate::config::Config;
use crate::control::{Client, ServerStates};
use crate::dataplane::{Dataplane, PuntStream, Role};
use crate::engine::Settings;
use crate::inventory::Inventory;
use crate::journal::Journal;
use crate::runtime::{Feeds, Frame, FrameSender, Runtime};

/// Reports that may wait for a server, besides two for each session.
const REPORTS: usize = 1024;

/// Runs the gateway until told to stop. The fast path stays as it is.
pub async fn run(mut config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let started = Instant::now();
    let journal = Journal::admit(&mut config)?;
    info!(?config, "effective configuration");
    let inventory = Arc::new(inventory(&config)?);
    let socket = AdminSocket::bind(&config.admin_socket)?;
    let mut dataplane = Dataplane::open(&config).await?;
    info!(
        lines = inventory.len(),
        ports = ?dataplane.ports(),
        "data plane is up"
    );

    let mut tasks = JoinSet::new();
    let punt = dataplane.take_punt().context("the punt ring is taken")?;
    let next_hops = dataplane.take_next_hops().context("next hops are taken")?;
    let next_hop_states = next_hops.states();
    tasks.spawn(next_hops.run());
    if let Some(log) = dataplane.take_log() {
        tasks.spawn(log);
    }

    let settings = settings(&config, &dataplane, inventory);
    let ports = dataplane.ports().to_vec();
    let injector = dataplane.injector();
    let transmit = Box::new(move |ifindex, frame: &[u8]| injector.send(ifindex, frame));
    let (runtime, feeds) = Runtime::start(
        settings,
        journal,
        dataplane,
        transmit,
        &access_port(&config),
    )?;

    let Feeds { inputs, frames } = feeds;
    let states = ServerStates::default();
    let mut clients = JoinSet::new();
    for operator in &config.operators {
        let client = Client {
            gateway_id: config.id.clone(),
            operator: operator.clone(),
            capacity: REPORTS + 2 * config.max_sessions as usize,
            events: inputs.clone(),
            states: states.clone(),
        };
        clients.spawn(client.run(stop.clone()));
    }
    let punts = follow_punts(punt, frames);
    let admin = Admin {
        config,
        ports,
        next_hops: next_hop_states,
        servers: states,
        inputs,
        started,
    };
    let admin = tokio::spawn(socket.serve(admin.router(), stop.clone()));

    let result = tokio::select! {
        result = runtime.run(stop.clone()) => result,
        // Without its frames no session can be established: whoever supervises starts it again.
        () = punts => Err(anyhow!("the punt ring cannot be read any more")),
    };
    // The loop may have ended by itself; the others follow.
    stop.cancel();
    clients.join_all().await;
    admin.await.context("the admin socket")??;
    tasks.shutdown().await;
    info!("stopped; the fast path forwards on");
    result
}

/// Loads and attaches everything, and leaves it.
pub async fn load(mut config: Config) -> anyhow::Result<Dataplane> {
    // Held to the end: a daemon that starts meanwhile would load as well.
    let _journal = Journal::admit(&mut config)?;
    let inventory = inventory(&config)?;
    let mut dataplane = Dataplane::open(&config).await?;
    dataplane.set_lines(&inventory.map_rows())?;
    if let Some(mut next_hops) = dataplane.take_next_hops() {
        next_hops.resync().await?;
    }
    Ok(dataplane)
}

fn settings(config: &Config, dataplane: &Dataplane, inventory: Arc<Inventory>) -> Settings {
    let ports = dataplane.ports().iter();
    let access = ports.filter(|port| port.role == Role::Access);
    Settings {
        gateway_id: config.id.clone(),
        gateway_mac: dataplane.gateway_mac(),
        delegated_prefix_len: config.delegated_prefix_len,
        max_sessions: config.max_sessions,
        accounting_interval: Duration::from_millis(config.accounting_interval_ms),
        operators: config.operators.clone(),
        inventory,
        port_mtus: access.map(|port| (port.ifindex, port.mtu)).collect(),
    }
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
