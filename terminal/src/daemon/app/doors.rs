//! Sockets at the terminal's addresses in the rooms, each on its room's interface alone: by no address
//! does the app answer toward the building.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::App;
use super::host::Hosts;
use crate::config::Home;

/// Connections at once, of each door.
const CONNECTIONS: usize = 64;
const BACKLOG: u32 = 64;
/// For so long a browser may be silent before it has asked.
const SILENCE: Duration = Duration::from_secs(20);
/// Between attempts to listen, and between looks whether the interface is still the one that it was.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the app is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::daemon) struct Door {
    link: String,
    address: Ipv4Addr,
    port: u16,
    name: String,
}

/// Of a home's configuration: one for each address in the rooms.
pub(in crate::daemon) fn doors(home: Option<&Home>) -> Vec<Door> {
    let Some((home, app)) = home.and_then(|home| Some((home, home.app.as_ref()?))) else {
        return Vec::new();
    };
    home.doors()
        .map(|(link, own)| Door {
            link,
            address: own.addr(),
            port: app.port,
            name: app.name.clone(),
        })
        .collect()
}

/// The open doors; they close with this value.
pub(in crate::daemon) struct Doors {
    wanted: watch::Sender<Vec<Door>>,
    _task: AbortOnDropHandle<()>,
}

impl Doors {
    /// None yet.
    pub(in crate::daemon) fn new(app: Arc<App>) -> Self {
        let (wanted, follow) = watch::channel(Vec::new());
        Self {
            wanted,
            _task: AbortOnDropHandle::new(tokio::spawn(keep(app, follow))),
        }
    }

    /// Opens these and closes all others.
    pub(in crate::daemon) fn open(&self, doors: Vec<Door>) {
        self.wanted.send_if_modified(|wanted| {
            let news = *wanted != doors;
            *wanted = doors;
            news
        });
    }
}

async fn keep(app: Arc<App>, mut wanted: watch::Receiver<Vec<Door>>) {
    let mut open: BTreeMap<Door, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        let doors = wanted.borrow_and_update().clone();
        open.retain(|door, _| doors.contains(door));
        for door in doors {
            let app = &app;
            open.entry(door.clone()).or_insert_with(|| {
                AbortOnDropHandle::new(tokio::spawn(attend(door, Arc::clone(app))))
            });
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Listens for as long as the interface is there, and again when it is.
async fn attend(door: Door, app: Arc<App>) {
    let router = app.router(Hosts {
        name: door.name.clone(),
        address: door.address,
        port: door.port,
    });
    let mut told = false;
    loop {
        match listen(&door) {
            Ok((listener, index)) => {
                info!(address = %door.address, port = door.port, link = door.link, "the app is open");
                told = false;
                serve(&listener, &door, index, &router).await;
            }
            Err(error) if !told => {
                told = true;
                warn!(address = %door.address, port = door.port, link = door.link, %error,
                    "the app cannot listen; trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn listen(door: &Door) -> io::Result<(TcpListener, u32)> {
    let index = index(&door.link)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind_device(Some(door.link.as_bytes()))?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddrV4::new(door.address, door.port).into())?;
    Ok((socket.listen(BACKLOG)?, index))
}

fn index(link: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(link)?)
}

/// Until the interface is another one.
async fn serve(listener: &TcpListener, door: &Door, index: u32, router: &Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            Some(_) = connections.join_next() => continue,
            _ = look.tick() => match self::index(&door.link) {
                Ok(now) if now == index => continue,
                _ => return,
            },
        };
        let stream = match taken {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the app cannot take a connection");
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        // Without a place it is closed at once.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let router = router.clone();
            connections.spawn(async move {
                connection(stream, router).await;
                drop(place);
            });
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    // It only makes answers slower.
    let _ = stream.set_nodelay(true);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = served.await {
        debug!(%error, "the app: a connection broke");
    }
}
