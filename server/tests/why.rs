//! `why`: each link of a connection broken in turn, against the real server.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use pb::AccessKind::{Connect, Move};
use pb::SessionState as S;
use pb::why_request::Subject;

use crate::common::{
    self, Gateway, HOME_1, HOME_2, NOWHERE, PHONE, Server, Subscriber, UNHURRIED, config_with, held,
};

const OTHER_PHONE: &str = "13900001234";

async fn ask(server: &Server, subject: Subject, quiet_after_s: u32) -> Vec<pb::WhyConnection> {
    let request = pb::WhyRequest {
        subject: Some(subject),
        quiet_after_s,
    };
    let answer = server.operator().await.why(request).await.unwrap();
    answer.into_inner().connections
}

async fn one(server: &Server, subject: Subject) -> pb::WhyConnection {
    let mut all = ask(server, subject, 0).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn phone(number: &str) -> Subject {
    Subject::Phone(number.to_owned())
}

fn location(text: &str) -> Subject {
    Subject::LocationId(text.to_owned())
}

/// Link and kind of the break, and its cause.
fn broken(connection: &pb::WhyConnection) -> (&str, &str, &str) {
    let broken = connection.broken.as_ref().expect("every link holds");
    (&broken.link, &broken.kind, &broken.cause)
}

/// Waits until a chain says what it should.
async fn becomes(
    server: &Server,
    subject: Subject,
    what: impl Fn(&pb::WhyConnection) -> bool,
) -> pb::WhyConnection {
    for _ in 0..1000 {
        let connection = one(server, subject.clone()).await;
        if what(&connection) {
            return connection;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", one(server, subject).await);
}

async fn counters(gateway: &Gateway, session: &str, generation: u64, packets: u64) {
    let counters = pb::Counters {
        upstream_packets: packets,
        downstream_packets: packets,
        ..pb::Counters::default()
    };
    let report = pb::Accounting {
        sessions: vec![pb::SessionCounters {
            session_id: session.to_owned(),
            generation,
            counters: Some(counters),
            ..pb::SessionCounters::default()
        }],
        uplink_problem: String::new(),
    };
    gateway.send(FromGateway::Accounting(report)).await;
}

/// What a gateway says is wrong with an established session, if anything.
async fn wrong(gateway: &Gateway, session: &str, (silent_since_ms, blocked, uplink): Wrong) {
    let report = pb::Accounting {
        sessions: vec![pb::SessionCounters {
            session_id: session.to_owned(),
            generation: 1,
            counters: Some(pb::Counters {
                upstream_packets: 6,
                downstream_packets: 6,
                ..pb::Counters::default()
            }),
            silent_since_unix_ms: silent_since_ms,
            blocked,
        }],
        uplink_problem: uplink.to_owned(),
    };
    gateway.send(FromGateway::Accounting(report)).await;
}

/// Since when the terminal is silent, whether its line is blocked, what is wrong with the uplink.
type Wrong = (i64, bool, &'static str);

#[tokio::test]
async fn from_nobody_to_traffic_and_to_the_end() {
    let server = Server::start_with(&config_with(UNHURRIED)).await;
    let chain = one(&server, phone(PHONE)).await;
    assert_eq!(broken(&chain).1, "not-registered");
    assert_eq!((chain.subscriber_id.as_str(), chain.links.len()), ("", 7));
    assert_eq!(
        broken(&one(&server, location(NOWHERE)).await).1,
        "no-gateway"
    );
    let chain = one(&server, location(HOME_1)).await;
    assert_eq!(broken(&chain).1, "no-session");
    assert!(broken(&chain).2.contains("gw1"), "{chain:?}");

    let mut home = Subscriber::register(&server, PHONE).await;
    let chain = one(&server, phone("138-1234 5678")).await;
    assert_eq!(broken(&chain).1, "no-session");
    assert_eq!(chain.subscriber_id, home.credentials.subscriber_id);
    assert!(chain.links[0].at_unix_ms > 0);

    // A seal that does not open, then a home that nobody serves.
    let mut request = home.request(&server, Connect, HOME_1);
    request.sealed_location_id = "d1.nonsense".to_owned();
    home.send(request).await.unwrap_err();
    let chain = one(&server, phone(PHONE)).await;
    assert_eq!(broken(&chain).1, "request-refused");
    assert!(broken(&chain).2.contains("sealed_location_id"), "{chain:?}");
    home.ask(&server, Connect, NOWHERE).await.unwrap_err();
    let chain = one(&server, phone(PHONE)).await;
    assert!(broken(&chain).2.contains("no gateway"), "{chain:?}");

    // The gateway was never there; then it is, and says nothing.
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    let session = || Subject::SessionId(answer.session_id.clone());
    for subject in [session(), phone(PHONE), location(HOME_1)] {
        let chain = one(&server, subject).await;
        let (link, kind, cause) = broken(&chain);
        assert_eq!((link, kind), ("instructed", "gateway-away"));
        assert!(cause.contains("never has been"), "{cause}");
        assert_eq!(chain.session_id, answer.session_id);
        assert_eq!(
            (chain.state(), chain.gateway_id.as_str()),
            (S::Connecting, "gw1")
        );
    }
    let mut gw1 = server.gateway("gw1", vec![]).await;
    gw1.until_synced().await;
    let chain = one(&server, session()).await;
    assert_eq!(broken(&chain).0, "acknowledged");
    assert_eq!(broken(&chain).1, "not-acknowledged");

    gw1.ack(&answer.session_id, 1).await;
    server.reaches(&answer.session_id, S::Establishing).await;
    let chain = one(&server, session()).await;
    assert_eq!(broken(&chain).0, "established");
    assert_eq!(broken(&chain).1, "terminal-silent");
    gw1.established(&answer.session_id, 1).await;
    server.reaches(&answer.session_id, S::Established).await;
    let chain = one(&server, session()).await;
    assert_eq!(chain.broken, None, "it may be silent for a while");
    let times: Vec<_> = chain.links.iter().map(|link| link.at_unix_ms).collect();
    assert!(times[..6].is_sorted() && times[0] > 0, "{times:?}");
    assert_eq!(times[6], 0, "nothing has passed");
    // With less patience it is silent for too long.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let chain = ask(&server, session(), 1).await.remove(0);
    assert_eq!(broken(&chain).1, "no-traffic");

    counters(&gw1, &answer.session_id, 1, 5).await;
    let moved = |chain: &pb::WhyConnection| chain.links[6].at_unix_ms;
    let chain = becomes(&server, session(), |chain| moved(chain) > 0).await;
    let first = moved(&chain);
    // What has not grown has not moved; what is recorded behind it is seen.
    tokio::time::sleep(Duration::from_millis(5)).await;
    counters(&gw1, &answer.session_id, 1, 5).await;
    gw1.ack_service(&answer.session_id, 1, 1).await;
    gw1.receipt("0190f2c4-5a1e-7c3b-9d2e-1f0a5b6c7d8e", 1).await;
    gw1.receipt_ack().await;
    assert_eq!(moved(&one(&server, session()).await), first);
    counters(&gw1, &answer.session_id, 1, 6).await;
    becomes(&server, session(), |chain| moved(chain) > first).await;

    // What the gateway knows comes before what is worked out from counters.
    for (said, kind) in [
        ((5000, false, ""), "terminal-silent"),
        ((5000, true, ""), "blocked"),
        ((5000, true, "uplink uplink0 is down"), "uplink-down"),
        ((0, false, ""), ""),
    ] {
        wrong(&gw1, &answer.session_id, said).await;
        let told = |chain: &pb::WhyConnection| {
            let broken = chain.broken.as_ref();
            broken.map_or(String::new(), |broken| broken.kind.clone())
        };
        becomes(&server, session(), |chain| told(chain) == kind).await;
    }

    // A move waits for a receipt; the new home's session is this one already.
    home.ask(&server, Move, HOME_2).await.unwrap();
    for subject in [phone(PHONE), location(HOME_1), location(HOME_2)] {
        let chain = one(&server, subject).await;
        assert_eq!(broken(&chain).0, "bound");
        assert_eq!(broken(&chain).1, "awaiting-receipt");
        assert!(broken(&chain).2.contains("to move to gw2"), "{chain:?}");
    }
    gw1.disconnect().await;
    gw1.receipt(&answer.session_id, 2).await;
    gw1.receipt_ack().await;
    let mut gw2 = server.gateway("gw2", vec![]).await;
    let connects = gw2.until_synced().await;
    assert_eq!(connects.len(), 1);
    gw2.nack(&answer.session_id, 3, pb::NackReason::UnknownLocation)
        .await;
    server.reaches(&answer.session_id, S::Refused).await;
    let chain = one(&server, session()).await;
    assert_eq!(broken(&chain).1, "refused-by-gateway");
    assert!(broken(&chain).2.contains("not in the gateway's inventory"));
    assert_eq!(
        broken(&one(&server, location(HOME_1)).await).1,
        "no-session",
        "it has left the first home"
    );
    home.release("").await.unwrap();
    let chain = one(&server, phone(PHONE)).await;
    assert_eq!(broken(&chain).1, "released");
}

#[tokio::test]
async fn a_gateway_that_went_away_is_named_with_its_time() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_home, connect) = Subscriber::established(&server, &mut gw1).await;
    drop(gw1);
    let session = Subject::SessionId(connect.session_id.clone());
    let gone = async {
        while server
            .running
            .as_ref()
            .unwrap()
            .engine
            .hub
            .gateways_connected()
            > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("a gateway that hung up stays connected");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let chain = ask(&server, session.clone(), 1).await.remove(0);
    if common::on_postgres() {
        // Another server may have it.
        assert_eq!(broken(&chain).1, "no-traffic");
    } else {
        assert_eq!(broken(&chain).0, "traffic");
        assert_eq!(broken(&chain).1, "gateway-away");
        assert!(chain.broken.unwrap().since_unix_ms > 0);
    }
    let back = held(&connect.session_id, 1, pb::HeldPhase::Established);
    let mut gw1 = server.gateway("gw1", vec![back]).await;
    gw1.until_synced().await;
    let chain = ask(&server, session, 1).await.remove(0);
    assert_eq!(broken(&chain).1, "no-traffic");
}

/// The command itself, in a thread of its own: the server runs in this process.
async fn command(server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorstep-server"));
    command
        .arg("why")
        .args(arguments)
        .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // Whoever does not read it may have ended already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn the_command_tells_by_text_json_and_exit_code() {
    let server = Server::start().await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let (_home, connect) = Subscriber::established(&server, &mut gw1).await;
    Subscriber::register(&server, OTHER_PHONE).await;
    let mut told = Vec::new();
    for (arguments, input, code, expected) in [
        (&["--phone", PHONE][..], "", 0, "every link holds"),
        (&["--phone", "-"], "13812345678\n", 0, "every link holds"),
        (&["--location", HOME_1], "", 0, "every link holds"),
        (
            &["--session", &connect.session_id],
            "",
            0,
            "every link holds",
        ),
        (
            &["--phone", OTHER_PHONE],
            "",
            3,
            "doorstep-terminal request",
        ),
        (&["--location", NOWHERE], "", 3, "doorstep-server gateways"),
        (
            &["--phone", "1390000123x"],
            "",
            2,
            "phone: it may hold only digits",
        ),
        (&["--location", "nowhere"], "", 2, "location_id: "),
        (&["--session", "no"], "", 2, "must be a UUID"),
        (&[], "", 2, "required"),
        (
            &["--phone", PHONE, "--session", "no"],
            "",
            2,
            "cannot be used with",
        ),
        (
            &["--phone", PHONE, "--quiet-after", "0"],
            "",
            2,
            "--quiet-after",
        ),
    ] {
        let output = command(&server, arguments, input).await;
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        told.push(text);
    }

    let output = command(&server, &["--phone", PHONE, "-o", "json"], "").await;
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    told.push(text);
    doorstep_test_schemas::assert_valid("doorstep-server", &["why"], &json);
    assert_eq!(json[0]["session_id"], connect.session_id);
    assert_eq!(json[0]["location_id"], HOME_1);
    assert_eq!(json[0]["gateway_id"], "gw1");
    assert_eq!(json[0]["state"], "established");
    assert!(json[0]["broken"].is_null());
    let links = json[0]["links"].as_array().unwrap();
    let names: Vec<_> = links
        .iter()
        .map(|link| link["link"].as_str().unwrap())
        .collect();
    let stages = doorstep_server::why::Stage::ALL.map(doorstep_server::why::Stage::name);
    assert_eq!(names, stages);
    assert!(links[0]["at_unix_ms"].as_i64().unwrap() > 0);
    assert!(links[6]["at_unix_ms"].is_null(), "nothing has passed");
    let output = command(&server, &["--phone", OTHER_PHONE, "-o", "json"], "").await;
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    told.push(text);
    let broken = &json[0]["broken"];
    assert_eq!(
        (&broken["link"], &broken["kind"]),
        (&"requested".into(), &"no-session".into())
    );
    assert!(broken["since_unix_ms"].is_null());
    assert_eq!(broken["next"]["host"], "terminal");
    assert!(json[0]["session_id"].is_null() && json[0]["state"].is_null());
    for text in told {
        for number in [PHONE, OTHER_PHONE, "1390000123"] {
            assert!(!text.contains(number), "a number is shown: {text}");
        }
    }
}
