//! Sessions with a time to live whose gateway is away: taken as ended when it must have ended them.

use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_server::engine::contact::MARGIN;
use doorstep_server::engine::{Engine, now_ms};
use pb::AccessKind::{Connect, Move};
use pb::SessionState as S;

use crate::common::{CONFIG, Gateway, HOME_1, HOME_2, PHONE, Server, Subscriber};

const TIME_TO_LIVE_MS: i64 = 30_000;

fn config() -> String {
    format!(
        "default_plan = \"mortal\"\n{CONFIG}\n[[plan]]\nname = \"mortal\"\ntime_to_live_s = 30\n\
         [[plan]]\nname = \"other\"\ntime_to_live_s = 60\n"
    )
}

fn engine(server: &Server) -> &Engine {
    &server.running.as_ref().unwrap().engine
}

/// A session that flows at the first gateway, whose subscriber has just asked to move.
async fn moving(server: &Server, gateway: Gateway) -> (Subscriber, pb::Connect) {
    let mut gateway = gateway;
    let mut home = Subscriber::register(server, PHONE).await;
    home.ask(server, Connect, HOME_1).await.unwrap();
    let connect = gateway.establish().await;
    assert_eq!(connect.service.unwrap().time_to_live_s, 30);
    server.reaches(&connect.session_id, S::Established).await;
    drop(gateway);
    until_gone(server).await;
    home.ask(server, Move, HOME_2).await.unwrap();
    (home, connect)
}

async fn until_gone(server: &Server) {
    while engine(server).hub.link("gw1").is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// When the table has the first gateway in contact last.
async fn seen(engine: &Engine) -> i64 {
    engine.store.gateways().await.unwrap()["gw1"].seen_ms
}

/// When the session has ended for sure, if `last` is the latest that the gateway was in contact.
fn over(last_ms: i64) -> i64 {
    last_ms + TIME_TO_LIVE_MS + i64::try_from(MARGIN.as_millis()).unwrap()
}

#[tokio::test]
async fn a_move_goes_on_when_the_time_is_over() {
    let server = Server::start_with(&config()).await;
    let before = now_ms();
    let gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let (_, connect) = moving(&server, gw1).await;
    let engine = engine(&server);
    // That somebody was told of it changes nothing.
    let unconfirmed = now_ms() + 10_000_000;
    assert_eq!(engine.sweep(unconfirmed).await.unwrap(), 1);
    assert_eq!(engine.end_outlived(over(before) - 1).await.unwrap(), 0);
    assert_eq!(engine.end_outlived(over(now_ms())).await.unwrap(), 1);
    let second = gw2.establish().await;
    assert_eq!(second.session_id, connect.session_id);
    let shown = server.reaches(&second.session_id, S::Established).await;
    assert_eq!(shown.gateway_id, "gw2");
    assert_eq!(engine.end_outlived(over(now_ms())).await.unwrap(), 0);
    let audited = engine.store.audit_count("time-to-live-over").await;
    assert_eq!(audited.unwrap(), 1);

    // The first gateway is back, late: its receipt is recorded, and disturbs nothing.
    let mut gw1 = server.synced_gateway("gw1").await;
    let number = gw1
        .receipt(&connect.session_id, connect.generation + 1)
        .await;
    assert_eq!(gw1.receipt_ack().await, number);
    let detail = server.detail(&connect.session_id).await;
    let session = detail.session.unwrap();
    assert_eq!(session.gateway_id, "gw2");
    assert_eq!(session.state, i32::from(S::Established));
}

#[tokio::test]
async fn a_gateway_in_contact_is_waited_for() {
    let server = Server::start_with(&config()).await;
    let gw1 = server.synced_gateway("gw1").await;
    let (_, connect) = moving(&server, gw1).await;
    let engine = engine(&server);
    // It is back, and does not answer: as long as it is in contact it may forward.
    let mut gw1 = server.gateway("gw1", Vec::new()).await;
    gw1.until_synced().await;
    let before = seen(engine).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let noted = engine.note_contacts().await.unwrap();
    assert!(noted.contains("gw1"), "{noted:?}");
    let last = seen(engine).await;
    assert!(last > before);
    assert_eq!(engine.end_outlived(over(last) - 1).await.unwrap(), 0);
    server.reaches(&connect.session_id, S::Disconnecting).await;
    // Nothing can be written down any more: it has to go.
    engine.end_unrecorded(&noted);
    until_gone(&server).await;
    drop(gw1);
}

#[tokio::test]
async fn a_time_that_the_gateway_has_not_acknowledged_is_not_relied_on() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    let connect = gw1.establish().await;
    server.reaches(&connect.session_id, S::Established).await;
    let mut operator = server.operator().await;
    let request = pb::SetSubscriberPlanRequest {
        subscriber_id: home.credentials.subscriber_id.clone(),
        plan: "other".to_owned(),
        dry_run: false,
    };
    operator.set_subscriber_plan(request).await.unwrap();
    let change = gw1.change_service().await;
    assert_eq!(change.service.unwrap().time_to_live_s, 60);
    drop(gw1);
    until_gone(&server).await;
    home.ask(&server, Move, HOME_2).await.unwrap();
    let engine = engine(&server);
    let days = now_ms() + 10 * 24 * 3_600_000;
    assert_eq!(engine.end_outlived(days).await.unwrap(), 0);
}

#[tokio::test]
async fn without_a_time_to_live_a_receipt_is_waited_for_for_ever() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    let connect = gw1.establish().await;
    server.reaches(&connect.session_id, S::Established).await;
    drop(gw1);
    until_gone(&server).await;
    home.ask(&server, Move, HOME_2).await.unwrap();
    let engine = engine(&server);
    assert_eq!(engine.note_contacts().await.unwrap().len(), 0);
    let days = now_ms() + 10 * 24 * 3_600_000;
    assert_eq!(engine.end_outlived(days).await.unwrap(), 0);
}
