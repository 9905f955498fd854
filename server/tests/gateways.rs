//! Who may speak as a gateway, and what a gateway may say.

use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_server::config::Config;
use doorstep_server::keys;
use pb::AccessKind::Connect;
use pb::SessionState as S;
use pb::gateway_message::Body as FromGateway;
use pb::server_message::Body as ToGateway;
use tonic::transport::{Certificate, ClientTlsConfig};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::common::{self, CONFIG, Gateway, HOME_1, HOME_2, PHONE, Server, Subscriber, held};

fn hello(name: &str) -> pb::Hello {
    pb::Hello {
        protocol_version: 1,
        gateway_id: name.to_owned(),
        software_version: "test".to_owned(),
        held: vec![],
    }
}

/// How the server answers a first message.
async fn refusal(server: &Server, certificate: &str, first: FromGateway) -> Status {
    let mut client = server
        .control(Some(server.identity(certificate)))
        .await
        .unwrap();
    match Gateway::open(&mut client, first).await {
        Err(status) => status,
        Ok(mut gateway) => gateway.next().await.expect_err("must be refused"),
    }
}

#[tokio::test]
async fn only_the_named_gateway_may_speak() {
    let server = Server::start().await;
    // No certificate at all.
    let mut client = server.control(None).await.unwrap();
    let status = Gateway::open(&mut client, FromGateway::Hello(hello("gw1")))
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("client certificate"), "{status}");

    // Another gateway's, and one that is not configured.
    let status = refusal(&server, "gw2", FromGateway::Hello(hello("gw1"))).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("certificate is for gw2"),
        "{status}"
    );
    let status = refusal(&server, "gw9", FromGateway::Hello(hello("gw9"))).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status
            .message()
            .contains("not in this server's configuration"),
        "{status}"
    );

    // One of another authority under the right name: the handshake fails.
    let dir = tempfile::tempdir().unwrap();
    let other = Config::parse(CONFIG, &dir.path().join("server.toml")).unwrap();
    keys::init(&other).unwrap();
    keys::issue_gateway(&other, "gw1", dir.path(), Run::Real).unwrap();
    let foreign = common::read_identity(dir.path(), "gw1");
    match server.control(Some(foreign)).await {
        Err(_) => {}
        Ok(client) => assert!(Gateway::hello(client, hello("gw1")).await.is_err()),
    }
    // And the rightful one is served all the same.
    server.synced_gateway("gw1").await;
}

#[tokio::test]
async fn a_malformed_beginning_is_refused_by_field() {
    let server = Server::start().await;
    let id = Uuid::new_v4().to_string();
    let with = |change: &dyn Fn(&mut pb::Hello)| {
        let mut hello = hello("gw1");
        change(&mut hello);
        FromGateway::Hello(hello)
    };
    let cases = [
        (
            FromGateway::Ack(pb::Ack::default()),
            Code::InvalidArgument,
            "the first message must be Hello",
        ),
        (
            with(&|h| h.protocol_version = 2),
            Code::FailedPrecondition,
            "protocol_version",
        ),
        (
            with(&|h| h.gateway_id = "GW 1".to_owned()),
            Code::InvalidArgument,
            "gateway_id",
        ),
        (
            with(&|h| h.held = vec![held("x", 1, pb::HeldPhase::Established)]),
            Code::InvalidArgument,
            "held[0].session_id",
        ),
        (
            with(&|h| h.held = vec![held(&id, 1, pb::HeldPhase::Unspecified)]),
            Code::InvalidArgument,
            "held[0].phase",
        ),
        (
            with(&|h| h.held = vec![held(&id, 1, pb::HeldPhase::Established); 2]),
            Code::InvalidArgument,
            "held[1].session_id: is there twice",
        ),
    ];
    for (first, code, want) in cases {
        let status = refusal(&server, "gw1", first).await;
        assert_eq!(status.code(), code, "{want}");
        assert!(status.message().contains(want), "{want}: {status}");
    }
}

/// The server died before it acknowledged a receipt, and the session is back at the gateway.
#[tokio::test]
async fn a_receipt_and_a_newer_connect_of_one_session_are_both_held() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    let connect = gw1.connect().await;
    drop(gw1);
    let held = vec![
        held(&answer.session_id, 0, pb::HeldPhase::Disconnected),
        held(&answer.session_id, 1, pb::HeldPhase::Established),
    ];
    let mut gw1 = server.gateway("gw1", held).await;
    // What the gateway has said of it was lost: it is told the same again, to say it again.
    assert_eq!(
        gw1.until_synced().await,
        [ToGateway::Connect(connect.clone())]
    );
    let view = server.reaches(&connect.session_id, S::Established).await;
    assert_eq!(view.generation, 1);
}

/// A Connect that came twice was refused once and taken once.
#[tokio::test]
async fn what_is_held_though_it_was_refused_is_taken_down_at_once() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    gw1.connect().await;
    gw1.nack(&answer.session_id, 1, pb::NackReason::NoCapacity)
        .await;
    server.reaches(&answer.session_id, S::Refused).await;
    for _ in 0..2 {
        gw1.ack(&answer.session_id, 1).await;
    }
    let disconnect = gw1.disconnect().await;
    assert_eq!(disconnect.session_id, answer.session_id);
    assert!(disconnect.generation > 1);
    // The second Ack is older than that.
    gw1.silence().await;
    gw1.receipt(&answer.session_id, disconnect.generation).await;
    gw1.receipt_ack().await;
    let view = server.detail(&answer.session_id).await.session.unwrap();
    assert_eq!(view.state(), S::Refused);
}

#[tokio::test]
async fn malformed_messages_disturb_nothing() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    gw1.connect().await;
    for body in [
        None,
        Some(FromGateway::Ack(pb::Ack::default())),
        Some(FromGateway::Ack(pb::Ack {
            session_id: Uuid::new_v4().to_string(),
            generation: 1,
            revision: 1,
        })),
        Some(FromGateway::Ack(pb::Ack {
            session_id: id.clone(),
            generation: u64::MAX,
            revision: u64::MAX,
        })),
        Some(FromGateway::Nack(pb::Nack {
            session_id: "?".repeat(5000),
            ..Default::default()
        })),
        Some(FromGateway::Nack(pb::Nack {
            session_id: id.clone(),
            generation: 0,
            reason: 77,
            detail: String::new(),
            revision: u64::MAX,
        })),
        Some(FromGateway::Established(pb::Established {
            session_id: id.clone(),
            generation: 1,
            terminal_mac: vec![1; 5],
            ..Default::default()
        })),
        Some(FromGateway::Receipt(pb::Receipt {
            number: u64::MAX,
            session_id: "no".to_owned(),
            ..Default::default()
        })),
        Some(FromGateway::Accounting(pb::Accounting {
            sessions: vec![pb::SessionCounters::default()],
            uplink_problem: String::new(),
        })),
    ] {
        gw1.out.send(pb::GatewayMessage { body }).await.unwrap();
    }
    // A receipt for a session that nobody knows is recorded and acknowledged all the same.
    gw1.send_receipt(7, &Uuid::new_v4().to_string(), 3).await;
    assert_eq!(gw1.receipt_ack().await, 7);
    gw1.ack(&id, 1).await;
    gw1.established(&id, 1).await;
    server.reaches(&id, S::Established).await;
}

#[tokio::test]
async fn unknown_holdings_are_left_alone() {
    let server = Server::start().await;
    let stranger = Uuid::new_v4().to_string();
    let mut gw1 = server
        .gateway("gw1", vec![held(&stranger, 5, pb::HeldPhase::Established)])
        .await;
    assert_eq!(gw1.until_synced().await, vec![]);
    gw1.silence().await;
}

#[tokio::test]
async fn a_refused_session_that_is_held_is_taken_down() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    gw1.connect().await;
    gw1.nack(&id, 1, pb::NackReason::Dataplane).await;
    server.reaches(&id, S::Refused).await;
    let mut gw1 = server
        .gateway("gw1", vec![held(&id, 1, pb::HeldPhase::Established)])
        .await;
    let told = gw1.until_synced().await;
    assert_eq!(told.len(), 1);
    let doorstep_proto::v1::server_message::Body::Disconnect(disconnect) = &told[0] else {
        panic!("expected Disconnect");
    };
    assert!(disconnect.generation > 1);
}

/// The terminal has put another session in its place; the gateway's receipt says so, unasked.
#[tokio::test]
async fn a_session_that_the_terminal_has_replaced_ends() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    let connect = gw1.establish().await;
    server.reaches(&id, S::Established).await;
    // While the server was away: the receipt waits at the gateway, and its Hello tells of it.
    drop(gw1);
    let replaced = held(&id, connect.generation, pb::HeldPhase::Disconnected);
    let mut gw1 = server.gateway("gw1", vec![replaced]).await;
    assert_eq!(gw1.until_synced().await, vec![], "no Connect again");
    gw1.receipt(&id, connect.generation).await;
    gw1.receipt_ack().await;
    let view = server.reaches(&id, S::Released).await;
    assert!(
        view.detail.starts_with("replaced by the terminal"),
        "{}",
        view.detail
    );
    assert_eq!(view.final_counters.map(|c| c.upstream_bytes), Some(100));
    let steps = server.detail(&id).await.steps;
    let by_gateway = |step: &&pb::SessionStep| step.state() == S::Released && step.who == "gateway";
    let step = steps
        .iter()
        .find(by_gateway)
        .expect("a step of its history");
    assert_eq!(step.detail, view.detail);
    // Repeated, because the acknowledgement was lost.
    gw1.send_receipt(1, &id, connect.generation).await;
    assert_eq!(gw1.receipt_ack().await, 1);
    let engine = &server.running.as_ref().unwrap().engine;
    assert_eq!(engine.store.audit_count("replaced").await.unwrap(), 1);
    // Its addresses are free for who asks next.
    let again = home.ask(&server, Connect, HOME_1).await.unwrap();
    assert_ne!(again.session_id, id);
    let next = gw1.connect().await;
    assert_eq!(next.ipv4_address, connect.ipv4_address);
}

#[tokio::test]
async fn a_new_stream_replaces_the_old_one() {
    let server = Server::start().await;
    let mut old = server.synced_gateway("gw1").await;
    let mut new = server.synced_gateway("gw1").await;
    assert_eq!(old.next().await.unwrap_err().code(), Code::Aborted);
    let mut home = Subscriber::register(&server, PHONE).await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    new.connect().await;
    // The old stream's end must not take the new one off the list.
    let gateways = server
        .operator()
        .await
        .list_gateways(pb::ListGatewaysRequest {})
        .await
        .unwrap()
        .into_inner()
        .gateways;
    let connected: Vec<_> = gateways
        .iter()
        .map(|g| (g.gateway_id.as_str(), g.connected))
        .collect();
    assert_eq!(connected, [("gw1", true), ("gw2", false)]);
    drop(new);
    for _ in 0..1000 {
        if server
            .running
            .as_ref()
            .unwrap()
            .engine
            .hub
            .gateways_connected()
            == 0
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a gateway that hung up stays connected");
}

#[tokio::test]
async fn counters_are_kept_for_the_present_connection_only() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    let report = |bytes| {
        FromGateway::Accounting(pb::Accounting {
            sessions: vec![pb::SessionCounters {
                session_id: id.clone(),
                generation: 1,
                counters: Some(pb::Counters {
                    upstream_bytes: bytes,
                    ..Default::default()
                }),
                silent_since_unix_ms: 0,
                blocked: false,
            }],
            uplink_problem: String::new(),
        })
    };
    gw2.send(report(666)).await;
    gw1.send(report(1234)).await;
    let mut seen = None;
    for _ in 0..1000 {
        seen = server.detail(&id).await.session.unwrap().counters;
        if seen.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen.map(|c| c.upstream_bytes), Some(1234));
    home.ask(&server, pb::AccessKind::Move, HOME_2)
        .await
        .unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&id, disconnect.generation).await;
    gw1.receipt_ack().await;
    gw2.establish().await;
    let view = server.reaches(&id, S::Established).await;
    assert_eq!(view.counters, None, "another gateway counts from zero");
    assert_eq!(view.final_counters.map(|c| c.upstream_bytes), Some(100));
}

fn account(session: &str, generation: u64, silent_since_unix_ms: i64) -> FromGateway {
    FromGateway::Accounting(pb::Accounting {
        sessions: vec![pb::SessionCounters {
            session_id: session.to_owned(),
            generation,
            counters: Some(pb::Counters::default()),
            silent_since_unix_ms,
            blocked: false,
        }],
        uplink_problem: String::new(),
    })
}

/// Waits until the server says so of a session's terminal, and that so many are silent in all.
async fn says(server: &Server, session: &str, liveness: pb::Liveness, since_ms: i64, silent: u64) {
    let mut seen = None;
    for _ in 0..1000 {
        let view = server.detail(session).await.session.unwrap();
        let request = pb::OperatorStatusRequest {};
        let status = server.operator().await.status(request).await.unwrap();
        let count = status.into_inner().silent;
        seen = Some((view.liveness(), view.silent_since_unix_ms, count));
        if seen == Some((liveness, since_ms, silent)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{seen:?}, not {liveness:?} since {since_ms}, and {silent} in all");
}

#[tokio::test]
async fn a_terminal_is_silent_by_its_own_gateways_word_only() {
    use pb::Liveness::{NotSilent, Silent, Unspecified};

    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    says(&server, &id, Unspecified, 0, 0).await;

    gw1.send(account(&id, 1, 0)).await;
    says(&server, &id, NotSilent, 0, 0).await;
    // What another says of it counts nowhere.
    gw2.send(account(&id, 1, 666)).await;
    gw2.send_receipt(7, &Uuid::new_v4().to_string(), 3).await;
    assert_eq!(gw2.receipt_ack().await, 7);
    says(&server, &id, NotSilent, 0, 0).await;
    for (since_ms, liveness, silent) in [(5000, Silent, 1), (0, NotSilent, 0), (9000, Silent, 1)] {
        gw1.send(account(&id, 1, since_ms)).await;
        says(&server, &id, liveness, since_ms, silent).await;
    }
    let listed = pb::ListSessionsRequest::default();
    let listed = server.operator().await.list_sessions(listed).await;
    let listed = listed.unwrap().into_inner().sessions;
    assert_eq!(listed[0].silent_since_unix_ms, 9000);

    // A stream that ends takes with it what was said on it.
    drop(gw1);
    says(&server, &id, Unspecified, 0, 0).await;
    let again = vec![held(&id, 1, pb::HeldPhase::Established)];
    let mut gw1 = server.gateway("gw1", again).await;
    gw1.until_synced().await;
    says(&server, &id, Unspecified, 0, 0).await;
    gw1.send(account(&id, 1, 9000)).await;
    says(&server, &id, Silent, 9000, 1).await;

    // And a session that has ended is not silent.
    home.ask(&server, pb::AccessKind::Move, HOME_2)
        .await
        .unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&id, disconnect.generation).await;
    gw1.receipt_ack().await;
    gw2.establish().await;
    server.reaches(&id, S::Established).await;
    gw2.send(account(&id, 3, 0)).await;
    says(&server, &id, NotSilent, 0, 0).await;
}

#[tokio::test]
async fn the_server_answers_to_all_its_names() {
    let server = Server::start().await;
    let authority = Certificate::from_pem(keys::ca_pem(&server.config).unwrap());
    let tls = |name: &str| {
        ClientTlsConfig::new()
            .ca_certificate(authority.clone())
            .domain_name(name)
    };
    for name in ["north-net", "127.0.0.1"] {
        assert!(server.dial(tls(name)).await.is_ok(), "{name}");
    }
    assert!(server.dial(tls("south-net")).await.is_err());
    // And without its authority nobody takes it for itself.
    let blind = ClientTlsConfig::new().domain_name("north-net");
    assert!(server.dial(blind).await.is_err());
}
