//! What sessions may do: from plans, by hand, live, and through crashes of either side.

use std::time::{Duration, Instant};

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::server_message::Body as ToGateway;
use pb::AccessKind::{Additional, Connect, Move};
use pb::SessionState as S;
use pb::gateway_message::Body as FromGateway;
use tonic::{Code, Status};

use crate::common::{CONFIG, HOME_1, HOME_2, PHONE, Server, Subscriber, configure, held};

const PLANS: &str = r#"
[[plan]]
name = "home-100"
upstream = "50M"
downstream = "100M"
[[plan]]
name = "home-300"
upstream = "100M"
downstream = "300M"
shape = true
priority = 2
"#;

fn home_100() -> pb::Service {
    pb::Service {
        upstream_bps: 50_000_000,
        downstream_bps: 100_000_000,
        shape_downstream: false,
        priority: 0,
        time_to_live_s: 0,
    }
}

fn home_300() -> pb::Service {
    pb::Service {
        upstream_bps: 100_000_000,
        downstream_bps: 300_000_000,
        shape_downstream: true,
        priority: 2,
        time_to_live_s: 0,
    }
}

/// The configuration with the plans above, and this one as the default.
fn config(default: &str) -> String {
    let first = if default.is_empty() {
        String::new()
    } else {
        format!("default_plan = \"{default}\"\n")
    };
    format!("{first}{CONFIG}{PLANS}")
}

async fn set_service(
    server: &Server,
    request: pb::SetSessionServiceRequest,
) -> Result<pb::SessionView, Status> {
    let mut operator = server.operator().await;
    let detail = operator.set_session_service(request).await?.into_inner();
    Ok(detail.session.unwrap())
}

async fn set_plan(server: &Server, subscriber: &str, plan: &str) -> Result<String, Status> {
    let mut operator = server.operator().await;
    let request = pb::SetSubscriberPlanRequest {
        subscriber_id: subscriber.to_owned(),
        plan: plan.to_owned(),
        dry_run: false,
    };
    let view = operator.set_subscriber_plan(request).await?.into_inner();
    Ok(view.plan)
}

/// The session as the operator sees it.
async fn view(server: &Server, session: &str) -> pb::SessionView {
    server.detail(session).await.session.unwrap()
}

/// Waits until the gateway's word about a session's service has been recorded.
async fn until(
    server: &Server,
    session: &str,
    good: impl Fn(&pb::SessionView) -> bool,
) -> pb::SessionView {
    for _ in 0..2000 {
        let view = view(server, session).await;
        if good(&view) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not recorded: {:?}", view(server, session).await);
}

#[tokio::test]
async fn a_session_takes_its_subscribers_plan() {
    let server = Server::start_with(&config("home-100")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    assert_eq!(connect.service, Some(home_100()));
    assert_eq!(connect.service_revision, 1);
    let shown = view(&server, &connect.session_id).await;
    assert_eq!(shown.plan, "home-100");
    assert_eq!(shown.service, Some(home_100()));
    assert!(shown.service_acknowledged);

    // Another plan reaches the session that is open, and one that is asked for later.
    let subscriber = home.credentials.subscriber_id.clone();
    assert_eq!(
        set_plan(&server, &subscriber, "home-300").await.unwrap(),
        "home-300"
    );
    let change = gw1.change_service().await;
    assert_eq!(
        change,
        pb::ChangeService {
            session_id: connect.session_id.clone(),
            generation: 1,
            revision: 2,
            service: Some(home_300()),
        }
    );
    home.ask(&server, Additional, HOME_1).await.unwrap();
    let second = gw1.establish().await;
    assert_eq!(second.service, Some(home_300()));
    assert_eq!(second.service_revision, 1);

    // And back to whatever is the default.
    gw1.ack_service(&connect.session_id, 1, 2).await;
    until(&server, &connect.session_id, |v| v.service_acknowledged).await;
    server.reaches(&second.session_id, S::Established).await;
    assert_eq!(set_plan(&server, &subscriber, "").await.unwrap(), "");
    for _ in 0..2 {
        let change = gw1.change_service().await;
        assert_eq!(change.service, Some(home_100()), "{}", change.session_id);
    }
    assert_eq!(server.audited("set-plan").await, 2);
}

#[tokio::test]
async fn without_a_plan_nothing_is_limited() {
    let server = Server::start_with(&config("")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_, connect) = Subscriber::established(&server, &mut gw1).await;
    assert_eq!(connect.service, Some(pb::Service::default()));
    assert_eq!(view(&server, &connect.session_id).await.plan, "");
}

#[tokio::test]
async fn one_session_is_changed_live() {
    let server = Server::start_with(&config("home-100")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    let steps = server.detail(&id).await.steps;
    let request = pb::SetSessionServiceRequest {
        session_id: id.clone(),
        downstream_bps: Some(20_000_000),
        priority: Some(5),
        ..Default::default()
    };
    let want = pb::Service {
        downstream_bps: 20_000_000,
        priority: 5,
        ..home_100()
    };
    let shown = set_service(&server, request.clone()).await.unwrap();
    assert_eq!(shown.service, Some(want), "what was not given stays");
    assert_eq!(shown.plan, "", "it follows none any more");
    assert_eq!(shown.service_revision, 2);
    assert!(!shown.service_acknowledged);
    let change = gw1.change_service().await;
    assert_eq!((change.generation, change.revision), (1, 2));
    assert_eq!(change.service, Some(want));

    // The gateway cannot, says why, and can in the end.
    gw1.send(FromGateway::Nack(pb::Nack {
        session_id: id.clone(),
        generation: 1,
        reason: pb::NackReason::Dataplane.into(),
        detail: "no space".to_owned(),
        revision: 2,
    }))
    .await;
    let shown = until(&server, &id, |view| !view.service_problem.is_empty()).await;
    assert_eq!(
        shown.service_problem,
        "the gateway's data plane refused it: no space"
    );
    assert_eq!(shown.state(), S::Established, "it goes on as it was");
    gw1.ack_service(&id, 1, 2).await;
    let shown = until(&server, &id, |view| view.service_acknowledged).await;
    assert_eq!(shown.service_problem, "");
    let detail = server.detail(&id).await;
    assert_eq!(detail.steps, steps, "no step of its history");
    assert_eq!(detail.session.unwrap().generation, 1);
    assert_eq!(server.audited("set-service").await, 1);

    // The same again is nothing to tell.
    set_service(&server, request).await.unwrap();
    gw1.silence().await;
    // It goes along when the session moves.
    let mut gw2 = server.synced_gateway("gw2").await;
    home.ask(&server, Move, HOME_2).await.unwrap();
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&id, disconnect.generation).await;
    let moved = gw2.connect().await;
    assert_eq!((moved.service, moved.service_revision), (Some(want), 2));
    assert!(!view(&server, &id).await.service_acknowledged);
}

#[tokio::test]
async fn a_change_before_the_gateway_has_answered_is_not_lost() {
    let server = Server::start_with(&config("home-100")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    let first = gw1.connect().await;
    let request = pb::SetSessionServiceRequest {
        session_id: id.clone(),
        plan: "home-300".to_owned(),
        ..Default::default()
    };
    assert_eq!(
        set_service(&server, request).await.unwrap().plan,
        "home-300"
    );
    // Not answered yet, so it is told by a Connect.
    let second = gw1.connect().await;
    assert_eq!((first.service_revision, second.service_revision), (1, 2));
    assert_eq!(second.service, Some(home_300()));
    assert_eq!(second.generation, first.generation);
    gw1.ack_service(&id, 1, 1).await;
    assert_eq!(gw1.change_service().await.revision, 2);
    gw1.ack_service(&id, 1, 2).await;
    until(&server, &id, |view| view.service_acknowledged).await;
}

#[tokio::test]
async fn a_gateway_that_was_away_catches_up() {
    let mut server = Server::start_with(&config("home-100")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    drop(gw1);
    let request = pb::SetSessionServiceRequest {
        session_id: id.clone(),
        plan: "home-300".to_owned(),
        ..Default::default()
    };
    set_service(&server, request).await.unwrap();
    server.restart().await;
    assert!(!view(&server, &id).await.service_acknowledged);

    let told = |told: Vec<ToGateway>| match &told[..] {
        [ToGateway::ChangeService(change)] => (change.revision, change.service),
        other => panic!("one change, not {} messages", other.len()),
    };
    let holds = |revision| {
        let mut held = held(&id, 1, pb::HeldPhase::Established);
        held.service_revision = revision;
        vec![held]
    };
    // Twice, because nobody acknowledged the first.
    for _ in 0..2 {
        let mut gw1 = server.gateway("gw1", holds(1)).await;
        assert_eq!(told(gw1.until_synced().await), (2, Some(home_300())));
    }
    // It had taken it, and only its Ack was lost.
    let mut gw1 = server.gateway("gw1", holds(2)).await;
    assert_eq!(gw1.until_synced().await, vec![]);
    assert!(view(&server, &id).await.service_acknowledged);
    // An older journal was put back at the gateway.
    let mut gw1 = server.gateway("gw1", holds(1)).await;
    assert_eq!(told(gw1.until_synced().await), (2, Some(home_300())));
    assert!(!view(&server, &id).await.service_acknowledged);
    // An older database was put back at the server: its word counts, under a newer revision.
    let mut gw1 = server.gateway("gw1", holds(7)).await;
    assert_eq!(told(gw1.until_synced().await), (8, Some(home_300())));
    gw1.ack_service(&id, 1, 8).await;
    until(&server, &id, |view| view.service_acknowledged).await;
    gw1.silence().await;
}

#[tokio::test]
async fn a_plan_that_changes_in_the_configuration_changes_its_sessions() {
    let mut server = Server::start_with(&config("home-100")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, first) = Subscriber::established(&server, &mut gw1).await;
    home.ask(&server, Additional, HOME_1).await.unwrap();
    let second = gw1.establish().await;
    server.reaches(&second.session_id, S::Established).await;
    // The second one has a service of its own.
    let request = pb::SetSessionServiceRequest {
        session_id: second.session_id.clone(),
        upstream_bps: Some(0),
        ..Default::default()
    };
    set_service(&server, request).await.unwrap();
    gw1.change_service().await;
    gw1.ack_service(&second.session_id, second.generation, 2)
        .await;
    until(&server, &second.session_id, |v| v.service_acknowledged).await;

    let text = config("home-100").replacen("\"100M\"", "\"200M\"", 1);
    server.config = configure(&text, server.dir.path());
    server.restart().await;
    let mut holds = vec![
        held(&first.session_id, 1, pb::HeldPhase::Established),
        held(
            &second.session_id,
            second.generation,
            pb::HeldPhase::Established,
        ),
    ];
    holds[1].service_revision = 2;
    let mut gw1 = server.gateway("gw1", holds).await;
    // The plans are looked at while gateways come back.
    let change = match &gw1.until_synced().await[..] {
        [] => gw1.change_service().await,
        [ToGateway::ChangeService(change)] => change.clone(),
        told => panic!("one change, not {} messages", told.len()),
    };
    assert_eq!(change.session_id, first.session_id);
    let faster = pb::Service {
        downstream_bps: 200_000_000,
        ..home_100()
    };
    assert_eq!(change.service, Some(faster));
    let end = Instant::now() + Duration::from_secs(10);
    while server.audited("plan-changed").await == 0 {
        assert!(Instant::now() < end, "it is not in the audit log");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // A plan that is gone leaves its sessions as they are.
    server.config = configure(CONFIG, server.dir.path());
    server.restart().await;
    let shown = view(&server, &first.session_id).await;
    assert_eq!(shown.service, Some(faster));
    assert_eq!(shown.plan, "home-100");
}

#[tokio::test]
async fn wrong_services_are_refused_by_name() {
    let server = Server::start_with(&config("")).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = connect.session_id;
    let nobody = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
    let base = || pb::SetSessionServiceRequest {
        session_id: id.clone(),
        ..Default::default()
    };
    let parts = |upstream_bps, downstream_bps, priority| pb::SetSessionServiceRequest {
        upstream_bps,
        downstream_bps,
        priority,
        ..base()
    };
    let plan = |plan: &str| pb::SetSessionServiceRequest {
        plan: plan.to_owned(),
        ..base()
    };
    #[rustfmt::skip]
    let cases = [
        (base(), Code::InvalidArgument, "give a plan, or at least one"),
        (plan("gold"), Code::InvalidArgument, "plan: must be one of home-100, home-300"),
        (pb::SetSessionServiceRequest { priority: Some(1), ..plan("home-100") }, Code::InvalidArgument, "either a plan or parts"),
        (parts(Some(63_999), None, None), Code::InvalidArgument, "upstream: must be at least 64k"),
        (parts(None, Some(u64::MAX), None), Code::InvalidArgument, "downstream: must be at most 1000G"),
        (parts(None, None, Some(8)), Code::InvalidArgument, "priority: must be 0 to 7"),
        (parts(None, None, Some(256)), Code::InvalidArgument, "priority: must be 0 to 7"),
        (pb::SetSessionServiceRequest { session_id: "x".to_owned(), ..plan("home-100") }, Code::InvalidArgument, "session_id: must be a UUID"),
        (pb::SetSessionServiceRequest { session_id: nobody.to_owned(), ..plan("home-100") }, Code::NotFound, "there is no such session"),
    ];
    for (request, code, want) in cases {
        let status = set_service(&server, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{want}");
        assert!(status.message().contains(want), "{want}: {status}");
    }
    let subscriber = home.credentials.subscriber_id.as_str();
    for (subscriber, plan, code, want) in [
        (subscriber, "gold", Code::InvalidArgument, "must be one of"),
        (nobody, "home-100", Code::NotFound, "no such subscriber"),
        ("x", "home-100", Code::InvalidArgument, "must be a UUID"),
    ] {
        let status = set_plan(&server, subscriber, plan).await.unwrap_err();
        assert_eq!(status.code(), code, "{want}");
        assert!(status.message().contains(want), "{want}: {status}");
    }
    gw1.silence().await;
    assert_eq!(view(&server, &id).await.service_revision, 1);
    for action in ["set-service", "set-plan"] {
        assert_eq!(server.audited(action).await, 0);
    }
}
