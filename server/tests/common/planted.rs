//! Every call of every service, with a subscriber's numbers where they do not belong.

use doorstep_proto::v1 as pb;
use tonic::Status;

use super::{Gateway, ID_CARD, PHONE, Server, Subscriber};

/// The refusals, by call.
pub async fn refusals(server: &Server, home: &Subscriber) -> Vec<(&'static str, Status)> {
    let planted = || format!("{PHONE} {ID_CARD}");
    let mut refused = Vec::new();
    let mut add = |call, result: Result<(), Status>| match result {
        Err(status) => refused.push((call, status)),
        Ok(()) => panic!("{call}: a number is no id"),
    };

    let mut access = home.client.clone();
    let register = access.register(pb::RegisterRequest {
        phone: format!("{PHONE}x"),
        id_card: format!("{ID_CARD}x"),
        verification_code: String::new(),
    });
    add("Register", register.await.map(drop));
    // The numbers of someone who is known, and of the same length with another end.
    let register = access.register(pb::RegisterRequest {
        phone: PHONE.to_owned(),
        id_card: ID_CARD.replace('X', "1"),
        verification_code: String::new(),
    });
    add("Register, check digit", register.await.map(drop));
    let credentials = || Some(home.credentials.clone());
    let stranger = || {
        Some(pb::Credentials {
            subscriber_id: planted(),
            secret: home.credentials.secret.clone(),
        })
    };
    for (call, credentials) in [
        ("RequestAccess", credentials()),
        ("RequestAccess of nobody", stranger()),
    ] {
        let request = access.request_access(pb::RequestAccessRequest {
            credentials,
            kind: pb::AccessKind::Move.into(),
            sealed_location_id: planted(),
            session_id: planted(),
            request_id: planted(),
            plan: planted(),
        });
        add(call, request.await.map(drop));
    }
    let request = access.request_access(pb::RequestAccessRequest {
        credentials: credentials(),
        kind: pb::AccessKind::Additional.into(),
        sealed_location_id: format!("d1.{}", planted()),
        session_id: String::new(),
        request_id: uuid::Uuid::new_v4().to_string(),
        plan: String::new(),
    });
    add("RequestAccess, seal", request.await.map(drop));
    let request = access.plans(pb::PlansRequest {
        credentials: stranger(),
    });
    add("Plans of nobody", request.await.map(drop));
    for (call, credentials) in [
        ("Release", credentials()),
        ("Release of nobody", stranger()),
    ] {
        let release = access.release(pb::ReleaseRequest {
            credentials,
            session_id: planted(),
        });
        add(call, release.await.map(drop));
    }
    for (call, credentials) in [("Watch", credentials()), ("Watch of nobody", stranger())] {
        let watch = access.watch(pb::WatchRequest {
            credentials,
            session_id: planted(),
        });
        add(call, watch.await.map(drop));
    }

    let mut operator = server.operator().await;
    let id = planted;
    let show = operator.show_subscriber(pb::ShowSubscriberRequest {
        subscriber_id: id(),
    });
    add("ShowSubscriber", show.await.map(drop));
    let reset = operator.reset_secret(pb::ResetSecretRequest {
        subscriber_id: id(),
        dry_run: false,
    });
    add("ResetSecret", reset.await.map(drop));
    let show = operator.show_session(pb::ShowSessionRequest { session_id: id() });
    add("ShowSession", show.await.map(drop));
    for subject in [
        pb::why_request::Subject::Phone(format!("{PHONE}x")),
        pb::why_request::Subject::Phone(ID_CARD.to_owned()),
        pb::why_request::Subject::LocationId(id()),
        pb::why_request::Subject::SessionId(id()),
    ] {
        let why = operator.why(pb::WhyRequest {
            subject: Some(subject),
            quiet_after_s: 0,
        });
        add("Why", why.await.map(drop));
    }
    let force = operator.force_session(pb::ForceSessionRequest {
        session_id: id(),
        dry_run: false,
    });
    add("ForceSession", force.await.map(drop));
    let disconnect = operator.disconnect_session(pb::DisconnectSessionRequest {
        session_id: id(),
        dry_run: false,
    });
    add("DisconnectSession", disconnect.await.map(drop));
    let service = operator.set_session_service(pb::SetSessionServiceRequest {
        session_id: id(),
        ..Default::default()
    });
    add("SetSessionService", service.await.map(drop));
    let plan = operator.set_subscriber_plan(pb::SetSubscriberPlanRequest {
        subscriber_id: id(),
        ..Default::default()
    });
    add("SetSubscriberPlan", plan.await.map(drop));

    let client = server.control(Some(server.identity("gw1"))).await.unwrap();
    let hello = pb::Hello {
        protocol_version: 1,
        gateway_id: id(),
        software_version: id(),
        held: vec![super::held(&id(), 1, pb::HeldPhase::Established)],
    };
    let refusal = match Gateway::hello(client, hello).await {
        Err(status) => Err(status),
        Ok(mut gateway) => gateway.next().await.map(drop),
    };
    add("Control", refusal);
    // Lists take any text to go on after; who refuses it must not repeat it.
    let list = operator.list_subscribers(pb::ListSubscribersRequest {
        page_token: id(),
        ..Default::default()
    });
    refused.extend(list.await.err().map(|status| ("ListSubscribers", status)));
    let list = operator.list_sessions(pb::ListSessionsRequest {
        page_token: id(),
        subscriber_id: id(),
        location_prefix: id(),
        ..Default::default()
    });
    refused.extend(list.await.err().map(|status| ("ListSessions", status)));
    let list = operator.list_sessions(pb::ListSessionsRequest {
        gateway_id: id(),
        ..Default::default()
    });
    refused.extend(list.await.err().map(|status| ("ListSessions", status)));
    refused
}
