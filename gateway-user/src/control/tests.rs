//! The client against a scripted server, over real TLS on the loopback interface.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorstep_pki::certificate::Certificate;
use doorstep_pki::lifetime::Validity;
use doorstep_proto::v1;
use doorstep_proto::v1::gateway_message::Body as Up;
use doorstep_proto::v1::server_message::Body as Down;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;
use crate::config::{Address, Operator, Server, TagPriority};
use crate::engine::message::{Held, HeldPhase, Instruction, Report};
use crate::testing::{Pki, ScriptedServer, Stream};

const PATIENCE: Duration = Duration::from_secs(10);

fn address(port: u16) -> Address {
    Address {
        url: format!("https://127.0.0.1:{port}"),
        server_name: "north-net".into(),
    }
}

fn operator(folder: &Path, port: u16) -> Operator {
    Operator {
        name: "north-net".into(),
        index: 1,
        fixed_index: None,
        uplink: "uplink0".into(),
        uplink_vlan: 0,
        next_hop_v4: None,
        next_hop_v6: None,
        routing_table: None,
        subscriber_v4: Vec::new(),
        subscriber_v6: Vec::new(),
        gateway_v4: None,
        gateway_v6: None,
        hairpin: false,
        clamp_mss: false,
        tag_priority: TagPriority::default(),
        garden: None,
        server: Server {
            address: address(port),
            replicas: Vec::new(),
            ca: folder.join("ca.pem"),
            cert: folder.join("gw1.pem"),
            key: folder.join("gw1.key"),
        },
    }
}

/// A life of which this much is over, in hours.
fn life(over: i64, left: i64) -> Validity {
    let now = crate::clock::unix_ms();
    Validity {
        from_ms: now - over * 3_600_000,
        until_ms: now + left * 3_600_000,
    }
}

struct Running {
    events: mpsc::Receiver<StreamEvent>,
    states: ServerStates,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(operator: Operator, capacity: usize) -> Self {
        let (sender, events) = mpsc::channel(64);
        let states = ServerStates::default();
        let stop = CancellationToken::new();
        let client = Client {
            gateway_id: "gw1".into(),
            operator,
            capacity,
            events: sender,
            states: states.clone(),
            network: doorstep_daemon::network::Network::default(),
            uplink: Arc::new(String::new),
        };
        let task = tokio::spawn(client.run(stop.clone()));
        Self {
            events,
            states,
            stop,
            task,
        }
    }

    async fn event(&mut self) -> StreamEvent {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.expect("an event in time").expect("a client")
    }

    async fn up(&mut self) -> StreamLink {
        match self.event().await {
            StreamEvent::Up { link, operator: 1 } => link,
            other => panic!("a stream, not {other:?}"),
        }
    }

    /// Waits until the last error says this.
    async fn error(&self, expected: &str) {
        let said = timeout(PATIENCE, async {
            loop {
                let error = self.states.get(1).last_error;
                if error.is_some_and(|error| error.contains(expected)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let last = || self.states.get(1).last_error;
        assert!(said.await.is_ok(), "'{expected}', not {:?}", last());
        assert!(!self.states.get(1).connected);
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("stops in time")
            .expect("does not panic");
    }
}

fn welcome() -> v1::ServerMessage {
    let operator = "north-net".to_owned();
    message(Down::Welcome(v1::Welcome { operator }))
}

fn message(body: Down) -> v1::ServerMessage {
    v1::ServerMessage { body: Some(body) }
}

fn hello() -> Report {
    Report::Hello {
        held: vec![Held {
            session: uuid::Uuid::from_u128(7),
            generation: 3,
            phase: HeldPhase::Established,
            revision: 4,
        }],
    }
}

async fn greeted(stream: &mut Stream) -> v1::Hello {
    match stream.next().await.and_then(|message| message.body) {
        Some(Up::Hello(hello)) => hello,
        other => panic!("a Hello first, not {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_begins_with_hello_and_carries_both_ways() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut client = Running::start(operator(pki.folder(), server.port), 16);
    client.up().await.send(hello());
    let mut stream = server.stream().await;
    let first = greeted(&mut stream).await;
    assert_eq!((first.protocol_version, &first.gateway_id[..]), (1, "gw1"));
    assert_eq!(first.held[0].generation, 3);
    assert_eq!(first.held[0].service_revision, 4);
    stream.send(welcome());
    stream.send(message(Down::Synced(v1::Synced {})));
    stream.send(v1::ServerMessage { body: None });
    stream.send(message(Down::ReceiptAck(v1::ReceiptAck { number: 4 })));
    for expected in [Instruction::Synced, Instruction::ReceiptAck { number: 4 }] {
        match client.event().await {
            StreamEvent::Instruction { instruction, .. } => assert_eq!(instruction, expected),
            other => panic!("an instruction, not {other:?}"),
        }
    }
    let state = client.states.get(1);
    assert!(state.connected && state.last_error.is_none());
    client.stop().await;
    assert!(stream.next().await.is_none(), "the server sees the end");
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut client = Running::start(operator(pki.folder(), server.port), 16);
    for _ in 0..3 {
        client.up().await.send(hello());
        let mut stream = server.stream().await;
        greeted(&mut stream).await;
        stream.send(welcome());
        drop(stream);
        assert!(matches!(
            client.event().await,
            StreamEvent::Down { operator: 1 }
        ));
        client.error("ended the stream").await;
    }
    client.stop().await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let pki = Pki::new("north-net", "gw1");
    let server = ScriptedServer::start(&pki).await;
    let port = server.port;
    server.stop().await;
    let mut client = Running::start(operator(pki.folder(), port), 16);
    client.error("refused").await;
    let mut server = ScriptedServer::start_at(&pki, port).await;
    client.up().await.send(hello());
    greeted(&mut server.stream().await).await;
    client.stop().await;
}

#[tokio::test]
async fn another_replica_is_dialled_where_one_is_away_or_drains() {
    let pki = Pki::new("north-net", "gw1");
    let gone = ScriptedServer::start(&pki).await;
    let mut operator = operator(pki.folder(), gone.port);
    gone.stop().await;
    let (mut second, mut third) = (
        ScriptedServer::start(&pki).await,
        ScriptedServer::start(&pki).await,
    );
    operator.server.replicas = vec![address(second.port), address(third.port)];
    let mut client = Running::start(operator, 16);
    client.up().await.send(hello());
    let mut stream = second.stream().await;
    greeted(&mut stream).await;
    stream.send(welcome());
    stream.refuse(Code::Unavailable, "the server stops; dial again");
    assert!(matches!(client.event().await, StreamEvent::Down { .. }));
    client.up().await.send(hello());
    let mut stream = third.stream().await;
    greeted(&mut stream).await;
    assert!(second.try_stream().is_none(), "not the one that drains");
    client.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_sends_what_it_has_said_and_ends_the_stream() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut client = Running::start(operator(pki.folder(), server.port), 16);
    let link = client.up().await;
    link.send(hello());
    let mut stream = server.stream().await;
    greeted(&mut stream).await;
    stream.send(welcome());
    stream.send(message(Down::Synced(v1::Synced {})));
    assert!(matches!(
        client.event().await,
        StreamEvent::Instruction { .. }
    ));
    client.stop.cancel();
    // Recorded just before the end.
    tokio::task::yield_now().await;
    link.send(Report::Ack {
        session: uuid::Uuid::from_u128(7),
        generation: 4,
        revision: 0,
    });
    drop(link);
    match stream.next().await.and_then(|message| message.body) {
        Some(Up::Ack(ack)) => assert_eq!(ack.generation, 4),
        other => panic!("an Ack, not {other:?}"),
    }
    assert!(stream.next().await.is_none(), "ended in order");
    drop(stream);
    client.stop().await;
}

#[tokio::test]
async fn a_server_that_refuses_is_named_with_its_reason() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut client = Running::start(operator(pki.folder(), server.port), 16);
    client.up().await.send(hello());
    let stream = server.stream().await;
    stream.refuse(Code::PermissionDenied, "gw1 is not a gateway of ours");
    client
        .error("PermissionDenied: gw1 is not a gateway of ours")
        .await;
    client.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_keep_up_is_cut_off() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut client = Running::start(operator(pki.folder(), server.port), 16);
    let link = client.up().await;
    link.send(hello());
    let mut stream = server.stream().await;
    greeted(&mut stream).await;
    stream.send(welcome());
    // Far beyond what the windows of the connection hold.
    let refusal = crate::engine::message::Refusal {
        session: String::new(),
        generation: 1,
        revision: 0,
        reason: crate::engine::message::RefusalReason::Malformed,
        detail: "x".repeat(100_000),
    };
    let flood = async {
        loop {
            link.send(Report::Nack(refusal.clone()));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        event = client.event() => assert!(matches!(event, StreamEvent::Down { .. })),
        () = flood => {}
    }
    client.error("does not read").await;
    client.stop().await;
}

#[tokio::test]
async fn certificates_that_do_not_fit() {
    let pki = Pki::new("north-net", "gw1");
    let other = Pki::new("north-net", "gw1");
    let misnamed = Pki::new("south-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut wrong_name_server = ScriptedServer::start(&misnamed).await;

    // Of another authority: each side refuses the other's.
    let mut foreign_server = operator(pki.folder(), server.port);
    foreign_server.server.ca = other.folder().join("ca.pem");
    let mut foreign_client = operator(pki.folder(), server.port);
    foreign_client.server.cert = other.folder().join("gw1.pem");
    foreign_client.server.key = other.folder().join("gw1.key");
    let wrong_name = operator(misnamed.folder(), wrong_name_server.port);
    let mut missing = operator(pki.folder(), server.port);
    missing.server.cert = pki.folder().join("missing.pem");
    let mut no_pem = operator(pki.folder(), server.port);
    std::fs::write(pki.folder().join("empty.pem"), "").expect("writes");
    no_pem.server.key = pki.folder().join("empty.pem");

    for (operator, expected) in [
        (foreign_server, "invalid peer certificate"),
        (foreign_client, ""),
        (wrong_name, "certificate not valid for name"),
        (missing, "missing.pem"),
        (no_pem, ""),
    ] {
        let client = Running::start(operator, 16);
        client.error(expected).await;
        assert!(!client.states.get(1).connected);
        client.stop().await;
    }
    assert!(server.try_stream().is_none(), "no stream was begun");
    assert!(wrong_name_server.try_stream().is_none());
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_and_the_stream_goes_on() {
    let pki = Pki::new("north-net", "gw1");
    pki.issue("gw1", life(100, 20));
    // The authorities to trust come with it: an old list is replaced.
    let ca = pki.folder().join("ca.pem");
    std::fs::write(&ca, pki.authority_pem().repeat(2)).expect("writes");
    let mut server = ScriptedServer::start(&pki).await;
    let mut operator = operator(pki.folder(), server.port);
    operator.server.key = operator.server.cert.clone();
    let file = operator.server.cert.clone();
    let read = || Certificate::from_pem(&std::fs::read(&file).expect("reads")).expect("a pair");
    let before = read();
    let files = operator.server.clone();
    let mut client = Running::start(operator, 16);
    client.up().await.send(hello());
    let mut stream = server.stream().await;
    greeted(&mut stream).await;
    stream.send(welcome());

    let stop = CancellationToken::new();
    let renewal = Renewal {
        gateway_id: "gw1".into(),
        operator: "north-net".into(),
        server: files,
    };
    let renewal = tokio::spawn(renewal.run(stop.clone()));
    let renewed = timeout(PATIENCE, async {
        while read() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    renewed.await.expect("renewed in time");
    assert!(read().validity.until_ms > before.validity.until_ms);
    assert_ne!(read().public_key, before.public_key, "a new key");
    let trusted = std::fs::read_to_string(&ca).expect("reads");
    assert_eq!(trusted, pki.authority_pem());
    // The stream in use goes on,
    stream.send(message(Down::Synced(v1::Synced {})));
    assert!(matches!(
        client.event().await,
        StreamEvent::Instruction { .. }
    ));
    // and the next one is dialled with what is in the file now.
    drop(stream);
    assert!(matches!(client.event().await, StreamEvent::Down { .. }));
    client.up().await.send(hello());
    greeted(&mut server.stream().await).await;
    stop.cancel();
    renewal.await.expect("does not panic");
    client.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_due_stays_and_one_that_is_over_opens_nothing() {
    let pki = Pki::new("north-net", "gw1");
    let server = ScriptedServer::start(&pki).await;
    let mut operator = operator(pki.folder(), server.port);
    operator.server.key = operator.server.cert.clone();
    for life in [life(10, 100), life(100, -1)] {
        pki.issue("gw1", life);
        let before = std::fs::read(&operator.server.cert).expect("reads");
        let stop = CancellationToken::new();
        let renewal = Renewal {
            gateway_id: "gw1".into(),
            operator: "north-net".into(),
            server: operator.server.clone(),
        };
        let renewal = tokio::spawn(renewal.run(stop.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        renewal.await.expect("does not panic");
        let after = std::fs::read(&operator.server.cert).expect("reads");
        assert_eq!(after, before);
    }
    let client = Running::start(operator, 16);
    client.error("").await;
    client.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_operator_is_not_followed() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let operator_says = |operator: &str| {
        message(Down::Welcome(v1::Welcome {
            operator: operator.to_owned(),
        }))
    };
    for (first, expected) in [
        (operator_says("south-net"), "that of operator 'south-net'"),
        (message(Down::Synced(v1::Synced {})), "before it has said"),
    ] {
        let mut client = Running::start(operator(pki.folder(), server.port), 16);
        client.up().await.send(hello());
        let mut stream = server.stream().await;
        greeted(&mut stream).await;
        stream.send(first);
        client.error(expected).await;
        client.stop().await;
    }
}
