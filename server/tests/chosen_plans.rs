//! Plans that subscribers choose themselves.

use doorstep_proto::v1 as pb;
use pb::AccessKind::{Additional, Connect, Move};
use pb::SessionState as S;
use tonic::Code;

use crate::common::{CONFIG, HOME_1, HOME_1B, HOME_2, PHONE, Server, Subscriber};

/// One plan that nobody may choose, and two that everybody may.
fn config() -> String {
    format!(
        "default_plan = \"basic\"\n{CONFIG}\
         [[plan]]\nname = \"basic\"\nupstream = \"1M\"\n\
         [[plan]]\nname = \"home\"\nupstream = \"10M\"\noffered = true\ntitle = \"家庭宽带\"\nprice = \"¥68 / 月\"\n\
         [[plan]]\nname = \"office\"\nupstream = \"70M\"\noffered = true\n\
         [[plan]]\nname = \"staff\"\nupstream = \"5G\"\n"
    )
}

async fn named(
    home: &mut Subscriber,
    server: &Server,
    kind: pb::AccessKind,
    (location, plan): (&str, &str),
) -> pb::RequestAccessRequest {
    let mut request = home.request(server, kind, location);
    plan.clone_into(&mut request.plan);
    request
}

async fn offered(home: &mut Subscriber, known: bool) -> Vec<(String, bool)> {
    let credentials = known.then(|| home.credentials.clone());
    let plans = home.client.plans(pb::PlansRequest { credentials }).await;
    let plans = plans.unwrap().into_inner().plans.into_iter();
    plans.map(|plan| (plan.name, plan.own)).collect()
}

fn names(plans: &[(&str, bool)]) -> Vec<(String, bool)> {
    let plans = plans.iter();
    plans
        .map(|(name, own)| ((*name).to_owned(), *own))
        .collect()
}

#[tokio::test]
async fn what_is_offered_is_told() {
    let server = Server::start_with(&config()).await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let usual = [("basic", true), ("home", false), ("office", false)];
    assert_eq!(offered(&mut home, false).await, names(&usual));
    assert_eq!(offered(&mut home, true).await, names(&usual));

    let credentials = Some(home.credentials.clone());
    let plans = home.client.plans(pb::PlansRequest { credentials }).await;
    let told = plans.unwrap().into_inner().plans.remove(1);
    assert_eq!(
        (told.title.as_str(), told.price.as_str()),
        ("家庭宽带", "¥68 / 月")
    );
    assert_eq!((told.upstream_bps, told.downstream_bps), (10_000_000, 0));

    // Whom the operator has put on one that is not offered may name that one, too.
    let mut operator = server.operator().await;
    let put = operator.set_subscriber_plan(pb::SetSubscriberPlanRequest {
        subscriber_id: home.credentials.subscriber_id.clone(),
        plan: "staff".to_owned(),
        dry_run: false,
    });
    put.await.unwrap();
    let staff = [("home", false), ("office", false), ("staff", true)];
    assert_eq!(offered(&mut home, true).await, names(&staff));
    assert_eq!(offered(&mut home, false).await, names(&usual));

    let mut wrong = home.credentials.clone();
    wrong.secret[0] ^= 1;
    let credentials = Some(wrong);
    let refused = home.client.plans(pb::PlansRequest { credentials }).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_session_is_on_the_plan_that_was_chosen() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let request = named(&mut home, &server, Connect, (HOME_1, "home")).await;
    let granted = home.send(request.clone()).await.unwrap();
    let connect = gw1.establish().await;
    assert_eq!(connect.service.unwrap().upstream_bps, 10_000_000);
    assert_eq!(connect.service_revision, 1);
    let first = server.reaches(&connect.session_id, S::Established).await;
    assert_eq!(first.plan, "home");
    assert_eq!(server.audited("choose-plan").await, 1);

    // The same question has the same answer; another plan makes it another question.
    assert_eq!(home.send(request.clone()).await.unwrap(), granted);
    let other = pb::RequestAccessRequest {
        plan: "office".to_owned(),
        ..request
    };
    let refused = home.send(other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    // Without a choice it is the subscriber's.
    home.ask(&server, Additional, HOME_1B).await.unwrap();
    let second = gw1.establish().await;
    let second = server.reaches(&second.session_id, S::Established).await;
    assert_eq!(second.plan, "basic");
    assert_eq!(server.audited("choose-plan").await, 1);
    let mut operator = server.operator().await;
    let listed = operator.list_subscribers(pb::ListSubscribersRequest::default());
    let subscribers = listed.await.unwrap().into_inner().subscribers;
    assert_eq!(subscribers[0].plan, "", "the choice is the session's");
}

#[tokio::test]
async fn a_session_that_moves_keeps_its_plan_or_gets_another() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let request = named(&mut home, &server, Connect, (HOME_1, "home")).await;
    home.send(request).await.unwrap();
    let connect = gw1.establish().await;
    server.reaches(&connect.session_id, S::Established).await;

    for (location, plan, on) in [(HOME_2, "", "home"), (HOME_1, "office", "office")] {
        let (from, to) = match location {
            HOME_2 => (&mut gw1, &mut gw2),
            _ => (&mut gw2, &mut gw1),
        };
        let request = named(&mut home, &server, Move, (location, plan)).await;
        home.send(request).await.unwrap();
        let disconnect = from.disconnect().await;
        from.receipt(&disconnect.session_id, disconnect.generation)
            .await;
        from.receipt_ack().await;
        let moved = to.establish().await;
        let view = server.reaches(&moved.session_id, S::Established).await;
        assert_eq!(view.plan, on);
        let expected = if on == "home" { 10_000_000 } else { 70_000_000 };
        assert_eq!(moved.service.unwrap().upstream_bps, expected);
    }
}

#[tokio::test]
async fn what_is_not_offered_is_refused_and_changes_nothing() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    for plan in ["staff", "nothing"] {
        let request = named(&mut home, &server, Connect, (HOME_1, plan)).await;
        let refused = home.send(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let text = refused.message();
        assert!(text.contains("choose one of basic, home, office"), "{text}");
    }
    gw1.silence().await;

    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    assert_eq!(offered(&mut home, true).await, []);
    let request = named(&mut home, &server, Connect, (HOME_1, "home")).await;
    let refused = home.send(request).await.unwrap_err();
    assert!(refused.message().contains("offers none"), "{refused}");
}

/// As it was granted, also once it is offered no more.
#[tokio::test]
async fn offers_are_taken_up_while_the_server_runs() {
    let server = Server::start_with(&config()).await;
    let file = server.dir.path().join("server.toml");
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let request = named(&mut home, &server, Connect, (HOME_1, "home")).await;
    let granted = home.send(request.clone()).await.unwrap();
    gw1.establish().await;

    std::fs::write(
        &file,
        config().replacen("offered = true", "offered = false", 1),
    )
    .unwrap();
    let mut operator = server.operator().await;
    let reloaded = operator.reload_plans(pb::ReloadPlansRequest { dry_run: false });
    let reloaded = reloaded.await.unwrap().into_inner();
    assert_eq!(reloaded.changes, []);
    let offers: Vec<_> = reloaded
        .offers
        .iter()
        .map(|o| (&*o.name, o.offered))
        .collect();
    assert_eq!(offers, [("home", false)]);
    let left = [("basic", true), ("office", false)];
    assert_eq!(offered(&mut home, true).await, names(&left));
    assert_eq!(home.send(request).await.unwrap(), granted);
    let again = named(&mut home, &server, Additional, (HOME_1B, "home")).await;
    let refused = home.send(again).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let view = server.reaches(&granted.session_id, S::Established).await;
    assert_eq!(view.plan, "home");
}
