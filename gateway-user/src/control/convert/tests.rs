use super::*;
use crate::engine::message::Account;

fn good() -> v1::Connect {
    v1::Connect {
        session_id: "0190f3e8-0000-7000-8000-000000000001".into(),
        generation: 3,
        location_id: "110103-xinjing-001-002-004".into(),
        session_key: vec![7; 32],
        ipv4_address: "100.64.1.10".into(),
        ipv6_prefix: "2001:db8:1000:100::/56".into(),
        ipv6_line_prefix: "2001:db8:1000:f01::/64".into(),
        ipv4_gateway: String::new(),
        dns: vec!["192.0.2.53".into()],
        mtu: 0,
        service: None,
        service_revision: 0,
        dhcp: None,
    }
}

fn read(message: v1::Connect) -> Instruction {
    read_body(v1::server_message::Body::Connect(message))
}

fn read_body(body: v1::server_message::Body) -> Instruction {
    match incoming(v1::ServerMessage { body: Some(body) }) {
        Ok(Incoming::Instruction(instruction)) => instruction,
        other => panic!("an instruction, not {other:?}"),
    }
}

#[test]
fn a_connect() {
    let Instruction::Connect(connect) = read(good()) else {
        panic!("readable");
    };
    assert_eq!(connect.mtu, 1500);
    assert_eq!(connect.ipv4, Some([100, 64, 1, 10].into()));
    assert_eq!(connect.ipv4_gateway, None);
    assert_eq!(connect.dns.len(), 1);
    assert_eq!(connect.service, Service::default());
    assert_eq!(connect.service_revision, 0);
}

#[test]
fn how_a_session_comes_up_by_dhcp() {
    let hold = CpeReplacement::AfterHold { hold_s: 60 };
    for (lease_s, replacement, expected) in [
        (0, 0, (3600, CpeReplacement::AtOnce)),
        (600, 1, (600, CpeReplacement::AtOnce)),
        (600, 2, (600, hold)),
        (600, 3, (600, CpeReplacement::Never)),
    ] {
        let mut message = good();
        message.dhcp = Some(v1::Dhcp {
            lease_s,
            replacement,
            hold_s: 60,
        });
        let Instruction::Connect(connect) = read(message) else {
            panic!("readable");
        };
        let dhcp = connect.dhcp.map(|dhcp| (dhcp.lease_s, dhcp.replacement));
        assert_eq!(dhcp, Some(expected));
    }
    let mut message = good();
    message.dhcp = Some(v1::Dhcp {
        replacement: 4,
        ..v1::Dhcp::default()
    });
    let Instruction::Malformed(refusal) = read(message) else {
        panic!("refused");
    };
    assert_eq!(
        refusal.detail,
        "dhcp.replacement: 4 is none that this version knows"
    );
}

#[test]
fn a_service_there_and_back() {
    let service = v1::Service {
        upstream_bps: 100_000_000,
        downstream_bps: 300_000_000,
        shape_downstream: true,
        priority: 5,
        time_to_live_s: 300,
    };
    let mut message = good();
    message.service = Some(service);
    message.service_revision = 4;
    let Instruction::Connect(connect) = read(message) else {
        panic!("readable");
    };
    assert_eq!(service_message(connect.service), service);
    assert_eq!(connect.service_revision, 4);

    let change = v1::ChangeService {
        session_id: good().session_id,
        generation: 3,
        revision: 5,
        service: None,
    };
    let body = v1::server_message::Body::ChangeService(change.clone());
    let Instruction::ChangeService(read) = read_body(body) else {
        panic!("readable");
    };
    assert_eq!((read.generation, read.revision), (3, 5));
    assert_eq!(read.service, Service::default());

    let spoiled = v1::ChangeService {
        service: Some(v1::Service {
            priority: 256,
            ..service
        }),
        ..change
    };
    let body = v1::server_message::Body::ChangeService(spoiled);
    let Instruction::Malformed(refusal) = read_body(body) else {
        panic!("refused");
    };
    assert_eq!((refusal.generation, refusal.revision), (3, 5));
    assert_eq!(refusal.detail, "service.priority: 256 is beyond 7");
}

#[test]
fn each_malformed_field_is_named() {
    type Spoil = fn(&mut v1::Connect);
    #[rustfmt::skip]
    let rows: [(Spoil, &str); 11] = [
        (|c| c.session_id = "x\n".into(), "session_id: 'x\\n'"),
        (|c| c.session_id = "0190f3e8\t-0000-7000-8000-000000000001".into(), "session_id: '0190f3e8\\t-"),
        (|c| c.location_id = "110103".into(), "location_id: "),
        (|c| c.session_key = vec![7; 31], "session_key: session key: 31 bytes"),
        (|c| c.ipv4_address = "100.64.1".into(), "ipv4_address: '100.64.1'"),
        (|c| c.ipv6_prefix = "2001:db8::".into(), "ipv6_prefix: '2001:db8::'"),
        (|c| c.ipv6_line_prefix = "::/129".into(), "ipv6_line_prefix: '::/129'"),
        (|c| c.dns = vec!["resolver".into()], "dns: 'resolver'"),
        (|c| c.dns = vec!["192.0.2.1".into(); 9], "dns: 9 addresses"),
        (|c| c.mtu = 65536, "mtu: 65536"),
        (|c| c.service = Some(v1::Service { priority: 300, ..Default::default() }), "service.priority: 300"),
    ];
    for (spoil, expected) in rows {
        let mut message = good();
        spoil(&mut message);
        let Instruction::Malformed(refusal) = read(message) else {
            panic!("{expected}: refused");
        };
        assert!(refusal.detail.starts_with(expected), "{}", refusal.detail);
        assert!(
            !refusal.detail.contains(char::is_control),
            "{:?}",
            refusal.detail
        );
        assert_eq!(refusal.generation, 3);
        assert_eq!(refusal.reason, RefusalReason::Malformed);
    }
}

#[test]
fn what_is_echoed_is_short() {
    let mut message = good();
    message.session_id = "y".repeat(100_000);
    let Instruction::Malformed(refusal) = read(message) else {
        panic!("refused");
    };
    assert_eq!(refusal.session.len(), MAX_ECHO);
    assert!(refusal.detail.len() < 300);
}

#[test]
fn a_message_without_a_body_is_an_error() {
    assert_eq!(
        incoming(v1::ServerMessage { body: None }),
        Err(EmptyMessage)
    );
}

#[test]
fn an_account_says_since_when_a_terminal_is_silent() {
    for (silent_since_ms, unix_ms) in [(None, 0), (Some(5000), 5000)] {
        let account = Account {
            session: Uuid::from_u128(7),
            generation: 3,
            counters: Counters::default(),
            silent_since_ms,
            blocked: true,
        };
        let message = outgoing("gw1", Report::Accounting(vec![account]));
        let Some(v1::gateway_message::Body::Accounting(accounting)) = message.body else {
            panic!("not an account: {message:?}");
        };
        let told = &accounting.sessions[0];
        assert_eq!((told.generation, told.silent_since_unix_ms), (3, unix_ms));
        assert!(told.blocked);
    }
}
