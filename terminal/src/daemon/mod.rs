//! The daemon: composition of its parts.

mod admin;
mod alive;
mod changes;
mod core;
mod events;
mod port;
mod session;
mod steps;

use std::path::Path;

use anyhow::Context as _;
use doorstep_daemon::socket::AdminSocket;
use rtnetlink::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use self::changes::Changes;
use self::core::Core;
use self::core::operators::clients;
use crate::config::{Config, WanTags};
use crate::links::actual::Actual;
use crate::links::kernel::Kernel;
use crate::links::reconcile::Links;
use crate::packet::Hearing;
use crate::state::Store;

/// Runs until `stop`. The links stay as they are, so that a restart or an upgrade disturbs
/// nobody; [`undo`] takes them down.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let clients = clients(&config.operators)?;
    let (store, state) = Store::open(&config.state_dir)?;
    let (handle, changes, _connection) = netlink()?;
    let links = Links::open(Kernel::new(handle.clone()), &config.state_dir)?;

    let (events, inbox) = mpsc::channel(256);
    let socket = AdminSocket::bind(&config.admin_socket)?;
    let mut tasks = Vec::new();
    let follow = changes::follow(changes, events.clone());
    tasks.push(AbortOnDropHandle::new(tokio::spawn(follow)));
    let hearing = match config.wan.tags {
        WanTags::Fixed(tags) if tags.as_slice().is_empty() => Hearing::Multicast,
        _ => Hearing::Everything,
    };

    info!(?config, "starting");
    let mut core = Core::new(&config, clients, store, state, links, events.clone());
    core.start().await;
    for name in &config.wan.ports {
        let listen = port::listen(name.clone(), hearing, handle.clone(), events.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(listen)));
    }
    let admin = socket.serve(admin::router(events), stop.clone());
    let (served, ()) = tokio::join!(admin, core.run(inbox, stop.clone()));
    info!("stopped; the links stay");
    served
}

/// Takes down everything that the terminal has made, without a daemon.
pub async fn undo(state_dir: &Path) -> anyhow::Result<usize> {
    let (handle, _changes, _connection) = netlink()?;
    let mut links = Links::open(Kernel::new(handle), state_dir)?;
    let count = links.owned().len();
    links.apply(&[]).await?;
    Ok(count)
}

/// What the kernel has, without a daemon.
pub async fn look() -> anyhow::Result<Actual> {
    let (handle, _changes, _connection) = netlink()?;
    Ok(Kernel::new(handle).read(std::iter::empty()).await?)
}

fn netlink() -> anyhow::Result<(Handle, Changes, AbortOnDropHandle<()>)> {
    changes::netlink().context("cannot open a netlink socket")
}
