//! The host of the operator's server.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use doorstep_daemon::dry_run::Run;
use doorstep_location::LocationId;
use doorstep_server::config::Config;
use doorstep_server::engine::Engine;
use doorstep_server::keys;
use doorstep_server::serve::{self, Sockets};
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use super::homes::{GATEWAYS, Home, SERVER};
use super::observer::Observer;
use super::wire::Socket;

const PORT: u16 = 7443;

const CONFIG: &str = r#"
operator = "north-net"
data_dir = "data"
listen = "0.0.0.0:7443"
server_names = ["north-net"]
unconfirmed_after_ms = 2000
[[gateway]]
id = "gw1"
locations = ["110103-xinjingjiayuan-001"]
ipv4_pool = "100.64.1.0/24"
[[gateway]]
id = "gw2"
locations = ["110103-xinjingjiayuan-002"]
ipv4_pool = "100.64.2.0/24"
"#;

pub fn url() -> String {
    format!("https://{SERVER}:{PORT}")
}

/// What outlives the server's process, and a way into it.
#[derive(Clone)]
pub struct Server {
    config: Config,
    observer: Observer,
    running: Arc<Mutex<Option<Weak<Engine>>>>,
    stop: Arc<Mutex<CancellationToken>>,
}

impl Server {
    /// Makes keys for itself and certificates for the gateways in a folder.
    pub fn new(folder: &Path, observer: Observer) -> anyhow::Result<Self> {
        let config = Config::parse(CONFIG, &folder.join("server.toml"))?;
        keys::init(&config)?;
        for gateway in GATEWAYS {
            keys::issue_gateway(&config, gateway, &folder.join(gateway), Run::Real)?;
        }
        Ok(Server {
            config,
            observer,
            running: Arc::default(),
            stop: Arc::default(),
        })
    }

    pub fn ca(&self) -> std::path::PathBuf {
        self.config.keys_dir().join("ca.pem")
    }

    /// As a sticker has it.
    pub fn seal(&self, home: Home) -> anyhow::Result<String> {
        let location: LocationId = home.location().parse()?;
        let key = keys::current_opening_key(&self.config)?;
        Ok(key.sealing_key().seal(&location)?)
    }

    /// One life of the process.
    pub async fn run(self) -> turmoil::Result {
        self.observer.note(SERVER, "starts");
        let stop = CancellationToken::new();
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop.clone();
        let bind = async |_: &Config| {
            let public = Socket(TcpListener::bind(("0.0.0.0", PORT)).await?);
            let admin = None;
            Ok(Sockets { public, admin })
        };
        let running = serve::start_on(self.config.clone(), bind, stop).await?;
        let engine = Arc::downgrade(&running.engine);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(engine);
        self.observer.note(SERVER, "serves");
        running.wait().await?;
        self.observer.note(SERVER, "has stopped");
        Ok(())
    }

    /// Has it end in order.
    pub fn stop(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        stop.cancel();
    }

    pub fn engine(&self) -> Option<Arc<Engine>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref()?.upgrade()
    }
}
