//! The web console in a real browser, used by the keyboard alone.
//!
//! `DOORSTEP_WRITE_SCREENSHOTS=1` has the pictures of the documentation made anew.

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1::{NackReason, SessionState};
use doorstep_server::account::{Actor, Role};
use doorstep_server::engine::{Imported, ToBind, ToImport, Which, now_ms};
use doorstep_server::hub::traffic::SAMPLE_MS;
use doorstep_server::identity::Phone;
use doorstep_server::session::Establishment;
use doorstep_server::store::Counters;
use doorstep_test_chromium::{Chromium, Key, Page};
use uuid::Uuid;

use crate::common::browser::{CONSOLE, PASSWORD, add_account};
use crate::common::{Gateway, HOME_1, HOME_1B, HOME_2, Server, UNHURRIED, config_with};

const PHONE_WIDTH: u32 = 375;
const DESK_WIDTH: u32 = 1100;
const HEIGHT: u32 = 760;

/// A home with an ordinary router, whose session flows.
async fn home(server: &Server, gateway: &mut Gateway, phone: &str, location: &str) -> Uuid {
    let session = bind(server, phone, location).await;
    gateway.establish().await;
    server
        .reaches(&session.to_string(), SessionState::Established)
        .await;
    session
}

/// A session of a new subscriber.
async fn bind(server: &Server, phone: &str, location: &str) -> Uuid {
    let engine = &server.running.as_ref().unwrap().engine;
    let known = ToImport {
        phone: Some(Phone::parse(phone, None).unwrap()),
        id_card: None,
        plan: None,
        run: Run::Real,
    };
    let imported = engine.import_subscribers(vec![known]).await.unwrap();
    let Some(Ok(Imported::New(subscriber, ..))) = imported.into_iter().next() else {
        panic!("a new subscriber");
    };
    let wanted = ToBind {
        subscriber: Which::Id(subscriber),
        location: location.parse().unwrap(),
        additional: false,
        establishment: Establishment::Dhcp,
        run: Run::Real,
    };
    let bound = engine.bind_sessions(Actor::Operator, vec![wanted]).await;
    bound.unwrap().remove(0).unwrap().session
}

/// A quarter of an hour of an evening, as a gateway would have told it.
fn evening(server: &Server, session: Uuid) {
    let traffic = &server.running.as_ref().unwrap().engine.hub.traffic;
    let begin = now_ms() - 95 * SAMPLE_MS;
    let mut counters = Counters::default();
    for sample in 0..95u64 {
        let wave = (sample * 7) % 23 + sample / 3;
        counters.upstream_bytes += 4_000_000 + wave * 300_000;
        counters.downstream_bytes += 60_000_000 + wave * 4_000_000;
        counters.downstream_policed += if sample % 17 < 3 { 40 * wave } else { 0 };
        let at_ms = begin + i64::try_from(sample).unwrap() * SAMPLE_MS;
        traffic.take("gw1", &[(session, 1, counters)], at_ms);
    }
}

fn is_quiet(page: &Page, origin: &str) {
    assert_eq!(page.complaints(), [""; 0]);
    let elsewhere = page.requests();
    let elsewhere = elsewhere.iter().filter(|url| !url.starts_with(origin));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&String>::new());
}

fn sign_in(page: &Page, origin: &str, name: &str) {
    page.open(&format!("{origin}/sign-in"));
    // The first field has the focus already.
    page.tab_to("input[name=name]");
    page.type_text(name);
    page.tab_to("input[name=password]");
    page.type_text(PASSWORD);
    page.press(Key::Enter);
    page.until_at("/");
}

/// Follows a link by the keyboard.
fn follow(page: &Page, selector: &str, path: &str) {
    page.tab_to(selector);
    page.press(Key::Enter);
    page.until_at(path);
}

fn origin(server: &Server, scheme: &str) -> String {
    let address = server.running.as_ref().unwrap().console.unwrap();
    format!("{scheme}://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_moved_by_the_keyboard_and_seen_to_arrive() {
    // Over TLS, and so over HTTP/2.
    let console = CONSOLE.replace("tls = false\n", "");
    let server = Server::start_with(&config_with(&format!("{console}\n{UNHURRIED}"))).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let session = home(&server, &mut gw1, "13812345678", HOME_1).await;
    home(&server, &mut gw1, "13900001234", HOME_1B).await;
    home(
        &server,
        &mut gw2,
        "13900001235",
        "110103-xinjingjiayuan-002-003-001",
    )
    .await;
    bind(&server, "13900001236", "110103-xinjingjiayuan-002-003-002").await;
    let refused = gw2.connect().await;
    let reason = NackReason::UnknownLocation;
    gw2.nack(&refused.session_id, refused.generation, reason)
        .await;
    server
        .reaches(&refused.session_id, SessionState::Refused)
        .await;
    evening(&server, session);
    add_account(&server, "wang", Role::Agent).await;
    let origin = origin(&server, "https");
    let path = format!("/sessions/{session}");

    let walk = tokio::task::spawn_blocking({
        let (origin, path) = (origin.clone(), path.clone());
        move || {
            let chromium = Chromium::start();
            let page = chromium.page();
            page.resize(DESK_WIDTH, HEIGHT);
            page.prefer("light");
            sign_in(&page, &origin, "wang");
            page.until_text("live");
            let protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol";
            assert_eq!(page.value(protocol), Some("h2".into()));
            for place in ["1101", "110103", "110103-xinjingjiayuan"] {
                let path = format!("/?at={place}");
                follow(&page, &format!("main table a[href='{path}']"), &path);
            }
            page.until_text("Buildings");
            page.keep("console-overview");
            let building = "/sessions?at=110103-xinjingjiayuan-001";
            follow(&page, &format!("a[href='{building}']"), building);
            follow(&page, &format!("a[href='{path}']"), &path);
            page.until_text("Timeline");

            follow(&page, "#move", &format!("{path}/move"));
            page.tab_to("#location");
            page.type_text(HOME_2);
            page.press(Key::Enter);
            page.until_text("are you sure?");
            page.keep("console-confirm");
            // The button has the focus: one key more.
            page.tab_to("#confirm");
            page.press(Key::Enter);
            page.until_at(&path);
            page.until_text("disconnecting");
            is_quiet(&page, &origin);
            (chromium, page)
        }
    });
    let (chromium, page) = walk.await.unwrap();

    // What gateways do is seen without anything being pressed.
    let disconnect = gw1.disconnect().await;
    gw1.receipt(&session.to_string(), disconnect.generation)
        .await;
    gw2.establish().await;
    let seen = tokio::task::spawn_blocking(move || {
        page.until("document.querySelector('#live .state').innerText === 'established'");
        page.until_text(HOME_2);
        page.resize(DESK_WIDTH, 1500);
        page.keep("console-session");
        page.resize(DESK_WIDTH, HEIGHT);
        follow(&page, "a[href='/gateways']", "/gateways");
        follow(&page, "a[href='/gateways/gw1']", "/gateways/gw1");
        page.until("document.querySelectorAll('svg.plot polyline').length === 3");
        page.keep("console-gateway");
        follow(&page, "a[href='/subscribers']", "/subscribers");
        page.tab_to("#phone");
        page.type_text("13812345678");
        page.press(Key::Enter);
        page.until_text("138****5678");
        let addresses = page.requests();
        let with_number = addresses.iter().filter(|url| url.contains("13812345678"));
        assert_eq!(with_number.count(), 0);
        is_quiet(&page, &origin);
        drop(chromium);
    });
    seen.await.unwrap();
    assert_eq!(server.audited("move-session").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_a_phone_in_light_and_dark() {
    let server = Server::start_with(&config_with(&format!("{CONSOLE}\n{UNHURRIED}"))).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let session = home(&server, &mut gw1, "13812345678", HOME_1).await;
    evening(&server, session);
    add_account(&server, "zhao", Role::Admin).await;
    let subscriber = server.detail(&session.to_string()).await.session.unwrap();
    let subscriber = subscriber.subscriber_id;
    let origin = origin(&server, "http");
    let look = tokio::task::spawn_blocking(move || {
        let chromium = Chromium::start();
        let page = chromium.page();
        page.resize(PHONE_WIDTH, 812);
        let mut backgrounds = Vec::new();
        sign_in(&page, &origin, "zhao");
        for scheme in ["light", "dark"] {
            page.prefer(scheme);
            for path in [
                "/".to_owned(),
                "/?at=110103-xinjingjiayuan".to_owned(),
                "/sessions".to_owned(),
                format!("/sessions/{session}"),
                format!("/sessions/{session}/disconnect"),
                format!("/sessions/{session}/move"),
                "/moves".to_owned(),
                "/gateways".to_owned(),
                "/gateways/gw1".to_owned(),
                "/subscribers".to_owned(),
                format!("/subscribers/{subscriber}"),
                format!("/connect?subscriber={subscriber}"),
                "/accounts".to_owned(),
                "/accounts/zhao".to_owned(),
                "/password".to_owned(),
            ] {
                page.open(&format!("{origin}{path}"));
                assert_eq!(page.overflow(), [""; 0], "{path}, {scheme}");
                let small = page.value(
                    "[...document.querySelectorAll('main *')].some((element) => \
                     parseFloat(getComputedStyle(element).fontSize) < 11)",
                );
                assert_eq!(small, Some(false.into()), "{path}, {scheme}");
            }
            page.open(&format!("{origin}/gateways/gw1"));
            page.keep(&format!("console-phone-{scheme}"));
            backgrounds.push(page.value("getComputedStyle(document.body).backgroundColor"));
        }
        assert_ne!(backgrounds[0], backgrounds[1]);
        is_quiet(&page, &origin);
        // What the policy refuses is heard of: silence says something.
        let refused = page.value("document.body.setAttribute('style', 'color: red')");
        assert_eq!(refused, Some(serde_json::Value::Null));
        page.until_complaint("Content Security Policy");
    });
    look.await.unwrap();
}
