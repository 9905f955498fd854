//! The app on subscribers' phones, whose homes have ordinary routers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use doorstep_proto::v1 as pb;
use pb::SessionState as S;

use crate::common::browser::Answer;
use crate::common::phone::{APP, Phone};
use crate::common::{
    Gateway, HOME_1, HOME_1B, HOME_2, NOWHERE, PHONE, Server, Subscriber, UNHURRIED, config_with,
    picture,
};

const OTHER: &str = "13900001234";

fn config() -> String {
    config_with(&format!("{APP}\n{UNHURRIED}"))
}

/// With two plans to choose from.
fn with_plans() -> String {
    format!(
        "default_plan = \"basic\"\n{}\
         [[plan]]\nname = \"basic\"\nupstream = \"1M\"\n\
         [[plan]]\nname = \"home\"\nupstream = \"10M\"\noffered = true\ntitle = \"Home 300\"\n",
        config()
    )
}

/// Asks for a session that is established then; its id.
async fn online(phone: &mut Phone, server: &Server, gateway: &mut Gateway, home: &str) -> String {
    let answer = phone.ask_at("/connect", &server.seal(home)).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let connect = gateway.establish().await;
    let session = connect.session_id;
    server.reaches(&session, S::Established).await;
    session
}

#[tokio::test]
async fn a_home_with_a_router_goes_online_moves_and_ends() {
    let server = Server::start_with(&with_plans()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut phone = Phone::new(&server);
    assert_eq!(phone.get("/").await.location(), "/register");
    assert_eq!(phone.register(PHONE).await.location(), "/");
    assert!(phone.get("/").await.body.contains("href=\"/connect\""));

    let plans = phone.get("/connect").await;
    assert!(plans.body.contains("Home 300"), "{}", plans.body);
    let answer = phone
        .ask_at("/connect?plan=home", &server.seal(HOME_1))
        .await;
    let steps = answer.location().to_owned();
    let connect = gw1.connect().await;
    assert!(connect.dhcp.is_some(), "no terminal will answer");
    assert_eq!(connect.service.unwrap().upstream_bps, 10_000_000);
    gw1.ack(&connect.session_id, connect.generation).await;
    server.reaches(&connect.session_id, S::Establishing).await;
    let waits = phone.get(&steps).await.body;
    assert!(waits.contains("data-end=\"\""), "{waits}");
    assert!(waits.contains("DHCP"), "what the router must do: {waits}");
    gw1.established(&connect.session_id, connect.generation)
        .await;
    server.reaches(&connect.session_id, S::Established).await;
    let done = phone.get(&steps).await.body;
    assert!(done.contains("data-end=\"well\""), "{done}");
    let home = phone.get("/").await.body;
    assert!(home.contains("You are online."), "{home}");
    assert!(home.contains("Home 300"), "{home}");

    let path = format!("/move?session={}", connect.session_id);
    let answer = phone.ask_at(&path, &server.seal(HOME_2)).await;
    let steps = answer.location().to_owned();
    let disconnect = gw1.disconnect().await;
    let waits = phone.get(&steps).await.body;
    assert!(waits.contains("data-state=\"disconnecting\""), "{waits}");
    assert!(waits.contains("data-end=\"\""), "{waits}");
    gw1.receipt(&disconnect.session_id, disconnect.generation)
        .await;
    gw1.receipt_ack().await;
    let moved = gw2.establish().await;
    assert_eq!(moved.session_id, connect.session_id);
    let view = server.reaches(&moved.session_id, S::Established).await;
    assert_eq!(
        (view.plan.as_str(), view.location_id.as_str()),
        ("home", HOME_2)
    );
    assert!(phone.get(&steps).await.body.contains("data-end=\"well\""));

    let page = phone
        .get(&format!("/release?session={}", moved.session_id))
        .await;
    let answer = phone.submit(&page, &[]).await;
    let steps = answer.location().to_owned();
    let disconnect = gw2.disconnect().await;
    gw2.receipt(&disconnect.session_id, disconnect.generation)
        .await;
    gw2.receipt_ack().await;
    server.reaches(&moved.session_id, S::Released).await;
    assert!(phone.get(&steps).await.body.contains("data-end=\"well\""));
    assert!(phone.get("/").await.body.contains("href=\"/connect\""));
}

#[tokio::test]
async fn a_further_connection_is_added() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut phone = Phone::registered(&server, PHONE).await;
    online(&mut phone, &server, &mut gw1, HOME_1).await;
    // As a first one it is refused, in words.
    let again = phone.ask_at("/connect", &server.seal(HOME_1B)).await;
    assert_eq!(again.status, 409);
    assert!(
        again.body.contains("has a session already"),
        "{}",
        again.body
    );
    let added = phone.ask_at("/add", &server.seal(HOME_1B)).await;
    assert_eq!(added.status, 303, "{}", added.body);
    gw1.establish().await;
    let home = phone.get("/").await.body;
    assert_eq!(home.matches("data-session=").count(), 2, "{home}");
}

#[tokio::test]
async fn a_form_is_carried_out_once_and_only_for_whom_it_was_made() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut phone = Phone::registered(&server, PHONE).await;
    let mut other = Phone::registered(&server, OTHER).await;
    let page = phone.get("/connect").await;
    let confirm = phone.say_where(&page, &server.seal(HOME_1), b"").await;
    let first = phone.submit(&confirm, &[]).await;
    let second = phone.submit(&confirm, &[]).await;
    let session = |answer: &Answer| {
        let path = answer.location().split('?').next().unwrap();
        path.trim_start_matches("/sessions/").to_owned()
    };
    assert_eq!(session(&first), session(&second));
    gw1.establish().await;
    gw1.silence().await;

    // What was made for one is of no use to another.
    assert_eq!(other.submit(&confirm, &[]).await.status, 403);
    let release = format!("/release?session={}", session(&first));
    let page = phone.get(&release).await;
    assert_eq!(page.status, 200);
    assert_eq!(other.submit(&page, &[]).await.status, 403);
    for path in [release.as_str(), first.location()] {
        assert_eq!(other.get(path).await.status, 404, "{path}");
    }
    // Nor what another site has a browser send.
    let forged = [("session", session(&first)), ("door", String::new())];
    let forged = forged
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    assert_eq!(phone.post("/release", &forged).await.status, 403);
    let mut nobody = Phone::new(&server);
    assert_eq!(nobody.submit(&page, &[]).await.status, 401);
    assert_eq!(nobody.get(first.location()).await.location(), "/register");
    gw1.silence().await;
}

#[tokio::test]
async fn what_is_no_door_is_told_and_a_neighbours_is_refused() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut phone = Phone::registered(&server, PHONE).await;
    let page = phone.get("/connect").await;
    let elsewhere = server.seal(NOWHERE);
    for (typed, picture, text) in [
        ("", &b""[..], "Take a picture of the code"),
        ("d1.nonsense", b"", "not the code of a door"),
        (HOME_1, b"", "not the code of a door"),
        (&elsewhere, b"", "not the code of a door"),
        ("", b"GIF89a", "no picture that can be read"),
    ] {
        let answer = phone.say_where(&page, typed, picture).await;
        assert_eq!(answer.status, 422, "{typed}");
        assert!(answer.body.contains(text), "{typed}: {}", answer.body);
    }

    online(&mut phone, &server, &mut gw1, HOME_1).await;
    // Whoever has photographed the neighbour's sticker.
    let mut other = Phone::registered(&server, OTHER).await;
    let refused = other.ask_at("/connect", &server.seal(HOME_1)).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("somebody else"), "{}", refused.body);
    gw1.silence().await;
}

#[tokio::test]
async fn a_picture_of_the_code_is_as_good_as_the_text() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut phone = Phone::registered(&server, PHONE).await;
    let page = phone.get("/connect").await;
    let picture = picture::of(&server.seal(HOME_1));
    let confirm = phone.say_where(&page, "", &picture).await;
    assert_eq!(confirm.status, 200, "{}", confirm.body);
    assert_eq!(phone.submit(&confirm, &[]).await.status, 303);
    let connect = gw1.establish().await;
    let view = server.reaches(&connect.session_id, S::Established).await;
    assert_eq!(view.location_id, HOME_1);
}

/// A terminal moves its own session: nobody else has its key.
#[tokio::test]
async fn a_terminals_session_is_shown_and_ended_but_not_moved() {
    let (server, _dir) = with_codes().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let number = format!("+86{PHONE}");
    let mut client = server.access().await;
    let request = pb::RegisterRequest {
        phone: number.clone(),
        id_card: String::new(),
        verification_code: CODE.to_owned(),
    };
    let credentials = client.register(request).await.unwrap().into_inner();
    let mut home = Subscriber {
        client,
        credentials: credentials.credentials.unwrap(),
    };
    home.ask(&server, pb::AccessKind::Connect, HOME_1)
        .await
        .unwrap();
    let session = gw1.establish().await.session_id;
    server.reaches(&session, S::Established).await;

    let mut phone = Phone::new(&server);
    assert_eq!(sign_in(&mut phone, &number, CODE).await.location(), "/");
    let page = phone.get("/").await.body;
    assert!(page.contains(&session), "{page}");
    assert!(page.contains("A terminal holds this connection"), "{page}");
    assert!(!page.contains("/move?"), "{page}");
    let path = format!("/move?session={session}");
    assert_eq!(phone.get(&path).await.status, 409);
    let page = phone.get(&format!("/release?session={session}")).await;
    assert_eq!(phone.submit(&page, &[]).await.status, 303);
    assert_eq!(gw1.disconnect().await.session_id, session);
}

const CODE: &str = "otter-11";

/// An operator that sends codes.
async fn with_codes() -> (Server, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("verify");
    let script = format!(
        "#!/bin/sh\ncase \"$(cat)\" in *'\"code\":\"{CODE}\"'*) exit 0 ;; \
         *'\"code\":'*) exit 1 ;; *) exit 10 ;; esac\n"
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let section = format!("{APP}\n{UNHURRIED}\n[register.verification]\ncommand = [{path:?}]");
    (Server::start_with(&config_with(&section)).await, dir)
}

async fn sign_in(phone: &mut Phone, number: &str, code: &str) -> Answer {
    let page = phone.register(number).await;
    assert_eq!(page.status, 200, "{}", page.body);
    phone.submit(&page, &[("code", code)]).await
}

#[tokio::test]
async fn whoever_is_registered_signs_in_again_by_a_code() {
    let (server, _dir) = with_codes().await;
    let number = format!("+86{PHONE}");
    let mut first = Phone::new(&server);
    assert_eq!(sign_in(&mut first, &number, CODE).await.location(), "/");
    assert_eq!(server.audited("sign-in-phone").await, 0, "it is new");
    let mut second = Phone::new(&server);
    let wrong = sign_in(&mut second, &number, "otter-12").await;
    assert!(
        wrong.body.contains("That was not the code"),
        "{}",
        wrong.body
    );
    assert_eq!(second.get("/").await.location(), "/register");
    assert_eq!(
        second.submit(&wrong, &[("code", CODE)]).await.location(),
        "/"
    );
    assert_eq!(server.audited("sign-in-phone").await, 1);

    // A code without the number that it was sent to.
    let mut third = Phone::new(&server);
    let answer = third
        .post("/register/connect/code", &[("code", CODE)])
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(third.get("/").await.location(), "/register");
    // No page tells the number.
    let page = third.register(&number).await;
    assert!(!page.body.contains(PHONE), "{}", page.body);
}

#[tokio::test]
async fn without_codes_a_number_that_is_known_lets_nobody_in() {
    let server = Server::start_with(&config()).await;
    Phone::registered(&server, PHONE).await;
    let mut other = Phone::new(&server);
    let answer = other.register(PHONE).await;
    assert!(
        answer.body.contains("registered already"),
        "{}",
        answer.body
    );
    assert_eq!(other.get("/").await.location(), "/register");
    // The operator can help.
    let mut operator = server.operator().await;
    let all = operator.list_subscribers(pb::ListSubscribersRequest::default());
    let subscriber_id = all.await.unwrap().into_inner().subscribers[0]
        .subscriber_id
        .clone();
    let reset = operator.reset_secret(pb::ResetSecretRequest {
        subscriber_id,
        dry_run: false,
    });
    let mut secret = reset.await.unwrap().into_inner().secret;
    let right = BASE64_STANDARD.encode(&secret);
    secret[0] ^= 1;
    let wrong = BASE64_STANDARD.encode(&secret);
    for (number, secret, location) in [
        (OTHER, right.as_str(), ""),
        (PHONE, "", ""),
        (PHONE, wrong.as_str(), ""),
        (PHONE, right.as_str(), "/"),
    ] {
        let fields = [("phone", number), ("secret", secret)];
        let answer = other.post("/register/secret", &fields).await;
        assert_eq!(answer.location(), location, "{number}");
    }
    assert_eq!(other.get("/").await.status, 200);
    let answer = other.register("what").await;
    assert!(answer.body.contains("no number"), "{}", answer.body);
}

#[tokio::test]
async fn a_phone_stays_signed_in_until_it_is_signed_out() {
    let mut server = Server::start_with(&config()).await;
    let mut phone = Phone::registered(&server, PHONE).await;
    let mut stolen = Phone::new(&server);
    stolen.cookies = phone.cookies.clone();
    server.restart().await;
    for browser in [&mut phone, &mut stolen] {
        browser.at(&server);
        assert_eq!(browser.get("/").await.status, 200);
    }
    let page = phone.get("/").await;
    let out = phone.submit(&page, &[("all", "yes")]).await;
    assert_eq!(out.location(), "/register");
    assert_eq!(phone.cookies.len(), 0, "{:?}", phone.cookies.keys());
    assert_eq!(stolen.get("/").await.location(), "/register");
    assert_eq!(server.audited("sign-out-phones").await, 1);

    // So does a new secret by the operator.
    let mut other = Phone::registered(&server, OTHER).await;
    let mut operator = server.operator().await;
    let all = operator.list_subscribers(pb::ListSubscribersRequest::default());
    let all = all.await.unwrap().into_inner().subscribers;
    for subscriber in all {
        let subscriber_id = subscriber.subscriber_id;
        let reset = operator.reset_secret(pb::ResetSecretRequest {
            subscriber_id,
            dry_run: false,
        });
        reset.await.unwrap();
    }
    assert_eq!(other.get("/").await.location(), "/register");
    let changed = other.cookies.values_mut().next().unwrap();
    changed.replace_range(30..31, if &changed[30..31] == "A" { "B" } else { "A" });
    assert_eq!(other.get("/").await.location(), "/register");
}

#[tokio::test]
async fn pages_are_in_the_language_that_is_asked_for() {
    let server = Server::start_with(&config()).await;
    let mut phone = Phone::new(&server);
    phone.language = "zh-CN,zh;q=0.9,en;q=0.8";
    let page = phone.get("/register").await;
    assert!(page.body.contains("lang=\"zh"), "{}", page.body);
    let answer = phone.get("/register?language=en").await;
    assert_eq!(answer.location(), "/register");
    let page = phone.get("/register").await;
    assert!(page.body.contains("lang=\"en\""), "{}", page.body);
    assert_eq!(phone.get("/nowhere").await.location(), "/register");
    assert_eq!(phone.get("/a/b/c").await.status, 404);
}

/// Attempts with one number are limited wherever they come from.
#[tokio::test]
async fn attempts_with_one_number_are_limited() {
    let app = "[app]\nlisten = \"127.0.0.1:0\"\ntls = false\n\
               sign_in_rate = { per_minute = 1, burst = 2 }";
    let server = Server::start_with(&config_with(&format!("{app}\n{UNHURRIED}"))).await;
    let mut phone = Phone::registered(&server, PHONE).await;
    phone.cookies.clear();
    assert_eq!(phone.register(PHONE).await.status, 200);
    assert_eq!(phone.register(PHONE).await.status, 429);
    assert_eq!(phone.register(OTHER).await.status, 303);
}
