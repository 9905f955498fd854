//! `subscribers import` and `sessions connect`: many rows from a file, through the binary.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use base64::Engine as _;
use doorstep_proto::v1 as pb;
use pb::AccessKind::{Additional, Connect};
use serde_json::Value;

use crate::common::{
    HOME_1, HOME_1B, HOME_2, ID_CARD, NOWHERE, PHONE, Server, Subscriber, UNHURRIED, config_with,
};

const OTHER_CARD: &str = "440524188001010014";

fn config() -> String {
    let plans = "[[plan]]\nname = \"fast\"\ndownstream = \"1G\"\nupstream = \"1G\"\n";
    let wide = config_with(UNHURRIED)
        .replace("100.64.1.0/29", "100.65.0.0/16")
        .replace("100.64.2.0/29", "100.66.0.0/16")
        .replace("2001:db8:f:100::/56", "2001:db9::/40")
        .replace("2001:db8:1000::/40", "2001:dba::/32")
        .replace("2001:db8:2000::/40", "2001:dbb::/32");
    format!("country_code = \"86\"\n{wide}{plans}")
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_doorstep-server"))
        .args(arguments)
        .current_dir(server.dir.path())
        .env("DOORSTEP_SERVER_SOCKET", &server.config.admin_socket)
        .output()
        .unwrap()
}

/// The report, the exit code, and all that was printed.
fn report(server: &Server, arguments: &[&str]) -> (Value, i32, String) {
    let output = run(server, &[arguments, &["-o", "json"]].concat());
    let out = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    doorstep_test_schemas::assert_valid("doorstep-server", arguments, &value);
    (value, output.status.code().unwrap(), out + &error)
}

fn write(server: &Server, name: &str, text: &str) {
    std::fs::write(server.dir.path().join(name), text).unwrap();
}

fn read(server: &Server, name: &str) -> String {
    std::fs::read_to_string(server.dir.path().join(name)).unwrap()
}

fn counts(report: &Value, verb: &str) -> [u64; 4] {
    ["rows", verb, "present", "refused"].map(|name| report[name].as_u64().unwrap())
}

fn refusals(report: &Value) -> Vec<(u64, String)> {
    let all = report["refusals"].as_array().unwrap();
    all.iter()
        .map(|refusal| {
            let reason = refusal["reason"].as_str().unwrap().to_owned();
            (refusal["line"].as_u64().unwrap(), reason)
        })
        .collect()
}

fn assert_refusals(report: &Value, wanted: &[(u64, &str)]) {
    let found = refusals(report);
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for ((line, reason), (wanted_line, part)) in found.iter().zip(wanted) {
        assert_eq!(line, wanted_line, "{found:?}");
        assert!(reason.contains(part), "{line}: {reason}");
    }
}

/// No number of a file is in what is printed.
fn assert_private(printed: &str) {
    for number in [
        PHONE,
        ID_CARD,
        OTHER_CARD,
        "13900000001",
        "13900000002",
        "139000",
    ] {
        assert!(!printed.contains(number), "{number} in {printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_come_from_a_file_once() {
    let server = Server::start_with(&config()).await;
    let rows = [
        "phone,id_card,plan",
        &format!("{PHONE},,"),
        &format!("139 0000 0001,{ID_CARD},fast"),
        &format!(",{OTHER_CARD},fast"),
        "123,,",
        "13900000002,,slow",
        ",,",
        &format!("+86 {PHONE},,"),
        &format!("{PHONE},{ID_CARD},"),
        "13900000003",
        &format!("13900000001,{OTHER_CARD},"),
        "13900000004,110105194912310021,",
    ]
    .join("\n");
    write(&server, "new.csv", &rows);
    let arguments = [
        "subscribers",
        "import",
        "new.csv",
        "--secrets",
        "secrets.csv",
        "--report",
        "report",
    ];
    let (first, code, printed) = report(&server, &arguments);
    assert_eq!(counts(&first, "imported"), [11, 3, 1, 7], "{printed}");
    assert_eq!(code, 6);
    assert!(printed.contains("7 rows were refused"), "{printed}");
    assert_private(&printed);
    assert_refusals(
        &first,
        &[
            (5, "phone: it must have 5 to 15 digits"),
            (6, "plan: must be one of fast"),
            (7, "at least one of the two is needed"),
            (9, "not of one and the same subscriber"),
            (10, "it has 1 fields, and the first line names 3"),
            (11, "not of one and the same subscriber"),
            (12, "check character is wrong"),
        ],
    );
    let kept: Value = serde_json::from_str(&read(&server, "report")).unwrap();
    assert_eq!(kept, first);

    // The secrets are the subscribers'.
    let path = server.dir.path().join("secrets.csv");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let secrets = read(&server, "secrets.csv");
    assert_private(&secrets);
    let lines: Vec<&str> = secrets.lines().collect();
    assert_eq!((lines[0], lines.len()), ("line,subscriber,secret", 4));
    for (line, number) in lines[1..].iter().zip(["2,", "3,", "4,"]) {
        assert!(line.starts_with(number), "{line}");
    }
    let [_, id, secret] = lines[2].split(',').collect::<Vec<_>>()[..] else {
        panic!("{}", lines[2])
    };
    let secret = base64::engine::general_purpose::STANDARD
        .decode(secret)
        .unwrap();
    let mut home = Subscriber {
        client: server.access().await,
        credentials: pb::Credentials {
            subscriber_id: id.to_owned(),
            secret,
        },
    };
    let answer = home.ask(&server, Connect, HOME_1).await.unwrap();
    let session = server.detail(&answer.session_id).await.session.unwrap();
    assert_eq!(session.plan, "fast");

    // Once more: those who are there are told so, and no secret is voided.
    let (again, code, printed) = report(&server, &["subscribers", "import", "new.csv"]);
    assert_eq!(counts(&again, "imported"), [11, 0, 4, 7], "{printed}");
    assert_eq!(code, 6);
    assert_private(&printed);
    home.release(&answer.session_id).await.unwrap();

    let listed = run(&server, &["subscribers", "-o", "json"]).stdout;
    let listed: Value = serde_json::from_slice(&listed).unwrap();
    assert_eq!(listed["subscribers"].as_array().unwrap().len(), 3);
    let table = run(&server, &["subscribers", "import", "new.csv"]).stdout;
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("there already  4"), "{table}");
    assert!(table.contains("LINE  REASON\n5     phone: it"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_told_what_its_columns_must_be() {
    let server = Server::start_with(&config()).await;
    let cases = [
        ("", "there is no column phone or id-card"),
        ("plan\nfast\n", "there is no column phone or id-card"),
        (
            "13900000001,fast\n13900000002,fast\n",
            "column 1 must be named one of phone, id-card, plan",
        ),
        ("phone,phone\n", "column 2 must be named one of"),
    ];
    for (text, want) in cases {
        write(&server, "bad.csv", text);
        let output = run(&server, &["subscribers", "import", "bad.csv"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(want), "{want}: {error}");
        assert_private(&error);
    }
    let output = run(&server, &["subscribers", "import", "nothing.csv"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot read nothing.csv"), "{error}");
    // Bytes that are no text are a row's fault.
    let path = server.dir.path().join("latin.csv");
    std::fs::write(path, b"\xef\xbb\xbfID-NUMBER,phone\n,\xe9\n,13900000001\n").unwrap();
    let (told, _, printed) = report(&server, &["subscribers", "import", "latin.csv"]);
    assert_eq!(counts(&told, "imported"), [2, 1, 0, 1], "{printed}");
    assert_refusals(&told, &[(2, "it is not UTF-8")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_opened_and_wait_for_their_terminals() {
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let mut gw2 = server.synced_gateway("gw2").await;
    let mut home = Subscriber::register(&server, PHONE).await;
    let other = Subscriber::register(&server, "13900000001").await;
    let other_id = &other.credentials.subscriber_id;
    let rows = [
        "location,subscriber,phone,id-card",
        &format!("{HOME_1},,138-1234-5678,"),
        &format!("{HOME_2},{other_id},,"),
        &format!("{HOME_1B},,{PHONE},"),
        &format!("{NOWHERE},,13900000001,"),
        &format!("{HOME_1},,13900000002,"),
        &format!("{HOME_1},{other_id},13900000001,"),
        "13900000001,,13900000001,",
        &format!("{HOME_1},nobody,,"),
        &format!("{HOME_1},,,"),
        &format!("{HOME_1},00000000-0000-4000-8000-000000000000,,"),
    ]
    .join("\r\n");
    write(&server, "sessions.csv", &rows);
    let arguments = ["sessions", "connect", "--all", "--from", "sessions.csv"];
    let (first, code, printed) = report(&server, &arguments);
    assert_eq!(counts(&first, "connected"), [10, 2, 0, 8], "{printed}");
    assert_eq!(code, 6);
    assert_private(&printed);
    assert_refusals(
        &first,
        &[
            (4, "has a session at another location"),
            (5, "no gateway of this operator serves"),
            (6, "no subscriber is registered"),
            (7, "not both"),
            (8, "location: location id: "),
            (9, "subscriber: must be a UUID"),
            (10, "at least one of the two is needed"),
            (11, "there is no such subscriber"),
        ],
    );
    let connect = gw1.connect().await;
    assert_eq!(connect.location_id, HOME_1);
    assert_eq!(gw2.connect().await.location_id, HOME_2);

    let (again, _, printed) = report(&server, &arguments);
    assert_eq!(counts(&again, "connected"), [10, 0, 2, 8], "{printed}");
    gw1.silence().await;

    // The terminal asks for what waits for it: the same session, the key that the gateway has.
    let asked = home.ask(&server, Connect, HOME_1).await.unwrap();
    assert_eq!(asked.session_id, connect.session_id);
    assert_eq!(asked.generation, connect.generation);
    assert_eq!(asked.session_key, connect.session_key);
    gw1.ack(&connect.session_id, connect.generation).await;
    gw1.established(&connect.session_id, connect.generation)
        .await;
    server
        .reaches(&connect.session_id, pb::SessionState::Established)
        .await;
    let elsewhere = home.ask(&server, Connect, HOME_1B).await.unwrap_err();
    assert_eq!(elsewhere.code(), tonic::Code::FailedPrecondition);

    // Beside it, where that is asked for.
    let (more, _, printed) = report(&server, &[&arguments[..], &["--additional"]].concat());
    assert_eq!(counts(&more, "connected"), [10, 1, 2, 7], "{printed}");
    let beside = gw1.connect().await;
    assert_eq!(beside.location_id, HOME_1B);
    let asked = home.ask(&server, Connect, HOME_1B).await.unwrap();
    assert_eq!(asked.session_key, beside.session_key);
    let own = home.ask(&server, Additional, HOME_1B).await.unwrap();
    assert_ne!(own.session_id, beside.session_id);

    let detail = server.detail(&connect.session_id).await;
    assert_eq!(detail.steps[0].who, "operator");
    let usage = run(&server, &["sessions", "connect", "--from", "sessions.csv"]);
    assert_eq!(usage.status.code(), Some(2));
}

/// Many groups; those who ask meanwhile are answered, and nobody is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rows_leave_room_for_others() {
    const ROWS: usize = 2000;
    let server = Server::start_with(&config()).await;
    let mut gw1 = server.synced_gateway("gw1").await;
    let numbers = (0..ROWS).map(|index| format!("137{index:08}"));
    let all: Vec<String> = numbers.collect();
    write(&server, "many.csv", &format!("phone\n{}\n", all.join("\n")));
    let homes: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(index, phone)| {
            format!(
                "{phone},110103-xinjingjiayuan-001-{:03}-{:03}",
                index / 100,
                index % 100
            )
        })
        .collect();
    write(
        &server,
        "homes.csv",
        &format!("phone,location\n{}\n", homes.join("\n")),
    );
    let server = std::sync::Arc::new(server);
    let import = |arguments: &'static [&'static str]| {
        let server = std::sync::Arc::clone(&server);
        tokio::task::spawn_blocking(move || report(&server, arguments))
    };
    // Two at a time with the same rows: each row is there once.
    let arguments = &["subscribers", "import", "many.csv"];
    let (one, two) = (import(arguments), import(arguments));
    let mut live = 0;
    while !(one.is_finished() && two.is_finished()) {
        Subscriber::register(&server, &format!("136{live:08}")).await;
        live += 1;
    }
    let (one, two) = (one.await.unwrap().0, two.await.unwrap().0);
    let [one, two] = [&one, &two].map(|report| counts(report, "imported"));
    assert_eq!(one[1] + two[1], ROWS as u64, "{one:?} {two:?}");
    assert_eq!((one[3], two[3]), (0, 0), "{one:?} {two:?}");
    assert!(live > 0);

    let connecting = import(&["sessions", "connect", "--all", "--from", "homes.csv"]);
    let mut sessions = BTreeSet::new();
    for _ in 0..ROWS {
        sessions.insert(gw1.connect().await.session_id);
    }
    assert_eq!(sessions.len(), ROWS, "each is told of once");
    let (report, code, printed) = connecting.await.unwrap();
    assert_eq!(
        counts(&report, "connected"),
        [ROWS as u64, ROWS as u64, 0, 0],
        "{printed}"
    );
    assert_eq!(code, 0);
    let operator = &mut server.operator().await;
    let status = operator.status(pb::OperatorStatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().subscribers, ROWS as u64 + live);
}
