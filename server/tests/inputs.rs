//! Bad requests: each gets an answer that says what and where, and none disturbs anything.

use doorstep_proto::v1 as pb;
use pb::AccessKind::{Additional, Connect, Move};
use tonic::Code;
use uuid::Uuid;

use crate::common::{CONFIG, HOME_1, HOME_2, ID_CARD, PHONE, Server, Subscriber, config_with};

#[tokio::test]
async fn registration_checks_its_numbers() {
    let server = Server::start().await;
    let mut client = server.access().await;
    let cases = [
        ("", "", "at least one of the two"),
        ("123", "", "phone: it must have 5 to 15 digits"),
        ("call me", "", "phone: it may hold only"),
        ("", "11010519491231002", "id_card: it must have 18"),
        ("", "110105194912310021", "id_card: the check character"),
        ("12", "34", "; id_card:"),
    ];
    for (phone, id_card, want) in cases {
        let status = client
            .register(pb::RegisterRequest {
                phone: phone.to_owned(),
                id_card: id_card.to_owned(),
                verification_code: String::new(),
            })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{want}");
        assert!(status.message().contains(want), "{want}: {status}");
        assert!(
            id_card.is_empty() || !status.message().contains(id_card),
            "{status}"
        );
    }
    let both = pb::RegisterRequest {
        phone: PHONE.to_owned(),
        id_card: ID_CARD.to_owned(),
        verification_code: String::new(),
    };
    client.register(both).await.unwrap();
    for (phone, id_card) in [
        ("138-1234-5678", ""),
        ("", "11010519491231002x"),
        ("13900000000", ID_CARD),
    ] {
        let status = client
            .register(pb::RegisterRequest {
                phone: phone.to_owned(),
                id_card: id_card.to_owned(),
                verification_code: String::new(),
            })
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{phone}");
    }
    let listed = server
        .operator()
        .await
        .list_subscribers(pb::ListSubscribersRequest::default())
        .await
        .unwrap()
        .into_inner()
        .subscribers;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].phone_masked, "138****5678");
    assert_eq!(listed[0].id_card_masked, "110*************2X");
}

#[tokio::test]
async fn who_is_unknown_or_has_the_wrong_secret_learns_nothing() {
    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let good = home.request(&server, Connect, HOME_1);
    let mut wrong_secret = good.clone();
    wrong_secret.credentials.as_mut().unwrap().secret[0] ^= 1;
    let mut unknown = good.clone();
    unknown.credentials.as_mut().unwrap().subscriber_id = Uuid::new_v4().to_string();
    // Not even whether the seal is good.
    let mut unknown_bad_seal = unknown.clone();
    unknown_bad_seal.sealed_location_id = "d1.AAAA".to_owned();
    let mut messages = Vec::new();
    for request in [wrong_secret, unknown, unknown_bad_seal] {
        let status = home.send(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        messages.push(status.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");

    // A new secret voids the old one at once.
    let fresh = server
        .operator()
        .await
        .reset_secret(pb::ResetSecretRequest {
            subscriber_id: home.credentials.subscriber_id.clone(),
            dry_run: false,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        home.send(good.clone()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let mut renewed = good;
    renewed.credentials = Some(fresh);
    home.send(renewed).await.unwrap();
}

#[tokio::test]
async fn malformed_requests_are_refused_by_field() {
    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let good = home.request(&server, Connect, HOME_1);
    let sealed = good.sealed_location_id.clone();
    let mut flipped = sealed.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    type Change<'a> = Box<dyn Fn(&mut pb::RequestAccessRequest) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        ("credentials: missing", Box::new(|r| r.credentials = None)),
        (
            "credentials.subscriber_id: must be a UUID",
            Box::new(|r| r.credentials.as_mut().unwrap().subscriber_id.clear()),
        ),
        (
            "credentials.secret: must be 32 bytes",
            Box::new(|r| r.credentials.as_mut().unwrap().secret.push(0)),
        ),
        ("kind: must be", Box::new(|r| r.kind = 0)),
        ("kind: must be", Box::new(|r| r.kind = -1)),
        (
            "sealed_location_id: missing",
            Box::new(|r| r.sealed_location_id.clear()),
        ),
        (
            "sealed_location_id: longer than",
            Box::new(|r| r.sealed_location_id = "d1.".to_owned() + &"A".repeat(2000)),
        ),
        (
            "sealed_location_id:",
            Box::new(|r| r.sealed_location_id = HOME_1.to_owned()),
        ),
        (
            "sealed_location_id:",
            Box::new(|r| r.sealed_location_id = String::from_utf8(flipped.clone()).unwrap()),
        ),
        (
            "the legacy form is switched off",
            Box::new(|r| r.sealed_location_id = "U2FsdGVkX1/n0gb6YF9CoaxLsi".to_owned()),
        ),
        (
            "session_id: only a MOVE",
            Box::new(|r| r.session_id = Uuid::new_v4().to_string()),
        ),
        (
            "session_id: must be a UUID",
            Box::new(|r| r.session_id = "1; DROP TABLE sessions".to_owned()),
        ),
        (
            "request_id: must be a UUID",
            Box::new(|r| r.request_id.clear()),
        ),
    ];
    for (want, change) in cases {
        let mut request = good.clone();
        change(&mut request);
        let status = home.send(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{want}: {status}");
        assert!(status.message().contains(want), "{want}: {status}");
        assert!(!status.message().contains("xinjingjiayuan"), "{status}");
    }
    // Larger than any request may be.
    let mut huge = good.clone();
    huge.sealed_location_id = "A".repeat(20_000);
    assert_eq!(home.send(huge).await.unwrap_err().code(), Code::OutOfRange);

    let status = home.release("").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = home.ask(&server, Move, HOME_2).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = home
        .client
        .watch(pb::WatchRequest {
            credentials: Some(home.credentials.clone()),
            session_id: Uuid::new_v4().to_string(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    // After all this a good request is served.
    home.send(good).await.unwrap();
}

#[tokio::test]
async fn nobody_watches_another_ones_session() {
    let server = Server::start().await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let mut other = Subscriber::register(&server, "13900000001").await;
    let session_id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    let status = other
        .client
        .watch(pb::WatchRequest {
            credentials: Some(other.credentials.clone()),
            session_id,
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn sessions_of_one_subscriber_are_limited() {
    let config = config_with("[limits]\nsessions_per_subscriber = 2");
    let server = Server::start_with(&config).await;
    let mut home = Subscriber::register(&server, PHONE).await;
    home.ask(&server, Connect, HOME_1).await.unwrap();
    home.ask(&server, Additional, HOME_1).await.unwrap();
    let status = home.ask(&server, Additional, HOME_1).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("2 sessions"), "{status}");
}

#[tokio::test]
async fn watches_are_limited() {
    let config = config_with("[limits]\nwatches = 1");
    let server = Server::start_with(&config).await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let id = home.ask(&server, Connect, HOME_1).await.unwrap().session_id;
    let first = home.watch(&id).await;
    let request = pb::WatchRequest {
        credentials: Some(home.credentials.clone()),
        session_id: id.clone(),
    };
    let status = home.client.watch(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(first);
    for _ in 0..1000 {
        if server.running.as_ref().unwrap().engine.hub.watches_open() == 0 {
            home.watch(&id).await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("a dropped Watch keeps its place");
}

#[tokio::test]
async fn legacy_seals_are_opened_where_allowed_counted_and_audited() {
    let dir = tempfile::tempdir().unwrap();
    let passphrase = dir.path().join("legacy.pass");
    std::fs::write(&passphrase, "1234\n").unwrap();
    let config = CONFIG.replace(
        "[[gateway]]\nid = \"gw1\"",
        &format!("[legacy_seal]\npassphrase_file = {passphrase:?}\n[[gateway]]\nid = \"gw1\""),
    );
    let server = Server::start_with(&config).await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    // Made by openssl; see location/testdata.
    let sticker = "U2FsdGVkX1/n0gb6YF9CoaxLsi+A3vR6rE7eC1AQwMysvht1lFnvlRef46d+/srkwdys7VUuiM+JYpPhrAQ4dmVOB8VtVu1I";
    let mut messages = Vec::new();
    for broken in [
        &sticker[..40],
        &sticker.replace("hrAQ", "hrAR"),
        "U2FsdGVkX18AAAA",
    ] {
        let mut request = home.request(&server, Connect, HOME_1);
        request.sealed_location_id = (*broken).to_owned();
        let status = home.send(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        messages.push(status.message().to_owned());
    }
    messages.dedup();
    assert_eq!(
        messages.len(),
        1,
        "every failure looks the same: {messages:?}"
    );

    let mut request = home.request(&server, Connect, HOME_1);
    request.sealed_location_id = sticker.to_owned();
    home.send(request.clone()).await.unwrap();
    home.send(request).await.unwrap();
    assert_eq!(gw1.connect().await.location_id, HOME_1);
    let status = server
        .operator()
        .await
        .status(pb::OperatorStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.legacy_seal_enabled);
    assert_eq!(
        status.legacy_seal_uses, 4,
        "three refused, one accepted, the repetition not counted"
    );
}
