//! The web console, as a browser sees it.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_server::account::{Actor, Role};
use doorstep_server::engine::AccountChange;
use doorstep_server::keys;
use pb::AccessKind::{Connect, Move};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::common::browser::{Browser, CONSOLE, PASSWORD, add_account, answer, form};
use crate::common::{HOME_1, HOME_2, PHONE, Server, Subscriber, UNHURRIED, config_with};

async fn with_console() -> Server {
    Server::start_with(&config_with(&format!("{CONSOLE}\n{UNHURRIED}"))).await
}

#[tokio::test]
async fn nobody_sees_anything_without_signing_in() {
    let server = with_console().await;
    add_account(&server, "li", Role::Viewer).await;
    let mut browser = Browser::new(&server);
    for path in ["/", "/sessions", "/sessions?at=1101", "/gateways", "/moves"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 303, "{path}");
        assert!(answer.location().starts_with("/sign-in"), "{path}");
    }
    assert_eq!(browser.get("/events").await.status, 204);
    assert_eq!(browser.post("/sign-out", &[]).await.status, 401);
    for (name, password) in [
        ("li", "wrong horse battery"),
        ("li", ""),
        ("wang", PASSWORD),
        ("no name <b>", PASSWORD),
    ] {
        let answer = browser.sign_in(name, password).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.header("set-cookie"), None, "{name}");
        assert!(!answer.body.contains("<b>"), "{name}");
    }
    assert_eq!(server.audited("sign-in").await, 0);

    let to = [("name", "li"), ("password", PASSWORD), ("to", "/sessions")];
    let answer = browser.post_as_is("/sign-in", &to).await;
    assert_eq!((answer.status, answer.location()), (303, "/sessions"));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    assert_eq!(server.audited("sign-in").await, 1);
    browser.cookie = cookie.split(';').next().map(ToOwned::to_owned);
    let page = browser.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("li · viewer"), "{}", page.body);
    // What is only for others is not there to be tried.
    assert!(!page.body.contains("/subscribers"));
}

#[tokio::test]
async fn every_answer_is_guarded() {
    let server = with_console().await;
    let browser = Browser::signed_in(&server, "li", Role::Viewer).await;
    for path in [
        "/",
        "/sign-in",
        "/nowhere",
        "/assets/style.css",
        "/sessions/x",
    ] {
        let answer = browser.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(
            answer.header("referrer-policy"),
            Some("same-origin"),
            "{path}"
        );
        assert!(!answer.body.contains("style="), "{path}");
        assert!(!answer.body.contains("://"), "{path}: {}", answer.body);
    }
    assert_eq!(browser.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_form_of_another_page_is_refused() {
    let server = with_console().await;
    let mut browser = Browser::signed_in(&server, "li", Role::Viewer).await;
    let other = Browser::signed_in(&server, "wang", Role::Viewer).await;
    let own = form(&[("csrf", &browser.csrf)]);
    let theirs = form(&[("csrf", &other.csrf)]);
    for (headers, body) in [
        (vec![], ""),
        (vec![], "csrf="),
        (vec![], &theirs),
        (vec![("Origin", "https://evil.example")], &own),
        (vec![("Origin", "null")], &own),
        (vec![("Sec-Fetch-Site", "cross-site")], &own),
    ] {
        let answer = browser.ask("POST", "/sign-out", &headers, body).await;
        assert_eq!(answer.status, 403, "{headers:?}");
    }
    assert_eq!(browser.get("/").await.status, 200);
    // A page elsewhere signs nobody in either.
    let credentials = form(&[("name", "li"), ("password", PASSWORD)]);
    let answer = browser
        .ask(
            "POST",
            "/sign-in",
            &[("Sec-Fetch-Site", "cross-site")],
            &credentials,
        )
        .await;
    assert_eq!(answer.status, 403);

    let answer = browser.post("/sign-out", &[]).await;
    assert_eq!((answer.status, answer.location()), (303, "/sign-in"));
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    // The cookie is of no use to whoever kept it.
    assert_eq!(browser.get("/").await.status, 303);
    browser.cookie = None;
    assert_eq!(other.get("/").await.status, 200);
}

#[tokio::test]
async fn who_is_disabled_or_has_another_password_is_out_at_once() {
    let server = with_console().await;
    let engine = Arc::clone(&server.running.as_ref().unwrap().engine);
    let li = "li".parse().unwrap();
    let change = |change| engine.change_account(Actor::Operator, li, change, Run::Real);
    let mut browser = Browser::signed_in(&server, "li", Role::Viewer).await;

    change(AccountChange::Role(Role::Agent)).await.unwrap();
    assert!(browser.get("/").await.body.contains("li · agent"));
    change(AccountChange::Password(
        "another horse battery".to_owned().into(),
    ))
    .await
    .unwrap();
    assert_eq!(browser.get("/").await.status, 303);
    assert_eq!(browser.sign_in("li", PASSWORD).await.status, 401);
    assert_eq!(
        browser.sign_in("li", "another horse battery").await.status,
        303
    );
    assert_eq!(browser.get("/").await.status, 200);

    change(AccountChange::Disabled(true)).await.unwrap();
    assert_eq!(browser.get("/").await.status, 303);
    assert_eq!(
        browser.sign_in("li", "another horse battery").await.status,
        401
    );
    change(AccountChange::Disabled(false)).await.unwrap();
    assert_eq!(
        browser.sign_in("li", "another horse battery").await.status,
        303
    );
    for (action, count) in [
        ("add-account", 1),
        ("change-account", 1),
        ("set-password", 1),
        ("disable-account", 1),
        ("enable-account", 1),
        ("sign-in", 3),
    ] {
        assert_eq!(server.audited(action).await, count, "{action}");
    }
}

#[tokio::test]
async fn guessing_is_slow() {
    let console = CONSOLE.replace(
        "per_minute = 100000, burst = 10000",
        "per_minute = 1, burst = 3",
    );
    let server = Server::start_with(&config_with(&console)).await;
    add_account(&server, "li", Role::Viewer).await;
    let mut browser = Browser::new(&server);
    for guess in [
        "one horse battery",
        "two horse battery",
        "three horse battery",
    ] {
        assert_eq!(browser.sign_in("li", guess).await.status, 401);
    }
    // Also with the right one.
    let answer = browser.sign_in("li", PASSWORD).await;
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test]
async fn places_sessions_and_their_histories_are_shown() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let browser = Browser::signed_in(&server, "li", Role::Viewer).await;
    let empty = browser.get("/").await.body;
    // A place that only the configuration knows.
    assert!(empty.contains("href=\"/?at=1101\""), "{empty}");
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = &connect.session_id;
    for path in [
        "/?at=110103",
        "/?at=110103-xinjingjiayuan",
        "/?at=110103-xinjingjiayuan-001",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.body.contains("established"), "{path}");
    }
    for (query, is_there) in [
        ("", true),
        ("?at=1101", true),
        ("?at=110103", true),
        ("?at=110103-xinjingjiayuan-001", true),
        (&format!("?at={HOME_1}"), true),
        ("?state=established", true),
        ("?at=11", false),
        ("?at=110103-xinjingjiayuan-002", false),
        ("?at=110103-xin", false),
        ("?at=1102", false),
        ("?state=refused", false),
    ] {
        let page = browser.get(&format!("/sessions{query}")).await;
        let bad = query == "?at=11";
        assert_eq!(page.status, if bad { 400 } else { 200 }, "{query}");
        assert_eq!(page.body.contains(id), is_there, "{query}");
    }

    let page = browser.get(&format!("/sessions/{id}")).await;
    assert_eq!(page.status, 200);
    for text in [
        HOME_1,
        "gw1",
        "traffic flows on line access0",
        "registered",
        "acknowledged",
    ] {
        assert!(page.body.contains(text), "{text}: {}", page.body);
    }
    // A number is nobody's business who only looks.
    assert!(!page.body.contains(&PHONE[7..]));
    home.ask(&server, Move, HOME_2).await.unwrap();
    let moving = browser.get(&format!("/sessions/{id}")).await.body;
    assert!(
        moving.contains("disconnecting") && moving.contains(HOME_2),
        "{moving}"
    );
    let nobody = "0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e";
    assert_eq!(
        browser.get(&format!("/sessions/{nobody}")).await.status,
        404
    );
}

#[tokio::test]
async fn long_lists_have_pages() {
    let config = config_with(&format!("{CONSOLE}\n{UNHURRIED}"));
    let config = config.replace("100.64.1.0/29", "100.65.0.0/22");
    let server = Server::start_with(&config).await;
    for number in 0..130 {
        let mut home = Subscriber::register(&server, &format!("139{number:08}")).await;
        let location = format!("110103-xinjingjiayuan-001-001-{number:03}");
        home.ask(&server, Connect, &location).await.unwrap();
    }
    let browser = Browser::signed_in(&server, "li", Role::Viewer).await;
    let first = browser.get("/sessions?at=110103-xinjingjiayuan-001").await;
    assert!(first.body.contains("-001-001-099") && !first.body.contains("-001-001-100<"));
    let next = first
        .body
        .split("href=\"")
        .find(|rest| rest.contains("after="));
    let next = next.and_then(|rest| rest.split('"').next()).unwrap();
    let second = browser.get(&next.replace("&amp;", "&")).await;
    assert!(second.body.contains("-001-001-100") && second.body.contains("-001-001-129"));
    assert!(!second.body.contains("-001-001-099<"));
    assert!(!second.body.contains("Next page"));
    let counted = browser.get("/?at=110103").await.body;
    assert!(counted.contains(">130<"), "{counted}");
}

#[tokio::test]
async fn pages_are_told_of_changes() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let browser = Browser::signed_in(&server, "li", Role::Viewer).await;
    let mut events = browser.events().await;
    let (_home, _) = Subscriber::established(&server, &mut gw1).await;
    events.changed().await;
    browser.post("/sign-out", &[]).await;
    let mut other = Subscriber::register(&server, "13900001234").await;
    other.ask(&server, Connect, HOME_2).await.unwrap();
    events.end().await;
}

#[tokio::test]
async fn browsers_get_the_servers_certificate() {
    let console = CONSOLE.replace("tls = false\n", "");
    let server = Server::start_with(&config_with(&console)).await;
    add_account(&server, "li", Role::Viewer).await;
    let address = server.running.as_ref().unwrap().console.unwrap();
    let mut roots = RootCertStore::empty();
    let ca = keys::ca_pem(&server.config).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = "north-net".try_into().unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let browser = Browser::new(&server);
    let credentials = form(&[("name", "li"), ("password", PASSWORD)]);
    let request = browser.request("POST", "/sign-in", &[], &credentials);
    let answer = answer(&mut stream, &request).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-doorstep-console="), "{cookie}");
    assert!(cookie.contains("; Secure"), "{cookie}");
}
