//! Sessions from the first request to the last receipt, over the real protocols.

use std::collections::HashSet;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::server_message::Body as ToGateway;
use pb::AccessKind::{Additional, Connect, Move};
use pb::SessionState as S;
use tonic::{Code, Status};

use crate::common::{
    self, CONFIG, HOME_1, HOME_1B, HOME_2, NOWHERE, PHONE, Server, Subscriber, held, impatient,
};

/// One of the five places that the pools of gateway 1 have in common.
struct Place(u8);

impl Place {
    fn of(connect: &pb::Connect) -> Place {
        let last = connect.ipv4_address.rsplit('.').next().unwrap();
        let number: u8 = last.parse().unwrap();
        assert!((2..=6).contains(&number), "{}", connect.ipv4_address);
        Place(number - 2)
    }
}

#[tokio::test]
async fn connect_and_release() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    assert_eq!(answer.session_key.len(), 32);
    let mut watch = home.watch(&answer.session_id).await;
    watch.expect(S::Connecting, 1).await;

    let connect = gw1.connect().await;
    let place = Place::of(&connect);
    assert_eq!(
        connect,
        pb::Connect {
            session_id: answer.session_id.clone(),
            generation: answer.generation,
            location_id: HOME_1.to_owned(),
            session_key: answer.session_key.clone(),
            ipv4_address: format!("100.64.1.{}", place.0 + 2),
            ipv6_prefix: format!("2001:db8:1000:{}00::/56", place.0 + 1),
            ipv6_line_prefix: format!("2001:db8:f:10{}::/64", place.0 + 1),
            ipv4_gateway: "100.64.1.1".to_owned(),
            dns: vec!["192.0.2.53".to_owned()],
            mtu: 1500,
            service: Some(pb::Service::default()),
            service_revision: 1,
            dhcp: None,
        }
    );
    gw1.ack(&answer.session_id, 1).await;
    watch.expect(S::Establishing, 1).await;
    gw1.established(&answer.session_id, 1).await;
    let status = watch.expect(S::Established, 1).await;
    assert!(
        status.detail.contains("access0/101.1004"),
        "{}",
        status.detail
    );
    assert_eq!(status.gateway_id, "gw1");

    home.release("").await.unwrap();
    watch.expect(S::Disconnecting, 2).await;
    let disconnect = gw1.disconnect().await;
    assert_eq!(
        (disconnect.session_id.as_str(), disconnect.generation),
        (answer.session_id.as_str(), 2)
    );
    let number = gw1.receipt(&answer.session_id, 2).await;
    assert_eq!(gw1.receipt_ack().await, number);
    watch.expect(S::Released, 2).await;
    assert_eq!(watch.next().await, None, "Watch ends with the session");

    let detail = server.detail(&answer.session_id).await;
    let view = detail.session.unwrap();
    let given = (view.ipv4_address, view.ipv6_line_prefix);
    assert_eq!(given, Default::default(), "addresses are given back");
    let last = view.final_counters.unwrap();
    assert_eq!(last.downstream_bytes, 2000);
    assert_eq!((last.upstream_policed, last.downstream_policed), (3, 4));
    assert_eq!(detail.receipts[0].counters, Some(last));
    assert_eq!(detail.receipts.len(), 1);
    let states: Vec<_> = detail.steps.iter().map(pb::SessionStep::state).collect();
    assert_eq!(
        states,
        [
            S::Connecting,
            S::Establishing,
            S::Established,
            S::Disconnecting,
            S::Released
        ]
    );
    // Who comes back has the same addresses again.
    home.ask(&server, Connect, HOME_1).await.unwrap();
    let again = gw1.connect().await;
    assert_eq!(again.ipv4_address, connect.ipv4_address);
    assert_eq!(again.ipv6_line_prefix, connect.ipv6_line_prefix);
}

#[tokio::test]
async fn move_waits_for_the_receipt() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    gw1.establish().await;
    server.reaches(&first.session_id, S::Established).await;

    let moved = home.ask(&server, Move, HOME_2).await.unwrap();
    assert_eq!(moved.session_id, first.session_id);
    assert_eq!(moved.generation, 3, "the answer has the final generation");
    assert_ne!(moved.session_key, first.session_key);
    let mut watch = home.watch(&moved.session_id).await;
    watch.expect(S::Disconnecting, 2).await;
    assert_eq!(gw1.disconnect().await.generation, 2);
    gw2.silence().await;

    // Nothing stale moves it on.
    gw1.established(&first.session_id, 1).await;
    gw1.ack(&first.session_id, 2).await;
    gw2.ack(&first.session_id, 3).await;
    gw2.established(&first.session_id, 3).await;
    gw2.send_receipt(1, &first.session_id, 2).await;
    assert_eq!(
        gw2.receipt_ack().await,
        1,
        "recorded, but not the one waited for"
    );
    gw2.silence().await;
    let again = home.ask(&server, Move, HOME_1B).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert!(again.message().contains("moving already"), "{again}");

    gw1.receipt(&first.session_id, 2).await;
    gw1.receipt_ack().await;
    watch.expect(S::Connecting, 3).await;
    let connect = gw2.establish().await;
    assert_eq!(
        (connect.generation, connect.location_id.as_str()),
        (3, HOME_2)
    );
    assert_eq!(connect.session_key, moved.session_key);
    assert!(connect.ipv4_address.starts_with("100.64.2."));
    watch.expect(S::Establishing, 3).await;
    watch.expect(S::Established, 3).await;
    let view = server.detail(&moved.session_id).await.session.unwrap();
    assert_eq!(view.final_counters.unwrap().upstream_bytes, 100);

    // The same receipt again is acknowledged again, and changes nothing.
    gw1.send_receipt(1, &first.session_id, 2).await;
    assert_eq!(gw1.receipt_ack().await, 1);
    server.reaches(&moved.session_id, S::Established).await;
}

#[tokio::test]
async fn move_within_a_gateway_keeps_the_address() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    let before = gw1.establish().await;
    home.ask(&server, Move, HOME_1B).await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&first.session_id, disconnect.generation).await;
    // The acknowledgement and the next instruction may overtake each other.
    let mut answers = [gw1.next().await.unwrap(), gw1.next().await.unwrap()];
    answers.sort_by_key(common::kind);
    let [ToGateway::Connect(after), ToGateway::ReceiptAck(_)] = answers else {
        panic!("expected Connect and ReceiptAck");
    };
    assert_eq!(after.location_id, HOME_1B);
    assert_eq!(after.ipv4_address, before.ipv4_address);
    assert_ne!(after.session_key, before.session_key);
}

#[tokio::test]
async fn a_move_survives_reconnects_and_restarts() {
    let mut server = Server::start_with(&impatient()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    let id = first.session_id.clone();
    gw1.establish().await;
    server.reaches(&id, S::Established).await;
    drop(gw1);
    home.ask(&server, Move, HOME_2).await.unwrap();
    let view = server.reaches(&id, S::DisconnectingUnconfirmed).await;
    assert!(view.detail.contains("cannot be reached"), "{}", view.detail);

    server.restart().await;
    let mut gw2 = server.synced_gateway("gw2").await;
    // The gateway comes back, holding what it held: it is told to disconnect.
    let mut gw1 = server
        .gateway("gw1", vec![held(&id, 1, pb::HeldPhase::Established)])
        .await;
    let told = gw1.until_synced().await;
    assert_eq!(
        told,
        [ToGateway::Disconnect(pb::Disconnect {
            session_id: id.clone(),
            generation: 2
        })]
    );
    // It disconnects, and the stream breaks before the receipt arrives.
    drop(gw1);
    gw2.silence().await;
    let mut gw1 = server
        .gateway("gw1", vec![held(&id, 2, pb::HeldPhase::Disconnected)])
        .await;
    assert_eq!(gw1.until_synced().await, vec![]);
    gw1.receipt(&id, 2).await;
    gw1.receipt_ack().await;
    // The target's stream breaks after it has acknowledged, before the server hears of it.
    let connect = gw2.connect().await;
    assert_eq!(connect.generation, 3);
    drop(gw2);
    server.restart().await;
    let mut gw2 = server
        .gateway("gw2", vec![held(&id, 3, pb::HeldPhase::Established)])
        .await;
    assert_eq!(gw2.until_synced().await, [ToGateway::Connect(connect)]);
    server.reaches(&id, S::Established).await;
}

#[tokio::test]
async fn a_forced_move_is_audited_and_the_old_gateway_told() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    let mut operator = server.operator().await;
    let force = pb::ForceSessionRequest {
        session_id: id.clone(),
        dry_run: false,
    };
    let early = operator.force_session(force.clone()).await.unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    drop(gw1);
    home.ask(&server, Move, HOME_2).await.unwrap();
    operator.force_session(force).await.unwrap();
    assert_eq!(gw2.establish().await.generation, 3);
    server.reaches(&id, S::Established).await;
    let steps = server.detail(&id).await.steps;
    assert!(
        steps
            .iter()
            .any(|step| step.who == "operator" && step.detail.contains("forced"))
    );
    // The former gateway comes back still forwarding.
    let mut gw1 = server
        .gateway("gw1", vec![held(&id, 1, pb::HeldPhase::Established)])
        .await;
    assert_eq!(
        gw1.until_synced().await,
        [ToGateway::Disconnect(pb::Disconnect {
            session_id: id.clone(),
            generation: 3
        })]
    );
    gw1.receipt(&id, 3).await;
    gw1.receipt_ack().await;
    server.reaches(&id, S::Established).await;
}

#[tokio::test]
async fn additional_sessions_stand_side_by_side() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let mut other = Subscriber::register(&server, "13900000001").await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    let refused = home.ask(&server, Connect, HOME_1).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("move"), "{refused}");
    let second = home.ask(&server, Additional, HOME_1).await.unwrap();
    assert_ne!(first.session_id, second.session_id);
    let third = other.ask(&server, Connect, HOME_1).await.unwrap();
    let addresses = [
        gw1.establish().await.ipv4_address,
        gw1.establish().await.ipv4_address,
        gw1.establish().await.ipv4_address,
    ];
    assert!(
        addresses.iter().all(|a| a.starts_with("100.64.1.")),
        "{addresses:?}"
    );
    assert_eq!(
        addresses.iter().collect::<HashSet<_>>().len(),
        3,
        "{addresses:?}"
    );
    let unclear = home.release("").await.unwrap_err();
    assert!(
        unclear.message().contains("2 sessions; say which"),
        "{unclear}"
    );
    let foreign = home.release(&third.session_id).await.unwrap_err();
    assert_eq!(foreign.code(), Code::NotFound);
    home.release(&second.session_id).await.unwrap();
    let disconnect = gw1.disconnect().await;
    assert_eq!(disconnect.session_id, second.session_id);
    gw1.receipt(&second.session_id, disconnect.generation).await;
    gw1.receipt_ack().await;
    server.reaches(&second.session_id, S::Released).await;
    server.reaches(&first.session_id, S::Established).await;
    server.reaches(&third.session_id, S::Established).await;
}

#[tokio::test]
async fn a_refusal_says_why_and_can_be_asked_again() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    gw1.connect().await;
    gw1.nack(&id, 1, pb::NackReason::UnknownLocation).await;
    let view = server.reaches(&id, S::Refused).await;
    assert!(
        view.detail.contains("not in the gateway's inventory"),
        "{}",
        view.detail
    );
    assert!(view.detail.contains("line 12"), "{}", view.detail);
    assert_eq!(view.ipv4_address, "");

    let moved = home.ask(&server, Move, HOME_2).await.unwrap();
    assert_eq!(moved.session_id, id);
    // A repeated Connect may have been taken after all: only a receipt says that it was not.
    let told = gw1.disconnect().await;
    let number = gw1.receipt(&id, told.generation).await;
    assert_eq!(gw1.receipt_ack().await, number);
    let connect = gw2.connect().await;
    assert_eq!(connect.generation, moved.generation);
    gw2.nack(&id, connect.generation, pb::NackReason::NoCapacity)
        .await;
    server.reaches(&id, S::Refused).await;
    // A new connection supersedes the refused one.
    let fresh = home.ask(&server, Connect, HOME_1).await.unwrap();
    assert_ne!(fresh.session_id, id);
    server.reaches(&id, S::Released).await;
    gw1.connect().await;
}

#[tokio::test]
async fn the_same_request_gives_the_same_answer() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let request = home.request(&server, Connect, HOME_1);
    let first = home.send(request.clone()).await.unwrap();
    assert_eq!(home.send(request.clone()).await.unwrap(), first);
    // Sealed anew it is still the same request.
    let mut resealed = request.clone();
    resealed.sealed_location_id = server.seal(HOME_1);
    assert_eq!(home.send(resealed).await.unwrap(), first);
    gw1.establish().await;
    gw1.silence().await;
    server.reaches(&first.session_id, S::Established).await;

    let mut other = request.clone();
    other.sealed_location_id = server.seal(HOME_1B);
    let refused = home.send(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("request_id"), "{refused}");

    let moving = home.request(&server, Move, HOME_1B);
    let moved = home.send(moving.clone()).await.unwrap();
    assert_eq!(
        home.send(moving).await.unwrap(),
        moved,
        "even while the move is under way"
    );
    assert_eq!(
        home.send(request).await.unwrap(),
        first,
        "and the first stays as it was"
    );
}

#[tokio::test]
async fn an_exhausted_pool_is_named_and_disturbs_nobody() {
    let server = Server::start_with(&CONFIG.replace("100.64.1.0/29", "100.64.1.0/30")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let first = home.ask(&server, Connect, HOME_1).await.unwrap();
    gw1.establish().await;
    let refused = home.ask(&server, Additional, HOME_1).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("IPv4 pool of gateway gw1"),
        "{refused}"
    );
    server.reaches(&first.session_id, S::Established).await;
    let sessions = server
        .operator()
        .await
        .list_sessions(pb::ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .sessions;
    assert_eq!(sessions.len(), 1, "nothing half-made is left");
}

/// Every list of sessions, two at a time, and what it is refused with.
#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for (number, home) in [HOME_1, HOME_2, HOME_1, HOME_1, HOME_2]
        .into_iter()
        .enumerate()
    {
        let mut person = Subscriber::register(&server, &format!("1380000000{number}")).await;
        let session = person.ask(&server, Connect, home).await.unwrap().session_id;
        ids.push((session, person.credentials.subscriber_id.clone()));
    }
    let mut operator = server.operator().await;
    let mut all = async |request: pb::ListSessionsRequest| {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = pb::ListSessionsRequest {
                limit: 2,
                page_token,
                ..request.clone()
            };
            let page = operator.list_sessions(asked).await?.into_inner();
            assert!(page.sessions.len() <= 2);
            found.extend(page.sessions.into_iter().map(|view| view.session_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                found.sort_unstable();
                return Ok::<_, Status>(found);
            }
        }
    };
    let of = |numbers: &[usize]| {
        let mut of: Vec<String> = numbers
            .iter()
            .map(|number| ids[*number].0.clone())
            .collect();
        of.sort_unstable();
        of
    };
    let everything = pb::ListSessionsRequest::default;
    let with = |change: &dyn Fn(&mut pb::ListSessionsRequest)| {
        let mut request = everything();
        change(&mut request);
        request
    };
    let far = doorstep_server::engine::now_ms() + 3_600_000;
    for (request, expected) in [
        (everything(), &[0, 1, 2, 3, 4][..]),
        (
            with(&|asked| asked.gateway_id = "gw1".to_owned()),
            &[0, 2, 3],
        ),
        (
            with(&|asked| asked.location_prefix = HOME_2.to_owned()),
            &[1, 4],
        ),
        (
            with(&|asked| asked.location_prefix = HOME_1[..6].to_owned()),
            &[0, 1, 2, 3, 4],
        ),
        (
            with(&|asked| {
                asked.location_prefix = HOME_1[..4].to_owned();
                asked.gateway_id = "gw2".to_owned();
            }),
            &[1, 4],
        ),
        (
            with(&|asked| asked.subscriber_id.clone_from(&ids[3].1)),
            &[3],
        ),
        (
            with(&|asked| asked.states = vec![S::Connecting.into()]),
            &[0, 1, 2, 3, 4],
        ),
        (
            with(&|asked| asked.states = vec![S::Refused.into(), S::Released.into()]),
            &[],
        ),
        (with(&|asked| asked.since_unix_ms = far), &[]),
    ] {
        assert_eq!(
            all(request.clone()).await.unwrap(),
            of(expected),
            "{request:?}"
        );
    }
    for (request, code, problem) in [
        (
            with(&|asked| asked.gateway_id = "gw9".to_owned()),
            Code::NotFound,
            "gateway_id: no such gateway",
        ),
        (
            with(&|asked| asked.location_prefix = "110103-Xin".to_owned()),
            Code::InvalidArgument,
            "location_prefix: ",
        ),
    ] {
        let refused = all(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(problem), "{refused}");
    }
    let mut operator = server.operator().await;
    let asked = pb::ListSubscribersRequest {
        limit: 3,
        ..pb::ListSubscribersRequest::default()
    };
    let page = operator
        .list_subscribers(asked.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(page.subscribers.len(), 3);
    let asked = pb::ListSubscribersRequest {
        page_token: page.next_page_token,
        ..asked
    };
    let page = operator.list_subscribers(asked).await.unwrap().into_inner();
    assert_eq!(
        (page.subscribers.len(), page.next_page_token.as_str()),
        (2, "")
    );
}

#[tokio::test]
async fn a_location_that_nobody_serves() {
    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let refused = home.ask(&server, Connect, NOWHERE).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.message(),
        "no gateway of this operator serves this location"
    );
}

#[tokio::test]
async fn a_gateway_that_comes_later_is_told_at_hello() {
    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    let mut gw1 = server.gateway("gw1", vec![]).await;
    let told = gw1.until_synced().await;
    let [ToGateway::Connect(connect)] = told.as_slice() else {
        panic!("expected one Connect");
    };
    assert_eq!(connect.session_key, answer.session_key);
}

/// The whole of what the server adds between a terminal's request and "traffic flows": the gateway is
/// woken, and not found by the poll, which takes three seconds at least. The figure is printed
/// (`--nocapture`).
#[tokio::test]
async fn a_request_reaches_its_gateway_at_once() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let mut took_ms = Vec::new();
    for _ in 0..15 {
        let request = home.request(&server, Connect, HOME_1);
        let began = std::time::Instant::now();
        let id = home.send(request).await.unwrap().session_id;
        let mut watch = home.watch(&id).await;
        let generation = gw1.establish().await.generation;
        while watch.next().await.unwrap().state() != S::Established {}
        took_ms.push(began.elapsed().as_secs_f64() * 1e3);
        home.release(&id).await.unwrap();
        gw1.disconnect().await;
        gw1.receipt(&id, generation + 1).await;
        gw1.receipt_ack().await;
        server.reaches(&id, S::Released).await;
    }
    took_ms.sort_by(f64::total_cmp);
    eprintln!(
        "request to established: median {:.1} ms, worst {:.1} ms",
        took_ms[7], took_ms[14]
    );
    assert!(took_ms[7] < 1500.0, "median {:.1} ms", took_ms[7]);
}
