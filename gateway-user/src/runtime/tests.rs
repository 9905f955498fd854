//! The whole daemon but the kernel: real journal, real TLS to a scripted server, terminals that
//! answer, and a model of the maps.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorstep_daemon::metrics::{self, Metrics};
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
use crate::dataplane::{Attachment, MapUse, Object, Tracer, UplinkStates};
use crate::engine::LinePort;
use crate::engine::SessionList;
use crate::inventory::Inventory;
use crate::metrics::{FAMILIES, GatewayMetrics};
use crate::plan::Tables;
use crate::session::{Counters, Reading, Service, SessionEntry};
use crate::testing::{Pki, ScriptedServer, Stream};

const PATIENCE: Duration = Duration::from_secs(10);
const SESSION: &str = "0190f3e8-0000-7000-8000-000000000001";
const TERMINAL: Mac = Mac([2, 0, 0, 0, 0, 9]);
const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Has samples once a router has said something.
const DHCP: &str = "doorstep_gateway_dhcp_messages_total";

mod gateway;
mod maps;
mod messages;

use self::gateway::Gateway;
use self::maps::Maps;
use self::messages::*;

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
    let query = Input::Query(Query::Sessions(SessionList::default(), sender));
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
async fn prometheus_is_told_what_is_counted() {
    let pki = Pki::new("north-net", "gw1");
    let mut server = ScriptedServer::start(&pki).await;
    let mut gateway = Gateway::start(pki.folder(), server.port, &Maps::default());
    let address = gateway.metrics().await;
    // There is no kernel, and so no port, in these tests, and no router.
    let families: Vec<_> = FAMILIES
        .iter()
        .copied()
        .filter(|family| !["doorstep_gateway_port_up", DHCP].contains(&family.name))
        .collect();
    let scrape = async || {
        let text = tokio::task::spawn_blocking(move || doorstep_test_metrics::scrape(address));
        let text = text.await.expect("answered");
        for hidden in [SESSION, "110103", "access0/101"] {
            assert!(!text.contains(hidden), "{text}");
        }
        doorstep_test_metrics::check(&text, &families)
    };
    let (mut stream, _) = greeted(&mut server).await;
    stream.send(connect(1));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    established(&mut stream).await;
    let is_report = |message: v1::GatewayMessage| matches!(message.body, Some(Up::Accounting(_)));
    while !stream.next().await.is_some_and(is_report) {}
    let samples = scrape().await;
    for (name, value) in [
        (
            "doorstep_gateway_sessions{operator=\"north-net\",state=\"established\"}",
            1.0,
        ),
        (
            "doorstep_gateway_sessions{operator=\"north-net\",state=\"establishing\"}",
            0.0,
        ),
        (
            "doorstep_gateway_packets_total{reason=\"unknown_line\"}",
            3.0,
        ),
        ("doorstep_gateway_map_entries{map=\"LINES\"}", 1.0),
        ("doorstep_gateway_map_entries_max{map=\"LINES\"}", 8.0),
        (
            "doorstep_gateway_server_connected{operator=\"north-net\"}",
            1.0,
        ),
        ("doorstep_gateway_slots_used", 1.0),
        ("doorstep_gateway_receipts_unacknowledged", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    let up = "doorstep_gateway_session_bytes_total{direction=\"up\",operator=\"north-net\"}";
    let carried = samples[up];
    assert_eq!(carried, 700.0, "as its counters were reported");
    assert!(samples["doorstep_gateway_journal_commit_duration_seconds"] >= 1.0);
    stream.send(disconnect(2));
    assert!(matches!(next(&mut stream).await, Up::Ack(_)));
    assert!(matches!(next(&mut stream).await, Up::Receipt(_)));
    let samples = scrape().await;
    assert_eq!(samples["doorstep_gateway_receipts_unacknowledged"], 1.0);
    assert_eq!(
        samples["doorstep_gateway_sessions{operator=\"north-net\",state=\"closing\"}"],
        0.0
    );
    assert_eq!(samples[up], carried, "its last counters were the same");
    gateway.stop().await;
}

#[test]
fn the_reference_of_metrics_is_that_of_the_code() {
    doorstep_test_metrics::check_reference("doorstep-gateway", FAMILIES);
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
    let query = Input::Query(Query::Sessions(SessionList::default(), sender));
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
        examiner: Default::default(),
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
    let sessions = client.sessions(v1::GatewaySessionsRequest::default()).await;
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
    let request = v1::GatewayWhyRequest {
        port: "nowhere".to_owned(),
        frames: vec![vec![0; 60]],
    };
    let refused = client.why(request).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");

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
