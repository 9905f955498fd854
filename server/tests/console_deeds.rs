//! What people do by the web console: who may, that they are asked once more, and what is written down.

use doorstep_proto::v1 as pb;
use doorstep_server::account::Role;
use doorstep_server::keys;
use doorstep_server::store::AuditLog;
use pb::AccessKind::Move;
use pb::SessionState as S;

use crate::common::browser::{Browser, CONSOLE, PASSWORD};
use crate::common::{HOME_1, HOME_1B, HOME_2, PHONE, Server, Subscriber, UNHURRIED, config_with};

async fn with_console() -> Server {
    Server::start_with(&config_with(&format!("{CONSOLE}\n{UNHURRIED}"))).await
}

/// Who is named by the newest entry of an action.
async fn who(server: &Server, action: &str) -> String {
    let key = keys::audit_key(&server.config).unwrap();
    let mut log = AuditLog::open(&server.config.database, &key).await.unwrap();
    let mut last = String::new();
    loop {
        let entries = log.next().await.unwrap();
        if entries.is_empty() {
            return last;
        }
        let events = entries.into_iter().map(|chained| chained.entry.event);
        for event in events.filter(|event| event.action == action) {
            last = event.who.into_owned();
        }
    }
}

const YES: (&str, &str) = ("confirmed", "yes");

#[tokio::test]
async fn who_only_looks_changes_nothing() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_home, connect) = Subscriber::established(&server, &mut gw1).await;
    let session = format!("/sessions/{}", connect.session_id);
    let subscriber = server.detail(&connect.session_id).await.session.unwrap();
    let subscriber = format!("/subscribers/{}", subscriber.subscriber_id);
    let viewer = Browser::signed_in(&server, "li", Role::Viewer).await;
    let agent = Browser::signed_in(&server, "wang", Role::Agent).await;
    let admin = Browser::signed_in(&server, "zhao", Role::Admin).await;
    let deed = |name: &str| format!("{session}/{name}");
    // Path, and whether viewer, agent and admin may see it.
    for (path, may) in [
        (deed("disconnect"), [false, true, true]),
        (deed("force"), [false, false, true]),
        ("/subscribers".to_owned(), [false, true, true]),
        (subscriber, [false, true, true]),
        ("/accounts".to_owned(), [false, false, true]),
        ("/accounts/li".to_owned(), [false, false, true]),
        ("/gateways".to_owned(), [true, true, true]),
        ("/moves".to_owned(), [true, true, true]),
        ("/password".to_owned(), [true, true, true]),
    ] {
        for (browser, may) in [&viewer, &agent, &admin].into_iter().zip(may) {
            let answer = browser.get(&path).await;
            let status = if may { 200 } else { 403 };
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
        }
    }
    for (browser, path, fields) in [
        (&viewer, deed("disconnect"), vec![YES]),
        (&viewer, deed("move"), vec![YES, ("location", HOME_1B)]),
        (&viewer, deed("force"), vec![YES]),
        (&agent, deed("force"), vec![YES]),
        (&viewer, "/subscribers".to_owned(), vec![("phone", PHONE)]),
        (&viewer, "/connect".to_owned(), vec![YES]),
        (
            &agent,
            "/accounts".to_owned(),
            vec![("name", "x"), ("role", "admin"), ("password", PASSWORD)],
        ),
        (
            &agent,
            "/accounts/wang".to_owned(),
            vec![("change", "role"), ("role", "admin")],
        ),
        (
            &agent,
            "/accounts/zhao".to_owned(),
            vec![("change", "disable")],
        ),
    ] {
        let answer = browser.post(&path, &fields).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    for action in [
        "disconnect-session",
        "force-session",
        "find-subscriber",
        "connect-session",
    ] {
        assert_eq!(server.audited(action).await, 0, "{action}");
    }
    server.reaches(&connect.session_id, S::Established).await;
}

#[tokio::test]
async fn a_session_is_disconnected_once_that_is_confirmed() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_home, connect) = Subscriber::established(&server, &mut gw1).await;
    let id = &connect.session_id;
    let path = format!("/sessions/{id}/disconnect");
    let agent = Browser::signed_in(&server, "wang", Role::Agent).await;
    let page = agent.get(&format!("/sessions/{id}")).await.body;
    assert!(page.contains(&path) && !page.contains("/force\""), "{page}");

    let asked = agent.post(&path, &[]).await;
    assert_eq!(asked.status, 200);
    assert!(asked.body.contains("are you sure?"), "{}", asked.body);
    server.reaches(id, S::Established).await;
    // A link or an image elsewhere does nothing.
    assert_eq!(
        agent.get(&format!("{path}?confirmed=yes")).await.status,
        200
    );
    server.reaches(id, S::Established).await;

    let done = agent.post(&path, &[YES]).await;
    assert_eq!(
        (done.status, done.location()),
        (303, &*format!("/sessions/{id}"))
    );
    server.reaches(id, S::Disconnecting).await;
    assert_eq!(who(&server, "disconnect-session").await, "account wang");
    let page = agent.get(&format!("/sessions/{id}")).await.body;
    assert!(page.contains("by the account wang"), "{page}");

    // An admin may go on without the receipt.
    let force = format!("/sessions/{id}/force");
    let admin = Browser::signed_in(&server, "zhao", Role::Admin).await;
    assert!(admin.get(&force).await.body.contains("without the receipt"));
    assert_eq!(admin.post(&force, &[YES]).await.status, 303);
    server.reaches(id, S::Released).await;
    assert_eq!(who(&server, "force-session").await, "account zhao");
    // It cannot be done twice.
    let again = admin.post(&force, &[YES]).await;
    assert_eq!(again.status, 409, "{}", again.body);
}

#[tokio::test]
async fn a_subscriber_is_found_connected_and_moved() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let subscriber = Subscriber::register(&server, PHONE).await;
    let subscriber = subscriber.credentials.subscriber_id;
    let agent = Browser::signed_in(&server, "wang", Role::Agent).await;

    for (phone, status) in [("13900001234", 404), ("not-a-number", 400), ("", 400)] {
        let answer = agent.post("/subscribers", &[("phone", phone)]).await;
        assert_eq!(answer.status, status, "{phone}");
        assert!(phone.is_empty() || !answer.body.contains(phone), "{phone}");
    }
    assert_eq!(server.audited("find-subscriber").await, 0);
    let found = agent.post("/subscribers", &[("phone", PHONE)]).await;
    let page = format!("/subscribers/{subscriber}");
    assert_eq!((found.status, found.location()), (303, &*page));
    assert_eq!(who(&server, "find-subscriber").await, "account wang");
    let page = agent.get(&page).await.body;
    assert!(
        page.contains("138****5678") && !page.contains(PHONE),
        "{page}"
    );

    let form = agent
        .get(&format!("/connect?subscriber={subscriber}"))
        .await;
    assert_eq!(form.status, 200);
    let wanted = [
        ("subscriber", subscriber.as_str()),
        ("location", HOME_1),
        ("establishment", "dhcp"),
    ];
    let asked = agent.post("/connect", &wanted).await;
    assert!(
        asked.body.contains("are you sure?") && asked.body.contains("gw1"),
        "{}",
        asked.body
    );
    assert_eq!(server.audited("connect-session").await, 0);
    let done = agent
        .post("/connect", &[&wanted[..], &[YES]].concat())
        .await;
    assert_eq!(done.status, 303, "{}", done.body);
    let path = done.location().to_owned();
    let connect = gw1.establish().await;
    let id = &connect.session_id;
    assert_eq!(path, format!("/sessions/{id}"));
    server.reaches(id, S::Established).await;
    assert_eq!(who(&server, "connect-session").await, "account wang");

    let mover = format!("{path}/move");
    assert_eq!(agent.get(&mover).await.status, 200);
    let bad = agent.post(&mover, &[("location", "nowhere"), YES]).await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    let asked = agent.post(&mover, &[("location", HOME_2)]).await;
    assert_eq!(asked.field("location"), Some(HOME_2));
    assert!(!agent.get("/moves").await.body.contains(id));
    let done = agent.post(&mover, &[("location", HOME_2), YES]).await;
    assert_eq!(done.status, 303, "{}", done.body);
    let moves = agent.get("/moves").await.body;
    assert!(
        moves.contains(HOME_2) && moves.contains("the receipt of gw1"),
        "{moves}"
    );
    let disconnect = gw1.disconnect().await;
    gw1.receipt(id, disconnect.generation).await;
    gw2.establish().await;
    server.reaches(id, S::Established).await;
    assert_eq!(who(&server, "move-session").await, "account wang");
    assert!(agent.get("/moves").await.body.contains("Nobody is moving"));
}

#[tokio::test]
async fn a_terminals_session_is_not_moved_by_others() {
    let server = with_console().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (mut home, connect) = Subscriber::established(&server, &mut gw1).await;
    let agent = Browser::signed_in(&server, "wang", Role::Agent).await;
    let path = format!("/sessions/{}", connect.session_id);
    assert!(!agent.get(&path).await.body.contains("/move\""));
    let fields = [("location", HOME_2), YES];
    let refused = agent.post(&format!("{path}/move"), &fields).await;
    assert_eq!(refused.status, 409);
    assert!(
        refused.body.contains("asks for its moves itself"),
        "{}",
        refused.body
    );
    // Whoever moves by themselves is seen on the way.
    home.ask(&server, Move, HOME_2).await.unwrap();
    assert!(agent.get("/moves").await.body.contains(HOME_2));
}

#[tokio::test]
async fn admins_make_and_change_accounts() {
    let server = with_console().await;
    let admin = Browser::signed_in(&server, "zhao", Role::Admin).await;
    for (name, role, password, status) in [
        ("li", "viewer", "short", 400),
        ("Li", "viewer", PASSWORD, 400),
        ("li", "owner", PASSWORD, 400),
        ("li", "viewer", PASSWORD, 303),
        ("li", "viewer", PASSWORD, 409),
    ] {
        let fields = [("name", name), ("role", role), ("password", password)];
        let answer = admin.post("/accounts", &fields).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
    }
    assert_eq!(who(&server, "add-account").await, "account zhao");
    let mut li = Browser::new(&server);
    assert_eq!(li.sign_in("li", PASSWORD).await.status, 303);
    let change = [("change", "role"), ("role", "agent")];
    assert_eq!(admin.post("/accounts/li", &change).await.status, 303);
    let page = li.get("/").await;
    assert!(page.body.contains("li · agent"));
    page.field("csrf").unwrap().clone_into(&mut li.csrf);

    // One's own password, by the present one.
    let fields = |present, next| [("present", present), ("password", next)];
    let wrong = li
        .post(
            "/password",
            &fields("wrong horse battery", "new horse battery"),
        )
        .await;
    assert_eq!(wrong.status, 403);
    let done = li
        .post("/password", &fields(PASSWORD, "new horse battery"))
        .await;
    assert_eq!((done.status, done.location()), (303, "/sign-in"));
    assert_eq!(who(&server, "set-password").await, "account li");
    assert_eq!(li.get("/").await.status, 303);
    assert_eq!(li.sign_in("li", "new horse battery").await.status, 303);

    assert_eq!(
        admin
            .post("/accounts/li", &[("change", "disable")])
            .await
            .status,
        303
    );
    assert_eq!(li.get("/").await.status, 303);
    // Nobody shuts themselves out.
    let own = admin.post("/accounts/zhao", &[("change", "disable")]).await;
    assert_eq!(own.status, 409);
    assert_eq!(admin.get("/accounts/nobody").await.status, 404);
}
