//! Old rows go when nothing depends on them any more, and not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::server_message::Body as ToGateway;
use doorstep_server::engine::{Engine, Pruned, now_ms};
use doorstep_server::session::State;
use pb::AccessKind::{Additional, Connect, Move};
use pb::SessionState as S;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::common::{self, HOME_1, HOME_1B, HOME_2, PHONE, Server, Subscriber, config_with, held};

const DAYS_MS: i64 = 24 * 3_600_000;

fn engine(server: &Server) -> Arc<Engine> {
    Arc::clone(&server.running.as_ref().unwrap().engine)
}

/// What a walk removes so many days from now.
async fn after_days(server: &Server, days: i64) -> Pruned {
    let at_ms = now_ms() + days * DAYS_MS;
    engine(server).prune(at_ms).await.unwrap()
}

async fn history(server: &Server, session: &str) -> Vec<State> {
    let session: Uuid = session.parse().unwrap();
    let steps = engine(server).store.steps(session, None).await.unwrap();
    steps.iter().map(|step| step.state).collect()
}

/// A session that went the whole way and was released, and what had been asked for it.
async fn ended(
    server: &Server,
    gw1: &mut common::Gateway,
    home: &mut Subscriber,
) -> (String, pb::RequestAccessRequest) {
    let request = home.request(server, Connect, HOME_1);
    let answer = home.send(request.clone()).await.unwrap();
    gw1.establish().await;
    server.reaches(&answer.session_id, S::Established).await;
    home.release("").await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&answer.session_id, disconnect.generation).await;
    gw1.receipt_ack().await;
    server.reaches(&answer.session_id, S::Released).await;
    (answer.session_id, request)
}

#[tokio::test]
async fn what_may_go_goes_and_the_rest_stays() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut gone = Subscriber::register(&server, PHONE).await;
    let (ended, _) = ended(&server, &mut gw1, &mut gone).await;
    let mut home = Subscriber::register(&server, "13900000001").await;
    let live = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    gw1.establish().await;
    server.reaches(&live, S::Established).await;
    // Disconnected and receipted once, but not ended.
    home.ask(&server, Move, HOME_2).await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&live, disconnect.generation).await;
    gw1.receipt_ack().await;
    gw2.establish().await;
    server.reaches(&live, S::Established).await;

    let (of_ended, of_live) = (
        history(&server, &ended).await,
        history(&server, &live).await,
    );
    assert!(of_ended.len() > 3 && of_live.len() > 5);
    assert_eq!(after_days(&server, 59).await, Pruned::default());
    let requests = Pruned {
        requests: 3,
        ..Pruned::default()
    };
    assert_eq!(after_days(&server, 61).await, requests);
    assert_eq!(after_days(&server, 179).await, Pruned::default());
    let steps = Pruned {
        steps: of_ended.len() as u64 - 1,
        ..Pruned::default()
    };
    assert_eq!(after_days(&server, 181).await, steps);
    assert_eq!(history(&server, &ended).await, [State::Released]);
    assert_eq!(after_days(&server, 399).await, Pruned::default());
    let receipts = Pruned {
        receipts: 2,
        ..Pruned::default()
    };
    assert_eq!(after_days(&server, 401).await, receipts);
    assert_eq!(after_days(&server, 10_000).await, Pruned::default());
    assert_eq!(history(&server, &live).await, of_live);

    // A watch of what ended long ago is told so, and ends.
    let mut watch = gone.watch(&ended).await;
    watch.expect(S::Released, 2).await;
    assert_eq!(watch.next().await, None);
    // What is live goes on.
    home.release("").await.unwrap();
    let disconnect = gw2.disconnect().await;
    gw2.receipt(&live, disconnect.generation).await;
    server.reaches(&live, S::Released).await;
}

#[tokio::test]
async fn a_request_is_carried_out_once_though_old_ones_are_removed() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let (session, request) = ended(&server, &mut gw1, &mut home).await;
    // The longest that a terminal repeats one.
    let longest = i64::from(u32::MAX) / DAYS_MS + 1;
    assert_eq!(after_days(&server, longest).await, Pruned::default());
    let again = home.send(request.clone()).await.unwrap();
    assert_eq!((again.session_id, again.generation), (session.clone(), 1));
    let other = pb::RequestAccessRequest {
        kind: Additional.into(),
        ..request
    };
    let refused = home.send(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(
        server.detail(&session).await.session.unwrap().state(),
        S::Released
    );
    gw1.silence().await;
}

#[tokio::test]
async fn what_a_gateway_says_years_later_is_understood() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let (session, _) = ended(&server, &mut gw1, &mut home).await;
    assert_eq!(after_days(&server, 401).await.receipts, 1);
    // The receipt once more, and an acknowledgement of what is long over.
    gw1.send_receipt(1, &session, 2).await;
    assert_eq!(gw1.receipt_ack().await, 1);
    gw1.ack(&session, 1).await;
    gw1.established(&session, 1).await;
    gw1.silence().await;
    let detail = server.detail(&session).await;
    assert_eq!(detail.session.unwrap().state(), S::Released);
    assert_eq!(detail.receipts.len(), 1, "recorded anew, for as long");
    // A gateway that comes back with it is told to drop it, before anything else.
    drop(gw1);
    let forwarding = held(&session, 1, pb::HeldPhase::Established);
    let mut gw1 = server.gateway("gw1", vec![forwarding]).await;
    let told = gw1.until_synced().await;
    assert!(
        matches!(&told[..], [ToGateway::Disconnect(one)]
            if one.session_id == session && one.generation == 2),
        "{:?}",
        told.iter().map(common::kind).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn all_rows_of_many_pieces_are_looked_at() {
    const SESSIONS: u64 = 4;
    const REFUSALS: u64 = 300;
    let unlimited = "[limits]\nsubscriber_rate = { per_minute = 0 }\n\
                     source_rate = { per_minute = 0 }";
    let server = Server::start_with(&config_with(unlimited)).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    // Each has a long history, so that pieces end in the middle of one.
    let mut steps = 0;
    let engine = engine(&server);
    for number in 0..SESSIONS {
        let place = if number % 2 == 0 { HOME_1 } else { HOME_1B };
        let session = home.ask(&server, Connect, place).await.unwrap().session_id;
        gw1.establish().await;
        server.reaches(&session, S::Established).await;
        let id: Uuid = session.parse().unwrap();
        for other in 0..REFUSALS {
            let again = doorstep_server::engine::GatewayEvent::Established {
                terminal_mac: String::new(),
                line: format!("line {other}"),
                route: String::new(),
            };
            engine
                .gateway_event("gw1", id, 2 * number + 1, &again)
                .await
                .unwrap();
        }
        home.release("").await.unwrap();
        let disconnect = gw1.disconnect().await;
        gw1.receipt(&session, disconnect.generation).await;
        gw1.receipt_ack().await;
        server.reaches(&session, S::Released).await;
        steps += history(&server, &session).await.len() as u64 - 1;
    }
    assert!(steps > SESSIONS * REFUSALS);
    assert_eq!(
        after_days(&server, 1_000).await,
        Pruned {
            steps,
            requests: SESSIONS,
            receipts: SESSIONS,
        }
    );
}

#[tokio::test]
async fn rows_may_be_kept_for_ever() {
    let forever = "[retention]\nsteps_days = 0\nrequests_days = 0\nreceipts_days = 0";
    let server = Server::start_with(&config_with(forever)).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let (session, _) = ended(&server, &mut gw1, &mut home).await;
    let before = history(&server, &session).await;
    assert_eq!(after_days(&server, 100_000).await, Pruned::default());
    assert_eq!(history(&server, &session).await, before);
}

static WALKS: AtomicU32 = AtomicU32::new(0);

/// Set forward by years when it is looked at the second time.
fn jumping() -> i64 {
    match WALKS.fetch_add(1, Ordering::Relaxed) {
        0 => now_ms(),
        _ => now_ms() + 2_000 * DAYS_MS,
    }
}

fn years_later() -> i64 {
    now_ms() + 2_000 * DAYS_MS
}

#[tokio::test]
async fn a_walk_comes_again_and_again_and_does_not_follow_a_clock_that_jumps() {
    const EVERY: Duration = Duration::from_millis(10);
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let (session, _) = ended(&server, &mut gw1, &mut home).await;
    let before = history(&server, &session).await;
    let walk = |clock| {
        let (engine, stop) = (engine(&server), CancellationToken::new());
        let stopping = stop.clone();
        let walk = async move { engine.prune_for_ever(EVERY, clock, stopping).await };
        (tokio::spawn(walk), stop)
    };
    let until = async |done: &dyn Fn(usize) -> bool| {
        while !done(history(&server, &session).await.len()) {
            tokio::time::sleep(EVERY).await;
        }
    };

    let first = WALKS.load(Ordering::Relaxed);
    let (walker, stop) = walk(jumping);
    until(&|_| WALKS.load(Ordering::Relaxed) > first + 5).await;
    stop.cancel();
    walker.await.unwrap();
    assert_eq!(history(&server, &session).await, before);

    let (walker, stop) = walk(years_later);
    tokio::time::timeout(Duration::from_secs(60), until(&|steps| steps == 1))
        .await
        .expect("old steps stay");
    stop.cancel();
    walker.await.unwrap();
}
