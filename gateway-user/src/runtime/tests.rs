//! The whole daemon but the kernel: real journal, real TLS to a scripted server, terminals that
//! answer, and a model of the maps.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorstep_daemon::network::Network;
use doorstep_daemon::socket::AdminSocket;
use doorstep_establish::{
    Body, Direction, Mac, Message, ProbeKey, SessionKey, frame, frame::Envelope, open, seal,
    session_of,
};
use doorstep_gateway_common::{LineKey, LineValue, Reason, Slot};
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_message::Body as Up;
use doorstep_proto::v1::server_message::Body as Down;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::Admin;
use crate::config::Config;
use crate::control::{Client, ServerStates};
use crate::dataplane::{Attachment, MapUse, Object, Tracer};
use crate::engine::LinePort;
use crate::inventory::Inventory;
use crate::plan::Tables;
use crate::session::{Counters, Reading, Service, SessionEntry};
use crate::testing::{Pki, ScriptedServer, Stream};

const PATIENCE: Duration = Duration::from_secs(10);
const SESSION: &str = "0190f3e8-0000-7000-8000-000000000001";
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 9]);
const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Maps that outlive the daemon, as pinned ones do.
#[derive(Clone, Default)]
struct Maps(Arc<Mutex<MapsInner>>);

#[derive(Default)]
struct MapsInner {
    tables: Tables,
    lines: HashMap<LineKey, LineValue>,
    services: HashMap<Slot, Service>,
}

#[derive(Debug, thiserror::Error)]
#[error("the model does not fail")]
struct Never;

impl Maps {
    fn with<T>(&self, work: impl FnOnce(&mut MapsInner) -> T) -> T {
        work(&mut self.0.lock().expect("not poisoned"))
    }
}

impl FastPath for Maps {
    type Error = Never;

    fn set_lines(&mut self, lines: &[(LineKey, LineValue)], _: &Tables) -> Result<(), Never> {
        self.with(|maps| maps.lines = lines.iter().copied().collect());
        Ok(())
    }

    fn set_line(&mut self, key: LineKey, value: LineValue) -> Result<(), Never> {
        self.with(|maps| maps.lines.insert(key, value));
        Ok(())
    }

    fn tables(&self) -> Result<Tables, Never> {
        Ok(self.with(|maps| maps.tables.clone()))
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Never> {
        self.with(|maps| plan.changes.iter().for_each(|c| maps.tables.apply(c)));
        Ok(())
    }

    fn open_session(&mut self, entry: &SessionEntry) -> Result<(), Never> {
        self.with(|maps| maps.services.insert(entry.slot, entry.service));
        self.apply(&Plan::diff(&Tables::of([entry]), &Tables::default()))
    }

    fn change_session(&mut self, entry: &SessionEntry) -> Result<(), Never> {
        let known = self.with(|maps| maps.services.insert(entry.slot, entry.service));
        assert!(known.is_some(), "only an open session is changed");
        Ok(())
    }

    fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, Never> {
        self.with(|maps| maps.services.remove(&entry.slot));
        self.apply(&Plan::diff(&Tables::default(), &Tables::of([entry])))?;
        self.counters(entry.slot)
    }

    fn counters(&self, _: Slot) -> Result<Counters, Never> {
        Ok(Counters {
            upstream_packets: 5,
            downstream_policed: 2,
            ..Counters::default()
        })
    }

    fn expect_probes(&mut self, _: Slot, _: &LineKey, _: &ProbeKey) {}

    fn forget_strangers(&mut self, _: &Tables) {}

    fn reading(&self, slot: Slot) -> Result<Reading, Never> {
        Ok(Reading {
            counters: self.counters(slot)?,
            silent: None,
        })
    }

    fn silent(&self) -> u64 {
        0
    }

    fn reasons(&self) -> Result<Vec<(Reason, u64)>, Never> {
        Ok(vec![(Reason::UnknownLine, 3)])
    }

    fn upgrade(&mut self, object: &Object) -> Result<Vec<Attachment>, Never> {
        Ok(vec![Attachment {
            port: "access0".to_owned(),
            hook: "xdp",
            program: "xdp_access",
            before: None,
            after: object.bytes().len() as u32,
        }])
    }

    fn map_use(&self) -> Result<Vec<MapUse>, Never> {
        let used = self.with(|maps| maps.lines.len() as u64);
        Ok(vec![MapUse {
            name: "LINES",
            used,
            max: 8,
        }])
    }
}

struct Gateway {
    config: Config,
    states: ServerStates,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    runtime: JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    /// Starts everything on a folder with certificates, where the journal lies too. Whatever it
    /// sends to a line is answered as a terminal with the key would.
    fn start(folder: &Path, port: u16, maps: &Maps) -> Self {
        let text = format!(
            r#"
id = "gw1"
state_dir = "state"
accounting_interval_ms = 200
[[access_port]]
name = "access0"
[[operator]]
name = "north-net"
uplink = "uplink0"
subscriber_prefixes = ["100.64.1.0/24"]
[operator.server]
url = "https://127.0.0.1:{port}"
server_name = "north-net"
ca = "ca.pem"
cert = "gw1.pem"
key = "gw1.key"
"#
        );
        let config = Config::parse(&folder.join("gateway.toml"), &text).expect("valid");
        let inventory =
            "location,port,s_vlan,c_vlan\n110103-xinjing-001-002-004,access0,101,1004\n";
        let port = |name: &str| (name == "access0").then_some(7);
        let inventory = Inventory::parse(Path::new("inventory.csv"), inventory, port);
        let settings = Settings {
            gateway_id: config.id.clone(),
            gateway_mac: GATEWAY,
            delegated_prefix_len: config.delegated_prefix_len,
            line_prefixes: config.line_prefixes,
            max_sessions: config.max_sessions,
            accounting_interval: Duration::from_millis(config.accounting_interval_ms),
            operators: config.operators.clone(),
            inventory: Arc::new(inventory.expect("valid")),
            garden: config.garden,
            ports: HashMap::from([(
                7,
                LinePort {
                    mtu: 1500,
                    shaper: true,
                },
            )]),
        };
        let journal = Journal::open(&config.state_dir).expect("opens");
        let (sent, sent_frames) = mpsc::unbounded_channel();
        let transmit = Box::new(move |ifindex, frame: &[u8]| {
            assert_eq!(ifindex, 7);
            sent.send(frame.to_vec())
                .map_err(|_| io::Error::other("no terminal"))
        });
        let mut maps = maps.clone();
        let recovered = recover(settings, &journal, &mut maps, &port).expect("recovers");
        let (runtime, feeds) = Runtime::start(recovered, journal, maps, transmit).expect("starts");
        let Feeds { inputs, frames } = feeds;
        let stop = CancellationToken::new();
        let states = ServerStates::default();
        let client = Client {
            gateway_id: config.id.clone(),
            operator: config.operators[0].clone(),
            capacity: 64,
            events: inputs.clone(),
            states: states.clone(),
            network: Network::default(),
        };
        let tasks = vec![
            tokio::spawn(client.run(stop.clone())),
            tokio::spawn(terminal(sent_frames, frames)),
        ];
        Self {
            config,
            states,
            inputs,
            runtime: tokio::spawn(runtime.run(stop.clone())),
            stop,
            tasks,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = timeout(PATIENCE, self.runtime).await.expect("in time");
        ended.expect("no panic").expect("no error");
        drop(self.inputs);
        for task in self.tasks {
            timeout(PATIENCE, task)
                .await
                .expect("in time")
                .expect("no panic");
        }
    }

    /// As if the power had gone.
    async fn kill(self) {
        self.runtime.abort();
        for task in &self.tasks {
            task.abort();
        }
        // The journal's file is free once the loop's remains are dropped.
        let _ = self.runtime.await;
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

fn key() -> SessionKey {
    SessionKey::from_slice(&[7; 32]).expect("32 bytes")
}

/// Answers every request that it has the key for.
async fn terminal(mut sent: mpsc::UnboundedReceiver<Vec<u8>>, mut frames: FrameSender) {
    while let Some(bytes) = sent.recv().await {
        let parsed = frame::parse(&bytes).expect("a frame of the exchange");
        let session = session_of(parsed.payload).expect("a session");
        let Ok((_, body)) = open(parsed.payload, Direction::FromGateway, |_| Some(key())) else {
            continue;
        };
        if !matches!(body.message, Message::Request(_)) {
            continue;
        }
        let answer = Body {
            message: Message::Accept {
                terminal_mac: TERMINAL,
                replaces: None,
            },
            ..body
        };
        let envelope = Envelope::to_gateway(TERMINAL, GATEWAY, parsed.envelope.tags);
        let answer = Frame {
            line: LineKey {
                ifindex: 7,
                s_vid: 101,
                c_vid: 1004,
            },
            bytes: frame::build(&envelope, &seal(&key(), session, &answer)),
        };
        if !frames.offer(answer, std::time::Instant::now()) {
            return;
        }
    }
}

fn connect(generation: u64) -> v1::ServerMessage {
    let body = Down::Connect(v1::Connect {
        session_id: SESSION.into(),
        generation,
        location_id: "110103-xinjing-001-002-004".into(),
        session_key: vec![7; 32],
        ipv4_address: "100.64.1.10".into(),
        service: Some(service(300)),
        service_revision: 1,
        ..v1::Connect::default()
    });
    v1::ServerMessage { body: Some(body) }
}

fn service(megabits: u64) -> v1::Service {
    v1::Service {
        upstream_bps: 0,
        downstream_bps: megabits * 1_000_000,
        shape_downstream: true,
        priority: 3,
        time_to_live_s: 0,
    }
}

fn change_service(generation: u64, revision: u64, megabits: u64) -> v1::ServerMessage {
    let body = Down::ChangeService(v1::ChangeService {
        session_id: SESSION.into(),
        generation,
        revision,
        service: Some(service(megabits)),
    });
    v1::ServerMessage { body: Some(body) }
}

fn disconnect(generation: u64) -> v1::ServerMessage {
    let body = Down::Disconnect(v1::Disconnect {
        session_id: SESSION.into(),
        generation,
    });
    v1::ServerMessage { body: Some(body) }
}

/// The next stream, past its Hello.
async fn greeted(server: &mut ScriptedServer) -> (Stream, v1::Hello) {
    let mut stream = server.stream().await;
    let Up::Hello(hello) = next(&mut stream).await else {
        panic!("a Hello first");
    };
    let operator = "north-net".to_owned();
    stream.send(v1::ServerMessage {
        body: Some(Down::Welcome(v1::Welcome { operator })),
    });
    (stream, hello)
}

/// The next message that is not accounting.
async fn next(stream: &mut Stream) -> Up {
    loop {
        let message = stream.next().await.expect("a message");
        match message.body.expect("a body") {
            Up::Accounting(_) => {}
            body => return body,
        }
    }
}

async fn established(stream: &mut Stream) -> v1::Established {
    match next(stream).await {
        Up::Established(established) => established,
        other => panic!("Established, not {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_connect_to_receipt() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let maps = Maps::default();
    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (mut stream, hello) = greeted(&mut server).await;
    assert!(hello.held.is_empty());
    assert_eq!(maps.with(|maps| maps.lines.len()), 1);

    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(ack) if ack.generation == 1));
    let report = established(&mut stream).await;
    assert_eq!(report.terminal_mac, TERMINAL.0);
    assert_eq!(report.line, "access0/101.1004");
    assert_eq!(maps.with(|maps| maps.tables.upstream_v4.len()), 1);
    let accounting = loop {
        if let Some(Up::Accounting(accounting)) = stream.next().await.and_then(|m| m.body) {
            break accounting;
        }
    };
    assert_eq!(accounting.sessions[0].session_id, SESSION);

    let (sender, answer) = oneshot::channel();
    let query = Input::Query(Query::Sessions(sender));
    gateway.inputs.send(query).await.expect("listens");
    let shown = answer.await.expect("answers");
    assert_eq!(shown.sessions[0].phase, "established");
    let readings = shown.readings.await.expect("answers");
    let counters = readings[0].expect("a reading").counters;
    assert_eq!(counters.upstream_packets, 5);

    stream.send(disconnect(2));
    assert!(matches!(next(&mut stream).await, Up::Ack(ack) if ack.generation == 2));
    let Up::Receipt(receipt) = next(&mut stream).await else {
        panic!("a receipt");
    };
    assert_eq!((receipt.number, receipt.generation), (1, 2));
    let last = receipt.r#final.expect("counters");
    assert_eq!((last.upstream_packets, last.downstream_policed), (5, 2));
    assert_eq!(maps.with(|maps| maps.tables.clone()), Tables::default());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_sessions_flow_on_and_receipts_are_repeated() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let maps = Maps::default();
    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    established(&mut stream).await;
    gateway.kill().await;
    let before = maps.with(|maps| maps.tables.clone());
    assert_eq!(
        before.upstream_v4.len(),
        1,
        "the fast path outlives the daemon"
    );

    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (mut stream, hello) = greeted(&mut server).await;
    assert_eq!(hello.held[0].phase(), v1::HeldPhase::Established);
    assert_eq!(maps.with(|maps| maps.tables.clone()), before);
    established(&mut stream).await;
    stream.send(disconnect(2));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    let Up::Receipt(first) = next(&mut stream).await else {
        panic!("a receipt");
    };
    gateway.kill().await;

    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (mut stream, hello) = greeted(&mut server).await;
    assert_eq!(hello.held[0].phase(), v1::HeldPhase::Disconnected);
    let Up::Receipt(again) = next(&mut stream).await else {
        panic!("the receipt again");
    };
    assert_eq!(again, first);
    let number = again.number;
    stream.send(v1::ServerMessage {
        body: Some(Down::ReceiptAck(v1::ReceiptAck { number })),
    });
    // The stream keeps its order: when this is answered, that has been recorded.
    stream.send(connect(2));
    assert!(matches!(next(&mut stream).await, Up::Nack(_)));
    gateway.stop().await;

    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (_stream, hello) = greeted(&mut server).await;
    assert!(hello.held.is_empty(), "acknowledged: {hello:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_changes_while_the_session_is_open_and_outlives_the_daemon() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let maps = Maps::default();
    let downstream_bps = || -> Vec<u64> {
        maps.with(|maps| maps.services.values().map(|s| s.downstream_bps).collect())
    };
    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(ack) if ack.revision == 1));
    established(&mut stream).await;
    assert_eq!(downstream_bps(), [300_000_000]);
    let before = maps.with(|maps| maps.tables.clone());

    stream.send(change_service(1, 2, 20));
    let Up::Ack(ack) = next(&mut stream).await else {
        panic!("acknowledged");
    };
    assert_eq!((ack.generation, ack.revision), (1, 2));
    assert_eq!(downstream_bps(), [20_000_000], "before it is acknowledged");
    assert_eq!(maps.with(|maps| maps.tables.clone()), before);
    stream.send(change_service(1, 1, 300));
    let Up::Nack(nack) = next(&mut stream).await else {
        panic!("refused");
    };
    assert_eq!(nack.reason(), v1::NackReason::StaleGeneration);
    assert_eq!((nack.generation, nack.revision), (1, 1));
    gateway.kill().await;

    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let (_stream, hello) = greeted(&mut server).await;
    assert_eq!(hello.held[0].service_revision, 2);
    let (sender, answer) = oneshot::channel();
    let query = Input::Query(Query::Sessions(sender));
    gateway.inputs.send(query).await.expect("listens");
    let shown = answer.await.expect("answers");
    let held = shown.sessions[0].connect.service;
    assert_eq!(held.downstream_bps, 20_000_000);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_server_changes_nothing() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let port = server.port;
    let maps = Maps::default();
    let gateway = Gateway::start(pki.folder(), port, &maps);
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    established(&mut stream).await;
    let before = maps.with(|maps| maps.tables.clone());
    drop(stream);
    server.stop().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(maps.with(|maps| maps.tables.clone()), before);
    let mut server = ScriptedServer::start_at(&pki, port).await;
    let (_stream, hello) = greeted(&mut server).await;
    assert_eq!(hello.held[0].phase(), v1::HeldPhase::Established);
    assert_eq!(maps.with(|maps| maps.tables.clone()), before);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_journal_the_gateway_leaves_the_fast_path_until_the_server_has_told_all() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let maps = Maps::default();
    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    let state_dir = gateway.config.state_dir.clone();
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    established(&mut stream).await;
    gateway.stop().await;
    std::fs::remove_dir_all(state_dir).expect("the journal is lost");
    let wanted = maps.with(|maps| maps.tables.clone());
    // Another session flowed that the server has ended meanwhile, and one of an operator that is
    // not configured any more.
    maps.with(|maps| {
        let mut more = maps.tables.clone();
        for (operator, last) in [(1, 77), (9, 78)] {
            for (key, row) in &wanted.upstream_v4 {
                let (mut key, mut row) = (*key, *row);
                key.source_be[3] = last;
                row.operator = operator;
                more.upstream_v4.insert(key, row);
            }
        }
        maps.tables = more;
    });
    let sources = || -> Vec<u8> {
        let mut sources: Vec<u8> = maps.with(|maps| {
            let rows = maps.tables.upstream_v4.keys();
            rows.map(|key| key.source_be[3]).collect()
        });
        sources.sort_unstable();
        sources
    };

    let gateway = Gateway::start(pki.folder(), server.port, &maps);
    assert_eq!(sources(), [10, 77]);
    let (mut stream, hello) = greeted(&mut server).await;
    assert!(hello.held.is_empty());
    let other = "0190f3e8-0000-7000-8000-000000000002";
    let body = Down::Disconnect(v1::Disconnect {
        session_id: other.into(),
        generation: 6,
    });
    stream.send(v1::ServerMessage { body: Some(body) });
    assert!(matches!(next(&mut stream).await, Up::Ack(ack) if ack.session_id == other));
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(ack) if ack.session_id == SESSION));
    // Had a receipt been due before this, it would have come.
    established(&mut stream).await;
    assert_eq!(sources(), [10, 77]);
    stream.send(v1::ServerMessage {
        body: Some(Down::Synced(v1::Synced {})),
    });
    let Up::Receipt(receipt) = next(&mut stream).await else {
        panic!("a receipt");
    };
    assert_eq!(receipt.session_id, other);
    assert_eq!(sources(), [10], "gone before its receipt");
    assert_eq!(maps.with(|maps| maps.tables.clone()), wanted);
    gateway.stop().await;
}

/// The admin service on a socket, over a running gateway.
#[tokio::test(flavor = "multi_thread")]
async fn the_admin_socket_answers_and_goes_away() {
    use doorstep_proto::v1::gateway_admin_client::GatewayAdminClient;
    use std::os::unix::fs::PermissionsExt as _;

    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let gateway = Gateway::start(pki.folder(), server.port, &Maps::default());
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    established(&mut stream).await;

    let path = pki.folder().join("run").join("admin.sock");
    let socket = AdminSocket::bind(&path).expect("listens");
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let admin = Admin {
        config: gateway.config.clone(),
        inventory: Default::default(),
        tracer: Tracer::ended(),
        uplinks: Default::default(),
        servers: gateway.states.clone(),
        inputs: gateway.inputs.clone(),
        started: std::time::Instant::now(),
    };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(socket.serve(admin.router(), stop.clone()));
    let error = AdminSocket::bind(&path).expect_err("taken");
    assert!(error.to_string().contains("another daemon"), "{error}");

    let address = format!("unix://{}", path.display());
    let mut client = GatewayAdminClient::connect(address)
        .await
        .expect("connects");
    let status = client.status(v1::GatewayStatusRequest {}).await;
    let status = status.expect("answers").into_inner();
    assert_eq!(status.gateway_id, "gw1");
    assert_eq!(status.sessions.map(|counts| counts.established), Some(1));
    assert!(status.servers[0].connected);
    assert_eq!(status.maps[0].max, 8);
    let sessions = client.sessions(v1::GatewaySessionsRequest {}).await;
    let mut sessions = sessions.expect("answers").into_inner();
    let part = sessions.message().await.expect("answers").expect("a part");
    let [session] = &part.sessions[..] else {
        panic!("one session");
    };
    assert_eq!(session.session_id, SESSION);
    assert_eq!(session.phase, "established");
    assert_eq!(session.mac, TERMINAL.to_string());
    assert_eq!(session.service, Some(service(300)));
    assert_eq!(
        session.counters.map(|counted| counted.upstream_packets),
        Some(5)
    );
    let steps: Vec<_> = session.steps.iter().map(|step| &step.step[..]).collect();
    assert_eq!(steps, ["instructed", "requested", "accepted", "opened"]);
    let reasons = client.reasons(v1::GatewayReasonsRequest {}).await;
    let reasons = reasons.expect("answers").into_inner().reasons;
    assert_eq!(
        (&reasons[0].reason[..], reasons[0].packets),
        ("unknown_line", 3)
    );

    for (target, code) in [
        (None, tonic::Code::InvalidArgument),
        (Some("nowhere"), tonic::Code::InvalidArgument),
        (Some("100.64.1.10"), tonic::Code::Unavailable),
    ] {
        let address = |text: &str| v1::gateway_trace_request::Target::Address(text.to_owned());
        let request = v1::GatewayTraceRequest {
            target: target.map(address),
        };
        let refused = client.trace(request).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{target:?}: {refused}");
    }

    stop.cancel();
    timeout(PATIENCE, serving)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("no error");
    assert!(!path.exists(), "the socket is removed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_socket_left_behind_is_taken_over_and_a_file_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    drop(AdminSocket::bind(&path).expect("takes it over"));
    std::fs::write(&path, "precious").expect("writes");
    let error = AdminSocket::bind(&path).expect_err("refused");
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), b"precious");
}
