//! Another identity key comes to seal, rows are renewed, and the old key goes, while everything goes
//! on.

use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_server::engine::{now_ms, retire_offline};
use doorstep_server::identity::Phone;
use doorstep_server::keys::identity;
use doorstep_server::vault::KeyId;
use futures::future::join_all;
use tonic::Code;

use crate::common::{HOME_1, HOME_2, ID_CARD, PHONE, Server, Subscriber, UNHURRIED, config_with};

const BEFORE: u32 = 500;
const MEANWHILE: u32 = 60;

fn key(number: u32) -> KeyId {
    KeyId::new(number).unwrap()
}

async fn start() -> Server {
    Server::start_with(&config_with(UNHURRIED)).await
}

fn phone(number: u32) -> String {
    format!("139{number:08}")
}

async fn register(server: &Server, phone: &str) -> Result<pb::Credentials, tonic::Status> {
    let request = pb::RegisterRequest {
        phone: phone.to_owned(),
        id_card: String::new(),
        verification_code: String::new(),
    };
    let answer = server.access().await.register(request).await?;
    Ok(answer.into_inner().credentials.unwrap())
}

/// Some at a time, as a server is asked by many.
async fn register_all(servers: &[&Server], numbers: std::ops::Range<u32>) -> Vec<String> {
    let numbers: Vec<u32> = numbers.collect();
    let mut ids = Vec::new();
    for some in numbers.chunks(25) {
        let asked = some.iter().map(|number| async move {
            let server = servers[*number as usize % servers.len()];
            register(server, &phone(*number)).await.unwrap()
        });
        ids.extend(join_all(asked).await.into_iter().map(|c| c.subscriber_id));
    }
    ids
}

/// Has a server take up its key files at once.
fn refresh(server: &Server) -> bool {
    let engine = &server.running.as_ref().unwrap().engine;
    engine.refresh_identity_keys().unwrap()
}

/// As a count says that has begun by now: `status` tells what was counted last, which may be a while ago.
async fn keys(server: &Server) -> Vec<pb::IdentityKeyView> {
    let now = now_ms();
    let counted = async {
        loop {
            let request = pb::OperatorStatusRequest {};
            let status = server.operator().await.status(request).await.unwrap();
            let status = status.into_inner();
            if status.counted_unix_ms >= now {
                return status.identity_keys;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted)
        .await
        .expect("nothing is counted")
}

fn needed(key: &pb::IdentityKeyView) -> u64 {
    key.subscribers + key.sessions + key.answers
}

/// Waits until no row needs another key than the current one.
async fn renewed(server: &Server) {
    let walking = async {
        while keys(server).await.iter().any(|key| needed(key) > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), walking)
        .await
        .expect("rows are not renewed");
}

/// The walk tells its end after the last row is renewed.
async fn told(server: &Server, action: &str) {
    let waiting = async {
        while server.audited(action).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap_or_else(|_| panic!("{action} is not in the audit log"));
}

async fn retire(server: &Server, number: u32) -> Result<String, tonic::Status> {
    let request = pb::RetireIdentityKeyRequest {
        key: number,
        dry_run: false,
    };
    let answer = server.operator().await.retire_identity_key(request).await?;
    Ok(answer.into_inner().file)
}

#[tokio::test]
async fn everything_goes_on_while_rows_are_renewed() {
    let mut server = start().await;
    let ids = register_all(&[&server], 0..BEFORE).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let mut request = home.request(&server, pb::AccessKind::Connect, HOME_1);
    let answer = home.send(request.clone()).await.unwrap();
    assert_eq!(gw1.establish().await.session_key, answer.session_key);
    server
        .reaches(&answer.session_id, pb::SessionState::Established)
        .await;
    assert_eq!(keys(&server).await.len(), 1);

    // Every server has the new key before one of them seals with it.
    identity::add(&server.config, Run::Real).unwrap();
    assert!(refresh(&server));
    let replica = server.replica().await;
    let listed = keys(&server).await;
    let states: Vec<_> = listed.iter().map(|k| (k.key, k.state.as_str())).collect();
    assert_eq!(states, [(2, "next"), (1, "current")]);
    assert_eq!(server.audited("identity-rows-renewed").await, 0);
    identity::begin_use(&server.config, key(2), Run::Real).unwrap();
    assert!(refresh(&server));
    let during = register_all(&[&server, &replica], 10_000..10_000 + MEANWHILE).await;
    identity::begin_use(&replica.config, key(2), Run::Real).unwrap();
    assert!(refresh(&replica) || keys(&replica).await[0].state == "current");

    // Cut off in the middle, and gone on with; the other server does not notice.
    server.restart().await;
    let mut home = home.at(&server).await;
    let again = home.send(request.clone()).await.unwrap();
    assert_eq!(again.session_key, answer.session_key, "the same answer");
    let more = register_all(&[&server, &replica], 20_000..20_000 + MEANWHILE).await;
    let mut other = Subscriber::register(&replica, "13700000000").await;
    let second = other
        .ask(&replica, pb::AccessKind::Connect, HOME_2)
        .await
        .unwrap();
    renewed(&server).await;
    renewed(&replica).await;
    told(&server, "identity-rows-renewed").await;

    let kept = retire(&server, 1).await.unwrap();
    assert!(kept.ends_with("identity-0001.retired"), "{kept}");
    assert_eq!(server.audited("retire-identity-key").await, 1);
    assert_eq!(keys(&server).await.len(), 1);
    std::fs::remove_file(kept).unwrap();
    server.restart().await;

    // Whoever was there before, or came meanwhile, is found and read without the old key.
    let engine = &server.running.as_ref().unwrap().engine;
    let numbers = (0..BEFORE)
        .chain(10_000..10_000 + MEANWHILE)
        .chain(20_000..20_000 + MEANWHILE);
    for (number, id) in numbers.zip(ids.iter().chain(&during).chain(&more)) {
        let phone = Phone::parse(&phone(number), None).unwrap();
        let found = engine.subscriber_by_phone(&phone).await.unwrap();
        assert_eq!(found.map(|id| id.to_string()).as_ref(), Some(id));
    }
    for number in [0, BEFORE - 1, 10_000, 10_001, 20_000, 20_001] {
        let again = register(&server, &phone(number)).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists, "{number}");
    }
    let view = server
        .operator()
        .await
        .show_subscriber(pb::ShowSubscriberRequest {
            subscriber_id: ids[7].clone(),
        })
        .await
        .unwrap()
        .into_inner();
    assert!(view.phone_masked.ends_with("0007"), "{}", view.phone_masked);

    // So are the keys of sessions, and of answers.
    let mut home = home.at(&server).await;
    request.credentials = Some(home.credentials.clone());
    assert_eq!(
        home.send(request).await.unwrap().session_key,
        answer.session_key
    );
    for (name, want) in [("gw1", &answer), ("gw2", &second)] {
        let mut gateway = server.gateway(name, vec![]).await;
        let told = gateway.until_synced().await;
        let [pb::server_message::Body::Connect(connect)] = told.as_slice() else {
            panic!("{name} is told {} things", told.len());
        };
        assert_eq!(connect.session_key, want.session_key, "{name}");
    }

    // Two servers walked, one of them twice; it was told once. Nothing is left that the old key
    // could be tried against.
    assert_eq!(server.audited("identity-rows-renewed").await, 1);
    let forgotten = async {
        while engine.store.has_claims_before(key(2)).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), forgotten)
        .await
        .expect("numbers are still indexed under the retired key");
}

#[tokio::test]
async fn a_number_is_registered_once_by_servers_that_seal_with_different_keys() {
    let server = start().await;
    register(&server, &phone(1)).await.unwrap();
    identity::add(&server.config, Run::Real).unwrap();
    refresh(&server);
    let ahead = server.replica().await;
    identity::begin_use(&ahead.config, key(2), Run::Real).unwrap();
    refresh(&ahead);
    let state = |keys: Vec<pb::IdentityKeyView>| keys[0].state.clone();
    assert_eq!(state(keys(&server).await), "next");
    assert_eq!(state(keys(&ahead).await), "current");

    // Known from before there was another key.
    let again = register(&ahead, &phone(1)).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    for number in 100..140 {
        let phone = phone(number);
        let (one, other) = tokio::join!(register(&server, &phone), register(&ahead, &phone));
        let refused = match (one, other) {
            (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
            (Ok(_), Ok(_)) => panic!("it was registered twice"),
            (Err(one), Err(_)) => panic!("it was not registered: {one}"),
        };
        assert_eq!(refused.code(), Code::AlreadyExists);
    }
    // Rows that one seals with the older key are renewed by the other, again and again.
    renewed(&ahead).await;
    for number in 100..140 {
        for server in [&server, &ahead] {
            let again = register(server, &phone(number)).await.unwrap_err();
            assert_eq!(again.code(), Code::AlreadyExists);
        }
    }
}

#[tokio::test]
async fn a_key_is_retired_only_when_no_row_needs_it() {
    let mut server = start().await;
    server
        .access()
        .await
        .register(pb::RegisterRequest {
            phone: PHONE.to_owned(),
            id_card: ID_CARD.to_owned(),
            verification_code: String::new(),
        })
        .await
        .unwrap();
    let refused = async |server: &Server, number, expected: &str| {
        let told = retire(server, number).await.unwrap_err();
        assert!(told.message().contains(expected), "{}", told.message());
    };
    refused(&server, 0, "numbered from 1").await;
    refused(&server, 1, "identity key 0001 seals").await;
    refused(&server, 2, "holds no identity key 0002").await;
    let told = retire_offline(&server.config, key(1), Run::Real)
        .await
        .unwrap_err();
    assert!(told.to_string().contains("another server runs"), "{told}");

    server.stop().await;
    identity::add(&server.config, Run::Real).unwrap();
    let told = retire_offline(&server.config, key(2), Run::Real)
        .await
        .unwrap_err();
    assert!(told.to_string().contains("not in use yet"), "{told}");
    identity::begin_use(&server.config, key(2), Run::Real).unwrap();
    let told = retire_offline(&server.config, key(1), Run::Real)
        .await
        .unwrap_err();
    let want = "1 subscribers, 0 sessions, 0 answered requests still need identity key 0001";
    assert!(told.to_string().starts_with(want), "{told}");
    let states = || -> Vec<&str> {
        let listed = identity::list(&server.config).unwrap();
        listed.iter().map(|key| key.state.name()).collect()
    };
    assert_eq!(states(), ["current", "old"], "nothing has happened");

    server.resume().await;
    renewed(&server).await;
    told_once(&server).await;
    server.stop().await;
    let kept = retire_offline(&server.config, key(1), Run::Real)
        .await
        .unwrap();
    assert!(kept.exists(), "a backup may need it");
    let told = retire_offline(&server.config, key(1), Run::Real)
        .await
        .unwrap_err();
    assert!(told.to_string().contains("retired already"), "{told}");
    server.resume().await;
    assert_eq!(server.audited("retire-identity-key").await, 1);
    let again = register(&server, PHONE).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
}

async fn told_once(server: &Server) {
    told(server, "identity-rows-renewed").await;
    assert_eq!(server.audited("identity-rows-renewed").await, 1);
}

/// A file that is lost while the server runs is not taken for one that was retired.
#[tokio::test]
async fn a_running_server_keeps_a_key_whose_file_is_gone() {
    let mut server = start().await;
    register(&server, PHONE).await.unwrap();
    let file = identity::list(&server.config).unwrap()[0].path.clone();
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let engine = &server.running.as_ref().unwrap().engine;
    let told = engine.refresh_identity_keys().unwrap_err().to_string();
    assert!(told.contains("identity key 0001 is gone"), "{told}");
    let again = register(&server, PHONE).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    std::fs::rename(&aside, &file).unwrap();
    assert!(!refresh(&server));
    server.stop().await;
}
