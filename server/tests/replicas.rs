//! Two servers of one operator on one PostgreSQL.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_server::engine::{Pruned, now_ms};
use pb::AccessKind::{Connect, Move};
use pb::SessionState as S;
use pb::gateway_message::Body as FromGateway;

use crate::common::{HOME_1, HOME_2, PHONE, Server, Subscriber};

/// The terminal asks one server, the gateways' streams are at the other.
#[tokio::test]
async fn a_move_goes_through_whichever_server_is_asked() {
    let one = Server::start_on_postgres().await;
    let other = one.replica().await;
    let mut gw1 = other.synced_gateway("gw1").await;
    let mut gw2 = one.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&one, PHONE).await;
    let answer = home.ask(&one, Connect, HOME_1).await.unwrap();
    let mut watch = home.watch(&answer.session_id).await;
    watch.expect(S::Connecting, 1).await;
    gw1.establish().await;
    watch.expect(S::Establishing, 1).await;
    watch.expect(S::Established, 1).await;

    let mut home = home.at(&other).await;
    home.ask(&other, Move, HOME_2).await.unwrap();
    watch.expect(S::Disconnecting, 2).await;
    let disconnect = gw1.disconnect().await;
    gw2.silence().await;
    gw1.receipt(&disconnect.session_id, disconnect.generation)
        .await;
    gw1.receipt_ack().await;
    watch.expect(S::Connecting, 3).await;
    gw2.establish().await;
    watch.expect(S::Establishing, 3).await;
    watch.expect(S::Established, 3).await;
}

/// A gateway tells the server that it has its stream to which terminals are silent; another one says
/// that it does not know.
#[tokio::test]
async fn silence_is_known_where_the_gateway_reports() {
    let one = Server::start_on_postgres().await;
    let other = one.replica().await;
    let mut gw1 = other.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&one, PHONE).await;
    let session = home.ask(&one, Connect, HOME_1).await.unwrap().session_id;
    gw1.establish().await;
    one.reaches(&session, S::Established).await;
    let report = pb::SessionCounters {
        session_id: session.clone(),
        generation: 1,
        counters: Some(pb::Counters::default()),
        silent_since_unix_ms: 5000,
        blocked: false,
    };
    gw1.send(FromGateway::Accounting(pb::Accounting {
        sessions: vec![report],
        uplink_problem: String::new(),
    }))
    .await;
    let mut seen = pb::Liveness::Unspecified;
    for _ in 0..1000 {
        seen = other.detail(&session).await.session.unwrap().liveness();
        if seen == pb::Liveness::Silent {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(seen, pb::Liveness::Silent);
    let elsewhere = one.detail(&session).await.session.unwrap();
    assert_eq!(elsewhere.liveness(), pb::Liveness::Unspecified);
    assert_eq!(elsewhere.silent_since_unix_ms, 0);
}

/// What one has removed the other does not find, and neither is in the other's way.
#[tokio::test]
async fn old_rows_are_removed_once_by_several_servers_at_once() {
    const SESSIONS: u64 = 20;
    let one = Server::start_on_postgres().await;
    let other = one.replica().await;
    let mut gw1 = other.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&one, PHONE).await;
    for _ in 0..SESSIONS {
        let session = home.ask(&one, Connect, HOME_1).await.unwrap().session_id;
        gw1.establish().await;
        one.reaches(&session, S::Established).await;
        home.release("").await.unwrap();
        let disconnect = gw1.disconnect().await;
        gw1.receipt(&session, disconnect.generation).await;
        gw1.receipt_ack().await;
        one.reaches(&session, S::Released).await;
    }
    let years_later = now_ms() + 2_000 * 24 * 3_600_000;
    let walk = async |server: &Server| {
        let engine = &server.running.as_ref().unwrap().engine;
        engine.prune(years_later).await.unwrap()
    };
    let (a, b, c) = tokio::join!(walk(&one), walk(&other), walk(&one));
    let sum = |of: fn(&Pruned) -> u64| of(&a) + of(&b) + of(&c);
    assert_eq!(sum(|pruned| pruned.requests), SESSIONS);
    assert_eq!(sum(|pruned| pruned.receipts), SESSIONS);
    // Connecting, establishing, established, disconnecting; the last one stays.
    assert_eq!(sum(|pruned| pruned.steps), 4 * SESSIONS);
    assert_eq!(walk(&other).await, Pruned::default());
}

/// What one opens another releases; each counts what it writes, and all tell the same sum.
#[tokio::test]
async fn counts_are_those_of_all_servers() {
    let one = Server::start_on_postgres().await;
    let other = one.replica().await;
    let mut gw1 = one.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&one, PHONE).await;
    let session = home.ask(&one, Connect, HOME_1).await.unwrap().session_id;
    gw1.establish().await;
    one.reaches(&session, S::Established).await;
    let told = async |server: &Server| {
        let mut operator = server.operator().await;
        let status = operator.status(pb::OperatorStatusRequest {}).await;
        let status = status.unwrap().into_inner();
        let gateways = operator.list_gateways(pb::ListGatewaysRequest {}).await;
        let gateways = gateways.unwrap().into_inner().gateways;
        let by_state = status.sessions_by_state.iter();
        let by_state: Vec<_> = by_state.map(|entry| (entry.state(), entry.count)).collect();
        let at_gateways: Vec<_> = gateways.iter().map(|gateway| gateway.sessions).collect();
        (status.subscribers, by_state, at_gateways)
    };
    for server in [&one, &other] {
        let expected = (1, vec![(S::Established, 1)], vec![1, 0]);
        assert_eq!(told(server).await, expected);
    }
    let mut home = home.at(&other).await;
    home.release("").await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&session, disconnect.generation).await;
    gw1.receipt_ack().await;
    one.reaches(&session, S::Released).await;
    for server in [&one, &other] {
        assert_eq!(told(server).await, (1, vec![(S::Released, 1)], vec![0, 0]));
    }
    // A server that comes later takes over what others have counted before they went.
    let third = one.replica().await;
    let store = &third.running.as_ref().unwrap().engine.store;
    assert_eq!(store.correct_tallies().await.unwrap(), 0);
    assert_eq!(told(&third).await, (1, vec![(S::Released, 1)], vec![0, 0]));
}
