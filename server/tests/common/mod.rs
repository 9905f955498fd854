//! A real server over real TLS on loopback, a terminal's client, and a gateway that is played by
//! the test, message by message.
#![allow(
    dead_code,
    reason = "each test file is a program of its own and uses a part of this"
)]

pub mod browser;
pub mod hook;
pub mod phone;
pub mod picture;
pub mod planted;
pub mod player;

use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_client::AccessClient;
use doorstep_proto::v1::gateway_control_client::GatewayControlClient;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_proto::v1::server_message::Body as ToGateway;
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_server::serve::{self, Running};
use doorstep_server::store::Database;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use uuid::Uuid;

pub const HOME_1: &str = "110103-xinjingjiayuan-001-002-004";
pub const HOME_1B: &str = "110103-xinjingjiayuan-001-002-005";
pub const HOME_2: &str = "110103-xinjingjiayuan-002-001-001";
pub const NOWHERE: &str = "440305-nanshan-003-002-0704";
pub const PHONE: &str = "13812345678";
pub const ID_CARD: &str = "11010519491231002X";
const PATIENCE: Duration = Duration::from_secs(60);

pub const CONFIG: &str = r#"
operator = "north-net"
data_dir = "data"
listen = "127.0.0.1:0"
admin_socket = "admin.sock"
server_names = ["north-net", "127.0.0.1"]
unconfirmed_after_ms = 3600000
[[gateway]]
id = "gw1"
locations = ["110103-xinjingjiayuan-001"]
ipv4_pool = "100.64.1.0/29"
ipv6_pool = "2001:db8:1000::/40"
ipv6_line_pool = "2001:db8:f:100::/56"
dns = ["192.0.2.53"]
[[gateway]]
id = "gw2"
locations = ["110103-xinjingjiayuan-002"]
ipv4_pool = "100.64.2.0/29"
ipv6_pool = "2001:db8:2000::/40"
"#;

/// The usual configuration, by which no receipt is overdue however slow the machine is, with one by
/// which each soon is.
pub fn impatient() -> String {
    CONFIG.replace(
        "unconfirmed_after_ms = 3600000",
        "unconfirmed_after_ms = 200",
    )
}

/// For tests that ask for more from one address than anybody does.
pub const UNHURRIED: &str =
    "[limits]\nregistration_rate = { per_minute = 0 }\nsource_rate = { per_minute = 0 }";

/// The usual configuration with another section in it.
pub fn config_with(section: &str) -> String {
    let section = format!("{section}\n[[gateway]]\nid = \"gw1\"");
    CONFIG.replace("[[gateway]]\nid = \"gw1\"", &section)
}

/// A configuration for a server in a folder: with a SQLite file in it, or with a database of
/// PostgreSQL that is the folder's.
pub fn configure(text: &str, dir: &Path) -> Config {
    let mut config = Config::parse(text, &dir.join("server.toml")).unwrap();
    if on_postgres() {
        config.database = postgres_of(dir);
    }
    config
}

fn postgres_of(dir: &Path) -> Database {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let name = format!("t{}", name.trim_start_matches('.').to_lowercase());
    Database::Postgres(doorstep_test_postgres::shared(&name))
}

/// The tests of `tests/postgres.rs` are those of the other files once more.
pub fn on_postgres() -> bool {
    module_path!().starts_with("postgres::")
}

pub struct Server {
    pub dir: tempfile::TempDir,
    pub config: Config,
    pub running: Option<Running>,
    shutdown: CancellationToken,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(CONFIG).await
    }

    pub async fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = configure(config, dir.path());
        Self::start_in(dir, config).await
    }

    pub async fn start_on_postgres() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = configure(CONFIG, dir.path());
        config.database = postgres_of(dir.path());
        Self::start_in(dir, config).await
    }

    /// Another server of the same operator: the same keys, the same database.
    pub async fn replica(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = configure(CONFIG, dir.path());
        config.database = self.config.database.clone();
        config.limits = self.config.limits;
        let (from, to) = (self.config.keys_dir(), config.keys_dir());
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        Self::start_with_keys(dir, config).await
    }

    async fn start_in(dir: tempfile::TempDir, config: Config) -> Self {
        keys::init(&config).unwrap();
        Self::start_with_keys(dir, config).await
    }

    async fn start_with_keys(dir: tempfile::TempDir, config: Config) -> Self {
        let mut server = Server {
            dir,
            config,
            running: None,
            shutdown: CancellationToken::new(),
        };
        server.resume().await;
        server
    }

    /// After `stop`.
    pub async fn resume(&mut self) {
        self.shutdown = CancellationToken::new();
        let running = serve::start(self.config.clone(), self.shutdown.clone())
            .await
            .unwrap();
        self.running = Some(running);
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        self.running.take().unwrap().wait().await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.resume().await;
    }

    fn url(&self) -> String {
        format!("https://{}", self.running.as_ref().unwrap().listen)
    }

    pub fn tls(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(keys::ca_pem(&self.config).unwrap()))
            .domain_name("north-net")
    }

    pub async fn dial(&self, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(self.url())?
            .tls_config(tls)?
            .connect()
            .await
    }

    pub async fn access(&self) -> AccessClient<Channel> {
        AccessClient::new(self.dial(self.tls()).await.unwrap())
    }

    /// A connection to the administration socket.
    pub async fn admin(&self) -> Channel {
        let socket = self.config.admin_socket.display().to_string();
        Endpoint::from_shared(format!("unix://{socket}"))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.admin().await)
    }

    pub fn seal(&self, location: &str) -> String {
        keys::current_opening_key(&self.config)
            .unwrap()
            .sealing_key()
            .seal(&location.parse().unwrap())
            .unwrap()
    }

    /// A client identity issued by this server's authority.
    pub fn identity(&self, name: &str) -> Identity {
        let out = self.dir.path().join(format!("issued-{name}"));
        if !out.exists() {
            keys::issue_gateway(&self.config, name, &out, Run::Real).unwrap();
        }
        read_identity(&out, name)
    }

    pub async fn control(
        &self,
        identity: Option<Identity>,
    ) -> Result<GatewayControlClient<Channel>, tonic::transport::Error> {
        let mut tls = self.tls();
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Ok(GatewayControlClient::new(self.dial(tls).await?))
    }

    /// Dials as `name` and says Hello; welcome and what follows are left to read.
    pub async fn gateway(&self, name: &str, held: Vec<pb::HeldSession>) -> Gateway {
        let client = self.control(Some(self.identity(name))).await.unwrap();
        Gateway::hello(
            client,
            pb::Hello {
                protocol_version: 1,
                gateway_id: name.to_owned(),
                software_version: "test".to_owned(),
                held,
            },
        )
        .await
        .unwrap()
    }

    /// The same, past Welcome and Synced, with nothing in between.
    pub async fn synced_gateway(&self, name: &str) -> Gateway {
        let mut gateway = self.gateway(name, vec![]).await;
        assert_eq!(gateway.until_synced().await, vec![]);
        gateway
    }

    pub async fn detail(&self, session: &str) -> pb::SessionDetail {
        self.operator()
            .await
            .show_session(pb::ShowSessionRequest {
                session_id: session.to_owned(),
            })
            .await
            .unwrap()
            .into_inner()
    }

    /// How often an action stands in the audit log.
    pub async fn audited(&self, action: &str) -> u64 {
        let store = &self.running.as_ref().unwrap().engine.store;
        store.audit_count(action).await.unwrap()
    }

    /// Waits until a session is in a state.
    pub async fn reaches(&self, session: &str, state: pb::SessionState) -> pb::SessionView {
        let waiting = async {
            loop {
                let view = self.detail(session).await.session.unwrap();
                if view.state() == state {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("session does not become {state:?}"))
    }

    /// All files of the data folder.
    pub fn data_files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.config.data_dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect()
    }
}

pub fn read_identity(dir: &Path, name: &str) -> Identity {
    Identity::from_pem(
        std::fs::read(dir.join(format!("{name}.pem"))).unwrap(),
        std::fs::read(dir.join(format!("{name}.key"))).unwrap(),
    )
}

/// A gateway's end of the stream.
pub struct Gateway {
    pub out: mpsc::Sender<pb::GatewayMessage>,
    pub inbound: Streaming<pb::ServerMessage>,
    receipts: u64,
}

impl Gateway {
    pub async fn hello(
        mut client: GatewayControlClient<Channel>,
        hello: pb::Hello,
    ) -> Result<Self, Status> {
        Self::open(&mut client, FromGateway::Hello(hello)).await
    }

    pub async fn open(
        client: &mut GatewayControlClient<Channel>,
        first: FromGateway,
    ) -> Result<Self, Status> {
        let (out, receiver) = mpsc::channel(64);
        out.send(pb::GatewayMessage { body: Some(first) })
            .await
            .unwrap();
        let inbound = client
            .control(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Gateway {
            out,
            inbound,
            receipts: 0,
        })
    }

    pub async fn send(&self, body: FromGateway) {
        self.out
            .send(pb::GatewayMessage { body: Some(body) })
            .await
            .unwrap();
    }

    pub async fn next(&mut self) -> Result<ToGateway, Status> {
        tokio::time::timeout(PATIENCE, self.inbound.message())
            .await
            .expect("the server says nothing")?
            .and_then(|message| message.body)
            .ok_or_else(|| Status::cancelled("the stream ended"))
    }

    /// What comes between Welcome and Synced.
    pub async fn until_synced(&mut self) -> Vec<ToGateway> {
        assert!(matches!(self.next().await.unwrap(), ToGateway::Welcome(_)));
        let mut between = Vec::new();
        loop {
            match self.next().await.unwrap() {
                ToGateway::Synced(_) => return between,
                other => between.push(other),
            }
        }
    }

    pub async fn connect(&mut self) -> pb::Connect {
        match self.next().await.unwrap() {
            ToGateway::Connect(connect) => connect,
            other => panic!("expected Connect, got {}", kind(&other)),
        }
    }

    pub async fn disconnect(&mut self) -> pb::Disconnect {
        match self.next().await.unwrap() {
            ToGateway::Disconnect(disconnect) => disconnect,
            other => panic!("expected Disconnect, got {}", kind(&other)),
        }
    }

    pub async fn receipt_ack(&mut self) -> u64 {
        match self.next().await.unwrap() {
            ToGateway::ReceiptAck(ack) => ack.number,
            other => panic!("expected ReceiptAck, got {}", kind(&other)),
        }
    }

    /// The server has nothing to say for a while.
    pub async fn silence(&mut self) {
        if let Ok(message) =
            tokio::time::timeout(Duration::from_millis(150), self.inbound.message()).await
        {
            let body = message.unwrap().unwrap().body.unwrap();
            panic!("expected nothing, got {}", kind(&body));
        }
    }

    /// With the service that a new session has.
    pub async fn ack(&self, session: &str, generation: u64) {
        self.ack_service(session, generation, 1).await;
    }

    pub async fn ack_service(&self, session: &str, generation: u64, revision: u64) {
        self.send(FromGateway::Ack(pb::Ack {
            session_id: session.to_owned(),
            generation,
            revision,
        }))
        .await;
    }

    pub async fn change_service(&mut self) -> pb::ChangeService {
        match self.next().await.unwrap() {
            ToGateway::ChangeService(change) => change,
            other => panic!("expected ChangeService, got {}", kind(&other)),
        }
    }

    pub async fn nack(&self, session: &str, generation: u64, reason: pb::NackReason) {
        self.send(FromGateway::Nack(pb::Nack {
            session_id: session.to_owned(),
            generation,
            reason: reason.into(),
            detail: "line 12 of the inventory".to_owned(),
            revision: 0,
        }))
        .await;
    }

    pub async fn established(&self, session: &str, generation: u64) {
        self.send(FromGateway::Established(pb::Established {
            session_id: session.to_owned(),
            generation,
            terminal_mac: vec![2, 0, 0, 0, 0, 1],
            line: "access0/101.1004".to_owned(),
            route: "uplink0 via 192.0.2.1".to_owned(),
            at_unix_ms: 1,
        }))
        .await;
    }

    pub async fn receipt(&mut self, session: &str, generation: u64) -> u64 {
        self.receipts += 1;
        self.send_receipt(self.receipts, session, generation).await;
        self.receipts
    }

    pub async fn send_receipt(&self, number: u64, session: &str, generation: u64) {
        self.send(FromGateway::Receipt(pb::Receipt {
            number,
            session_id: session.to_owned(),
            generation,
            r#final: Some(pb::Counters {
                upstream_packets: 1,
                upstream_bytes: 100,
                downstream_packets: 2,
                downstream_bytes: 2000,
                upstream_policed: 3,
                downstream_policed: 4,
            }),
            at_unix_ms: 42,
        }))
        .await;
    }

    /// Plays a whole establishment: reads the Connect, answers it to the end.
    pub async fn establish(&mut self) -> pb::Connect {
        let connect = self.connect().await;
        self.ack_service(
            &connect.session_id,
            connect.generation,
            connect.service_revision,
        )
        .await;
        self.established(&connect.session_id, connect.generation)
            .await;
        connect
    }
}

/// The kind only: a Connect holds a key.
pub fn kind(body: &ToGateway) -> &'static str {
    match body {
        ToGateway::Welcome(_) => "Welcome",
        ToGateway::Connect(_) => "Connect",
        ToGateway::ChangeService(_) => "ChangeService",
        ToGateway::Disconnect(_) => "Disconnect",
        ToGateway::Synced(_) => "Synced",
        ToGateway::ReceiptAck(_) => "ReceiptAck",
    }
}

pub fn held(session: &str, generation: u64, phase: pb::HeldPhase) -> pb::HeldSession {
    pb::HeldSession {
        session_id: session.to_owned(),
        generation,
        phase: phase.into(),
        service_revision: 1,
    }
}

/// A subscriber with its client.
pub struct Subscriber {
    pub client: AccessClient<Channel>,
    pub credentials: pb::Credentials,
}

impl Subscriber {
    pub async fn register(server: &Server, phone: &str) -> Self {
        let mut client = server.access().await;
        let credentials = client
            .register(pb::RegisterRequest {
                phone: phone.to_owned(),
                id_card: String::new(),
                verification_code: String::new(),
            })
            .await
            .unwrap()
            .into_inner()
            .credentials
            .unwrap();
        Subscriber {
            client,
            credentials,
        }
    }

    /// With a session that flows, and the Connect that began it.
    pub async fn established(server: &Server, gateway: &mut Gateway) -> (Self, pb::Connect) {
        let mut home = Self::register(server, PHONE).await;
        home.ask(server, pb::AccessKind::Connect, HOME_1)
            .await
            .unwrap();
        let connect = gateway.establish().await;
        server
            .reaches(&connect.session_id, pb::SessionState::Established)
            .await;
        (home, connect)
    }

    /// Asks another server from now on.
    pub async fn at(mut self, server: &Server) -> Self {
        self.client = server.access().await;
        self
    }

    pub fn request(
        &self,
        server: &Server,
        kind: pb::AccessKind,
        location: &str,
    ) -> pb::RequestAccessRequest {
        pb::RequestAccessRequest {
            credentials: Some(self.credentials.clone()),
            kind: kind.into(),
            sealed_location_id: server.seal(location),
            session_id: String::new(),
            request_id: Uuid::new_v4().to_string(),
            plan: String::new(),
        }
    }

    pub async fn ask(
        &mut self,
        server: &Server,
        kind: pb::AccessKind,
        location: &str,
    ) -> Result<pb::RequestAccessResponse, Status> {
        let request = self.request(server, kind, location);
        self.send(request).await
    }

    pub async fn send(
        &mut self,
        request: pb::RequestAccessRequest,
    ) -> Result<pb::RequestAccessResponse, Status> {
        Ok(self.client.request_access(request).await?.into_inner())
    }

    pub async fn release(&mut self, session: &str) -> Result<(), Status> {
        self.client
            .release(pb::ReleaseRequest {
                credentials: Some(self.credentials.clone()),
                session_id: session.to_owned(),
            })
            .await?;
        Ok(())
    }

    pub async fn watch(&mut self, session: &str) -> Watch {
        Watch(
            self.client
                .watch(pb::WatchRequest {
                    credentials: Some(self.credentials.clone()),
                    session_id: session.to_owned(),
                })
                .await
                .unwrap()
                .into_inner(),
        )
    }
}

pub struct Watch(Streaming<pb::SessionStatus>);

impl Watch {
    pub async fn next(&mut self) -> Option<pb::SessionStatus> {
        tokio::time::timeout(PATIENCE, self.0.message())
            .await
            .expect("Watch says nothing")
            .unwrap()
    }

    pub async fn expect(&mut self, state: pb::SessionState, generation: u64) -> pb::SessionStatus {
        let status = self.next().await.expect("Watch ended");
        assert_eq!(
            (status.state(), status.generation),
            (state, generation),
            "{}",
            status.detail
        );
        status
    }
}
