//! A gateway's host: the real daemon but for the kernel.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use doorstep_daemon::network::Network;
use doorstep_establish::{Mac, frame};
use doorstep_gateway::config::Config;
use doorstep_gateway::control::{Client, ServerStates};
use doorstep_gateway::engine::{LinePort, Settings};
use doorstep_gateway::inventory::Inventory;
use doorstep_gateway::journal::Journal;
use doorstep_gateway::runtime::{Feeds, Frame, FrameSender, Runtime, Transmit, recover};
use doorstep_gateway_common::LineKey;
use tokio_util::sync::CancellationToken;
use turmoil::net::UdpSocket;

use super::fast_path::Maps;
use super::homes::{self, ACCESS, LINES_PORT};
use super::observer::Observer;
use super::{server, wire};

const FRAME_LEN: usize = 2048;

/// What outlives the daemon's process.
#[derive(Clone)]
pub struct Gateway {
    pub name: &'static str,
    folder: PathBuf,
    settings: Arc<dyn Fn() -> Settings>,
    maps: Maps,
    observer: Observer,
    stop: Arc<Mutex<CancellationToken>>,
}

fn port(name: &str) -> Option<u32> {
    (name == "access0").then_some(ACCESS)
}

impl Gateway {
    /// In the folder with its certificate.
    pub fn new(
        name: &'static str,
        number: u8,
        folder: &Path,
        observer: Observer,
        maps: Maps,
    ) -> anyhow::Result<Self> {
        let text = format!(
            r#"
id = "{name}"
state_dir = "state"
accounting_interval_ms = 10000
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
subscriber_prefixes = ["100.64.{number}.0/24"]
[operator.server]
url = "{}"
server_name = "north-net"
ca = "ca.pem"
cert = "{name}.pem"
key = "{name}.key"
"#,
            server::url()
        );
        let config = Config::parse(&folder.join("gateway.toml"), &text)?;
        let inventory = homes::inventory(name);
        let inventory = Inventory::parse(Path::new("inventory.csv"), &inventory, port)?;
        let (inventory, access) = (Arc::new(inventory), config.state_dir.clone());
        let settings = move || Settings {
            gateway_id: config.id.clone(),
            gateway_mac: Mac([2, 0, 0, 0, 0, number]),
            delegated_prefix_len: config.delegated_prefix_len,
            line_prefixes: config.line_prefixes,
            max_sessions: config.max_sessions,
            accounting_interval: Duration::from_millis(config.accounting_interval_ms),
            operators: config.operators.clone(),
            inventory: inventory.clone(),
            garden: config.garden,
            ports: HashMap::from([(
                ACCESS,
                LinePort {
                    mtu: 1500,
                    shaper: true,
                },
            )]),
            is_traced: false,
        };
        Ok(Gateway {
            name,
            folder: access,
            settings: Arc::new(settings),
            maps,
            observer,
            stop: Arc::default(),
        })
    }

    /// One life of the process.
    pub async fn run(self) -> turmoil::Result {
        self.observer.note(self.name, "starts");
        let stop = CancellationToken::new();
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop.clone();
        let settings = (self.settings)();
        let operators = settings.operators.clone();
        let journal = Journal::open(&self.folder)?;
        self.maps.learn(&journal.load()?);
        let socket = Arc::new(UdpSocket::bind(("0.0.0.0", LINES_PORT)).await?);
        let mut maps = self.maps.clone();
        let recovered = recover(settings, &journal, &mut maps, &port)?;
        self.observer
            .note(self.name, &format!("holds {} sessions", recovered.sessions));
        let (runtime, feeds) =
            Runtime::start(recovered, journal, maps, transmit(Arc::clone(&socket)))?;
        let Feeds { inputs, frames } = feeds;
        let lines = tokio::spawn(hear(socket, frames));
        let mut clients = Vec::new();
        for operator in operators {
            let client = Client {
                gateway_id: self.name.to_owned(),
                operator,
                capacity: 1024,
                events: inputs.clone(),
                states: ServerStates::default(),
                network: network(),
                uplink: Arc::new(String::new),
            };
            clients.push(tokio::spawn(client.run(stop.clone())));
        }
        drop(inputs);
        runtime.run(stop.clone()).await?;
        for client in clients {
            client.await?;
        }
        lines.abort();
        self.observer.note(self.name, "has stopped");
        Ok(())
    }

    /// Has it end in order.
    pub fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        stop.cancel();
    }
}

fn network() -> Network {
    wire::network()
}

/// To the terminal at the end of a frame's line.
fn transmit(socket: Arc<UdpSocket>) -> Transmit {
    Box::new(move |ifindex, bytes| {
        assert_eq!(ifindex, ACCESS);
        let no_line = || io::Error::other("a frame of no line");
        let parsed = frame::parse(bytes).map_err(io::Error::other)?;
        let line = line_of(&parsed.envelope.tags).ok_or_else(no_line)?;
        let terminal = homes::terminal_of(line.c_vid).ok_or_else(no_line)?;
        let to = homes::terminal_name(terminal);
        socket
            .try_send_to(bytes, (to.as_str(), LINES_PORT))
            .map(drop)
    })
}

async fn hear(socket: Arc<UdpSocket>, mut frames: FrameSender) {
    let mut buffer = [0; FRAME_LEN];
    while let Ok((len, _)) = socket.recv_from(&mut buffer).await {
        let bytes = buffer[..len].to_vec();
        let line = frame::parse(&bytes).ok();
        let Some(line) = line.and_then(|parsed| line_of(&parsed.envelope.tags)) else {
            continue;
        };
        if !frames.offer(Frame { line, bytes }, Instant::now()) {
            return;
        }
    }
}

fn line_of(tags: &doorstep_establish::Tags) -> Option<LineKey> {
    let [outer, inner] = tags.as_slice() else {
        return None;
    };
    Some(LineKey {
        ifindex: ACCESS,
        s_vid: outer.vid,
        c_vid: inner.vid,
    })
}
