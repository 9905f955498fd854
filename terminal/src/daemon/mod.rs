//! The daemon: composition of its parts.

mod admin;
mod alive;
mod app;
mod calls;
mod changes;
mod core;
mod ears;
mod events;
pub mod metrics;
mod port;
mod rooms;
mod session;
mod steps;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use doorstep_daemon::dry_run::Run;
use doorstep_daemon::metrics::Metrics;
use doorstep_daemon::socket::AdminSocket;
use doorstep_daemon::supervisor;
use doorstep_daemon::traces::Traces;
use doorstep_establish::UDP_PORT;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn6, setsockopt, sockopt};
use rtnetlink::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use self::app::App;
use self::app::doors::Doors;
use self::calls::Calls;
use self::changes::Changes;
use self::core::apply::Declared;
use self::core::operators::clients;
use self::core::{Core, Outside};
use self::ears::Ears;
use self::metrics::{Counts, TerminalMetrics};
use self::rooms::Rooms;
use crate::config::Config;
use crate::links::actual::Actual;
use crate::links::kernel::Kernel;
use crate::links::reconcile::Links;
use crate::state::Store;

/// Runs until `stop`. The links stay as they are, so that a restart or an upgrade disturbs
/// nobody; [`undo`] takes them down. `file` is the one that `config` was read from.
pub async fn run(config: Config, file: &Path, stop: CancellationToken) -> anyhow::Result<()> {
    let clients = clients(&config.operators)?;
    let (store, state) = Store::open(&config.state_dir)?;
    let (handle, changes, _connection) = netlink()?;
    let links = Links::open(Kernel::new(handle.clone()), &config.state_dir)?;

    let (events, inbox) = mpsc::channel(256);
    let socket = AdminSocket::bind(&config.admin_socket)?;
    let metrics = match config.metrics {
        Some(metrics) => Some(Metrics::bind(metrics).await?),
        None => None,
    };
    let _taken = quiet_port();
    let follow = changes::follow(changes, events.clone());
    let _follow = AbortOnDropHandle::new(tokio::spawn(follow));

    // Whose home it is is nobody's business there.
    let traces = Traces::start(config.traces.as_ref(), "doorstep-terminal", "")?;
    info!(?config, "starting");
    let rooms = Rooms::new(&config.state_dir);
    let declared = Declared::new(config, std::path::absolute(file)?);
    let ears = Ears::new(handle, events.clone());
    let counts = Arc::new(Counts::default());
    let calls = Calls::new(events.clone());
    let doors = Doors::new(App::new(calls.clone(), stop.clone()));
    let outside = Outside {
        ears,
        rooms,
        doors,
        counts: Arc::clone(&counts),
        traces,
    };
    let mut core = Core::new(declared, clients, store, state, links, outside);
    core.start().await;
    let source = TerminalMetrics {
        events,
        counts,
        started_ms: self::core::unix_ms(),
    };
    let scraped = async {
        if let Some(metrics) = metrics {
            metrics.serve(source, stop.clone()).await;
        }
    };
    let alive = {
        let calls = calls.clone();
        move || {
            let calls = calls.clone();
            async move { calls.alive().await }
        }
    };
    let told = supervisor::follow(alive, stop.clone());
    let admin = socket.serve(admin::router(calls), stop.clone());
    let work = core.run(inbox, stop.clone());
    let (served, (), (), ()) = tokio::join!(admin, scraped, told, work);
    info!("stopped; the links stay");
    served
}

/// Takes what gateways send, and keeps as good as nothing of it: it is heard on the ports below the
/// kernel, which would answer each datagram that nobody takes by an ICMPv6 error.
fn quiet_port() -> Option<OwnedFd> {
    let take = || -> nix::Result<OwnedFd> {
        let (family, kind) = (AddressFamily::Inet6, SockType::Datagram);
        let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::RcvBuf, &0)?;
        let port = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, UDP_PORT, 0, 0);
        socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(port))?;
        Ok(socket)
    };
    take()
        .inspect_err(|error| debug!(%error, "the kernel answers gateways by errors, too"))
        .ok()
}

/// Takes down everything that the terminal has made, without a daemon; what that is.
pub async fn undo(state_dir: &Path, run: Run) -> anyhow::Result<Vec<String>> {
    let (handle, _changes, _connection) = netlink()?;
    let mut links = Links::open(Kernel::new(handle), state_dir)?;
    let owned = links.owned().iter();
    let owned = owned.map(|owned| owned.item.to_string()).collect();
    if !run.is_dry() {
        links.apply(&[]).await?;
    }
    Ok(owned)
}

/// What the kernel has, without a daemon.
pub async fn look() -> anyhow::Result<Actual> {
    let (handle, _changes, _connection) = netlink()?;
    Ok(Kernel::new(handle).read(std::iter::empty()).await?)
}

fn netlink() -> anyhow::Result<(Handle, Changes, AbortOnDropHandle<()>)> {
    changes::netlink().context("cannot open a netlink socket")
}
