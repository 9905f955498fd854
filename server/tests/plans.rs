//! Plans that are taken up from the configuration while the server runs.

use std::path::Path;

use doorstep_proto::v1 as pb;
use pb::AccessKind::Additional;
use pb::SessionState as S;
use tonic::{Code, Status};

use crate::common::{CONFIG, HOME_1, Server, Subscriber};

/// `rate` is the upstream of the default plan.
fn config(rate: &str) -> String {
    format!(
        "default_plan = \"home\"\n{CONFIG}[[plan]]\nname = \"home\"\nupstream = \"{rate}\"\n\
         [[plan]]\nname = \"office\"\nupstream = \"7M\"\n"
    )
}

/// A server that has read its configuration from a file.
async fn start(text: &str) -> Server {
    let server = Server::start_with(text).await;
    write(server.dir.path(), text);
    server
}

fn write(dir: &Path, text: &str) {
    std::fs::write(dir.join("server.toml"), text).unwrap();
}

async fn reload(server: &Server, dry_run: bool) -> Result<pb::ReloadPlansResponse, Status> {
    let mut operator = server.operator().await;
    let reloaded = operator.reload_plans(pb::ReloadPlansRequest { dry_run });
    reloaded.await.map(tonic::Response::into_inner)
}

async fn upstream(server: &Server, plan: &str) -> Option<u64> {
    let mut operator = server.operator().await;
    let listed = operator.list_plans(pb::ListPlansRequest {}).await.unwrap();
    let plans = listed.into_inner().plans.into_iter();
    let mut found = plans.filter(|view| view.name == plan);
    Some(found.next()?.service.unwrap().upstream_bps)
}

#[tokio::test]
async fn sessions_follow_while_they_go_on() {
    let server = start(&config("10M")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let reloaded = reload(&server, false).await.unwrap();
    assert_eq!(reloaded.changes, []);

    let text = config("20M").replace("listen =", "country_code = \"86\"\nlisten =");
    write(server.dir.path(), &text);
    let told = reload(&server, true).await.unwrap();
    assert_eq!(told.changes.len(), 1);
    assert_eq!(told.changes[0].before.unwrap().upstream_bps, 10_000_000);
    assert_eq!(told.changes[0].after.unwrap().upstream_bps, 20_000_000);
    assert_eq!(told.default_plan, None);
    let restart = &told.needs_restart;
    assert!(restart.contains(&"country_code".to_owned()), "{restart:?}");
    assert!(!restart.contains(&"gateways".to_owned()), "{restart:?}");
    assert_eq!(upstream(&server, "home").await, Some(10_000_000));
    assert_eq!(server.audited("reload-plans").await, 0);

    let done = reload(&server, false).await.unwrap();
    assert_eq!(done, told);
    let change = gw1.change_service().await;
    assert_eq!(change.session_id, connect.session_id);
    assert_eq!(change.service.unwrap().upstream_bps, 20_000_000);
    gw1.ack_service(&change.session_id, connect.generation, change.revision)
        .await;
    assert_eq!(server.audited("reload-plans").await, 1);
    assert_eq!(upstream(&server, "home").await, Some(20_000_000));
    // A session that comes later.
    home.ask(&server, Additional, HOME_1).await.unwrap();
    let second = gw1.establish().await;
    assert_eq!(second.service.unwrap().upstream_bps, 20_000_000);
}

#[tokio::test]
async fn every_reload_is_followed() {
    let server = start(&config("10M")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_, connect) = Subscriber::established(&server, &mut gw1).await;
    for rate in 11..16 {
        write(server.dir.path(), &config(&format!("{rate}M")));
        reload(&server, false).await.unwrap();
    }
    // How many of them reach the gateway is not certain, only that the last one does.
    loop {
        let change = gw1.change_service().await;
        assert_eq!(change.session_id, connect.session_id);
        gw1.ack_service(&change.session_id, connect.generation, change.revision)
            .await;
        if change.service.unwrap().upstream_bps == 15_000_000 {
            break;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing() {
    let server = start(&config("10M")).await;
    write(server.dir.path(), &config("20 apples"));
    let refused = reload(&server, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("server.toml:"), "{refused}");
    std::fs::remove_file(server.dir.path().join("server.toml")).unwrap();
    let refused = reload(&server, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("cannot read"), "{refused}");
    assert_eq!(upstream(&server, "home").await, Some(10_000_000));
    assert_eq!(server.audited("reload-plans").await, 0);
}

#[tokio::test]
async fn a_plan_that_is_gone_leaves_its_sessions_as_they_are() {
    let server = start(&config("10M")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let text = config("10M").replace("\"home\"", "\"new\"");
    write(server.dir.path(), &text);
    let reloaded = reload(&server, false).await.unwrap();
    let names = |gone: bool| {
        let changes = reloaded.changes.iter();
        let changes = changes.filter(|change| change.after.is_none() == gone);
        changes
            .map(|change| change.name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!((names(true), names(false)), (vec!["home"], vec!["new"]));
    assert_eq!(reloaded.default_plan.as_deref(), Some("new"));
    assert_eq!(reloaded.missing, ["home"]);
    home.ask(&server, Additional, HOME_1).await.unwrap();
    let second = gw1.establish().await;
    let view = server.reaches(&second.session_id, S::Established).await;
    assert_eq!(view.plan, "new");
    let first = server.detail(&connect.session_id).await.session.unwrap();
    assert_eq!(first.plan, "home");
    assert_eq!(first.service.unwrap().upstream_bps, 10_000_000);
}

/// A session's time to live counts from the last contact that is written down.
#[tokio::test]
async fn contacts_are_written_down_before_a_time_to_live_begins() {
    let server = start(&config("10M")).await;
    let engine = &server.running.as_ref().unwrap().engine;
    let mut gw1 = server.synced_gateway("gw1").await;
    Subscriber::established(&server, &mut gw1).await;
    let seen = async || engine.store.gateways().await.unwrap()["gw1"].seen_ms;
    let before = seen().await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert!(engine.note_contacts().await.unwrap().is_empty());
    let text = config("10M").replace("upstream = \"10M\"", "time_to_live_s = 30");
    assert_ne!(text, config("10M"));
    write(server.dir.path(), &text);
    reload(&server, false).await.unwrap();
    assert!(seen().await > before);
    let change = gw1.change_service().await;
    assert_eq!(change.service.unwrap().time_to_live_s, 30);
}
