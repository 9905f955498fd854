//! Sessions that come up by DHCP: opened and moved by the operator, for homes without a terminal.

use std::process::Output;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use doorstep_proto::v1::server_message::Body as ToGateway;
use pb::AccessKind::{Connect, Move};
use pb::SessionState as S;
use serde_json::Value;

use crate::common::{
    self, CONFIG, Gateway, HOME_1, HOME_1B, HOME_2, NOWHERE, PHONE, Server, Subscriber, config_with,
};

fn config() -> String {
    config_with("[dhcp]\nlease_s = 600\nreplace = \"after-hold\"\nhold_s = 60")
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .args(arguments)
        .args(["-o", "json"])
        .current_dir(server.dir.path())
        .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
        .output()
        .unwrap()
}

fn done(server: &Server, arguments: &[&str]) -> Value {
    let output = run(server, arguments);
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}{error}");
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"))
}

fn refused(server: &Server, arguments: &[&str]) -> String {
    let output = run(server, arguments);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn open<'a>(subscriber: &'a str, location: &'a str, how: &'a str) -> [&'a str; 7] {
    let connect = ["sessions", "connect", location, "--subscriber", subscriber];
    let [a, b, c, d, e] = connect;
    [a, b, c, d, e, "--establishment", how]
}

/// A subscriber whom the operator has made known; nobody has its secret.
fn imported(server: &Server, phone: &str) -> String {
    let file = server.dir.path().join("new.csv");
    std::fs::write(file, format!("phone\n{phone}\n")).unwrap();
    done(server, &["subscribers", "import", "new.csv"]);
    let all = done(server, &["subscribers"]);
    let all = all["subscribers"].as_array().unwrap();
    all.last().unwrap()["subscriber_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The next instruction; acknowledgements of receipts come before or after it.
async fn next(gateway: &mut Gateway) -> ToGateway {
    loop {
        match gateway.next().await.unwrap() {
            ToGateway::ReceiptAck(_) => {}
            other => return other,
        }
    }
}

async fn next_connect(gateway: &mut Gateway) -> pb::Connect {
    let ToGateway::Connect(connect) = next(gateway).await else {
        panic!("expected Connect");
    };
    let (session, generation) = (&connect.session_id, connect.generation);
    let revision = connect.service_revision;
    gateway.ack_service(session, generation, revision).await;
    gateway.established(session, generation).await;
    connect
}

/// Answers the next Disconnect by its receipt.
async fn disconnected(gateway: &mut Gateway) {
    let ToGateway::Disconnect(disconnect) = next(gateway).await else {
        panic!("expected Disconnect");
    };
    let (session, generation) = (&disconnect.session_id, disconnect.generation);
    gateway.receipt(session, generation).await;
}

async fn router_changes(gateway: &Gateway, connect: &pb::Connect, mac: u8) {
    gateway
        .send(FromGateway::Established(pb::Established {
            session_id: connect.session_id.clone(),
            generation: connect.generation,
            terminal_mac: vec![2, 0, 0, 0, 0, mac],
            line: "access0/101.1004".to_owned(),
            route: "uplink0 via 192.0.2.1".to_owned(),
            at_unix_ms: 2,
        }))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_opens_moves_and_ends_it() {
    let mut server = Server::start_with(&config()).await;
    let mut first = server.synced_gateway("gw1").await;
    let mut second = server.synced_gateway("gw2").await;
    let subscriber = imported(&server, PHONE);
    let opened = done(&server, &open(&subscriber, HOME_1, "dhcp"));
    assert_eq!(opened["establishment"], "dhcp");
    let connect = first.establish().await;
    let dhcp = pb::Dhcp {
        lease_s: 600,
        replacement: pb::CpeReplacement::AfterHold.into(),
        hold_s: 60,
    };
    assert_eq!(connect.dhcp, Some(dhcp));
    assert_eq!(connect.ipv4_gateway, "100.64.1.1");
    let session = connect.session_id.clone();
    assert_eq!(opened["session_id"], session.as_str());
    server.reaches(&session, S::Established).await;
    let again = done(&server, &open(&subscriber, HOME_1, "dhcp"));
    assert_eq!(again["session_id"], session.as_str());
    let other = refused(&server, &open(&subscriber, HOME_1, "terminal"));
    assert!(
        other.contains("comes up by dhcp; disconnect it first"),
        "{other}"
    );

    router_changes(&first, &connect, 9).await;
    let expected = "02:00:00:00:00:09";
    let waiting = async {
        while server.detail(&session).await.session.unwrap().terminal_mac != expected {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
    waited.expect("the other router is shown");

    // The table says so, after a restart as well.
    drop((first, second));
    server.restart().await;
    let view = server.detail(&session).await.session.unwrap();
    assert_eq!(view.establishment(), pb::Establishment::Dhcp);
    let held = common::held(&session, connect.generation, pb::HeldPhase::Established);
    first = server.gateway("gw1", vec![held]).await;
    assert!(first.until_synced().await.is_empty());
    second = server.synced_gateway("gw2").await;

    let away = refused(&server, &["sessions", "move", &session, NOWHERE]);
    assert!(away.contains("no gateway"), "{away}");
    let moving = done(&server, &["sessions", "move", &session, HOME_2]);
    assert_eq!(moving["state"], "disconnecting");
    disconnected(&mut first).await;
    let moved = next_connect(&mut second).await;
    assert_eq!((&moved.session_id, moved.dhcp), (&session, Some(dhcp)));
    server.reaches(&session, S::Established).await;

    done(&server, &["sessions", "disconnect", &session]);
    disconnected(&mut second).await;
    server.reaches(&session, S::Released).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_terminal_gets_it_and_no_operator_moves_a_terminals() {
    let server = Server::start_with(&config()).await;
    let mut gateway = server.synced_gateway("gw1").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let subscriber = home.credentials.subscriber_id.clone();
    let opened = done(&server, &open(&subscriber, HOME_1, "dhcp"));
    let session = opened["session_id"].as_str().unwrap();
    gateway.establish().await;
    server.reaches(session, S::Established).await;
    let status = home.ask(&server, Connect, HOME_1).await.unwrap_err();
    assert!(
        status.message().contains("has a session already"),
        "{status}"
    );
    // An app may ask for the move of a home that has an ordinary router.
    let moving = home.ask(&server, Move, HOME_1B).await.unwrap();
    assert_eq!(moving.session_id, session);
    disconnected(&mut gateway).await;
    let connect = next_connect(&mut gateway).await;
    assert!(connect.dhcp.is_some());
    home.release(session).await.unwrap();
    disconnected(&mut gateway).await;
    server.reaches(session, S::Released).await;

    home.ask(&server, Connect, HOME_1).await.unwrap();
    let connect = next_connect(&mut gateway).await;
    assert_eq!(connect.dhcp, None);
    let why = refused(&server, &["sessions", "move", &connect.session_id, HOME_1B]);
    assert!(why.contains("comes up by dhcp"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_come_from_a_file() {
    let server = Server::start_with(CONFIG).await;
    let mut gateway = server.synced_gateway("gw1").await;
    let subscriber = imported(&server, PHONE);
    let rows = format!(
        "subscriber,location,establishment\n{subscriber},{HOME_1},DHCP\n{subscriber},{HOME_1B},\n\
         {subscriber},{HOME_2},bridge\n"
    );
    std::fs::write(server.dir.path().join("sessions.csv"), rows).unwrap();
    let from = ["--all", "--from", "sessions.csv", "--additional"];
    let output = run(&server, &[&["sessions", "connect"][..], &from].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["connected"], &report["refused"]),
        (&2.into(), &1.into())
    );
    let why = report["refusals"][0]["reason"].as_str().unwrap();
    assert_eq!(why, "establishment: must be terminal or dhcp");
    let mut by_dhcp = Vec::new();
    for _ in 0..2 {
        let connect = gateway.connect().await;
        by_dhcp.push((connect.location_id, connect.dhcp.map(|dhcp| dhcp.lease_s)));
    }
    by_dhcp.sort();
    let expected = [(HOME_1.to_owned(), Some(3600)), (HOME_1B.to_owned(), None)];
    assert_eq!(by_dhcp, expected);
}
