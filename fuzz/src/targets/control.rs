//! What servers and gateways tell each other: each end's reading of what the other wrote.

use std::fmt::Display;
use std::net::Ipv4Addr;

use doorstep_establish::{Mac, SessionKey};
use doorstep_gateway::control::{Incoming, counters, incoming, outgoing, service_message};
use doorstep_gateway::engine::message::{
    Account, ChangeService, Connect, CpeReplacement, Dhcp, Held, HeldPhase, Instruction, Receipt,
    Refusal, RefusalReason, Report,
};
use doorstep_gateway::session::{Counters, Service};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use doorstep_proto::v1::server_message::Body as FromServer;
use doorstep_server::service::convert;
use prost::Message as _;

use super::establish::SESSION;
use super::{names_a_field, reread};
use crate::Target;
use crate::mutate::Shape;

pub const SERVER_MESSAGE: Target = Target {
    name: "server_message",
    about: "what a server says: refused by the field's name, or the same written back",
    check: check_server_message,
    seeds: server_seeds,
    shape: Shape::Protobuf,
    words: &[
        "0190f3e8-0000-7000-8000-000000000001",
        "110103-xinjing-001-002-004",
        "::ffff:192.0.2.1",
        "0.0.0.0/0",
        "::/0",
        "/129",
    ],
    inputs: 10_000,
};

pub const GATEWAY_MESSAGE: Target = Target {
    name: "gateway_message",
    about: "what a gateway says: read by the server as it was meant, one bounded line of text",
    check: check_gateway_message,
    seeds: gateway_seeds,
    shape: Shape::Protobuf,
    words: &["0190f3e8-0000-7000-8000-000000000001", "\n", "\u{1b}[31m"],
    inputs: 10_000,
};

/// What the gateway's refusals begin with.
const FIELDS: [&str; 12] = [
    "mtu",
    "dns",
    "session_id",
    "location_id",
    "session_key",
    "ipv4_address",
    "ipv6_prefix",
    "ipv6_line_prefix",
    "ipv4_gateway",
    "service.priority",
    "dhcp.replacement",
    "service",
];
/// Longest text that is sent back to a server, in bytes: 64 characters of its own, each written as
/// `\u{10ffff}`, and our words.
const MAX_DETAIL: usize = 64 * 10 + 200;

const SERVICE: Service = Service {
    upstream_bps: 100_000_000,
    downstream_bps: 300_000_000,
    shape_downstream: true,
    priority: 5,
    time_to_live_s: 0,
};

fn server_seeds() -> Vec<Vec<u8>> {
    let connect = Connect {
        session: SESSION,
        generation: 3,
        location: "110103-xinjing-001-002-004".parse().expect("a location"),
        key: SessionKey::from_slice(&[7; SessionKey::LEN]).expect("a key"),
        ipv4: Some(Ipv4Addr::new(100, 64, 1, 10)),
        ipv6: "2001:db8:1000:100::/56".parse().ok(),
        ipv6_line: "2001:db8:1000:f01::/64".parse().ok(),
        ipv4_gateway: Some(Ipv4Addr::new(100, 64, 1, 1)),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53).into()],
        mtu: 1492,
        service: SERVICE,
        service_revision: 4,
        dhcp: Some(Dhcp {
            lease_s: 3600,
            replacement: CpeReplacement::AfterHold { hold_s: 60 },
        }),
    };
    let change = ChangeService {
        session: SESSION,
        generation: 3,
        revision: 5,
        service: SERVICE,
    };
    let disconnect = Instruction::Disconnect {
        session: SESSION,
        generation: 4,
    };
    let welcome = FromServer::Welcome(pb::Welcome {
        operator: "north-net".to_owned(),
    });
    [
        Instruction::Connect(connect),
        Instruction::ChangeService(change),
        disconnect,
        Instruction::Synced,
        Instruction::ReceiptAck { number: 9 },
    ]
    .iter()
    .filter_map(written)
    .chain([welcome])
    .map(|body| pb::ServerMessage { body: Some(body) }.encode_to_vec())
    .collect()
}

fn check_server_message(data: &[u8]) {
    let Some(message) = reread::<pb::ServerMessage>(data) else {
        return;
    };
    match incoming(message.clone()) {
        Err(_) => assert_eq!(message.body, None),
        Ok(Incoming::Welcome { operator }) => {
            let welcome = FromServer::Welcome(pb::Welcome { operator });
            assert_eq!(message.body, Some(welcome));
        }
        Ok(Incoming::Instruction(Instruction::Malformed(refusal))) => refused(&refusal),
        Ok(Incoming::Instruction(instruction)) => {
            let body = written(&instruction).expect("all but refusals");
            let again = incoming(pb::ServerMessage { body: Some(body) });
            assert_eq!(again, Ok(Incoming::Instruction(instruction)));
        }
    }
}

fn refused(refusal: &Refusal) {
    let Refusal {
        session, detail, ..
    } = refusal;
    assert!(names_a_field(detail, &FIELDS), "{detail}");
    assert!(detail.len() <= MAX_DETAIL && session.len() <= MAX_DETAIL);
    assert_eq!(refusal.reason, RefusalReason::Malformed);
    for text in [detail, session] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

/// As a server writes it; none of what no server says.
fn written(instruction: &Instruction) -> Option<FromServer> {
    Some(match instruction {
        Instruction::Connect(connect) => FromServer::Connect(pb::Connect {
            session_id: connect.session.to_string(),
            generation: connect.generation,
            location_id: connect.location.to_string(),
            session_key: connect.key.as_bytes().to_vec(),
            ipv4_address: text(connect.ipv4),
            ipv6_prefix: text(connect.ipv6),
            ipv4_gateway: text(connect.ipv4_gateway),
            dns: connect.dns.iter().map(ToString::to_string).collect(),
            mtu: connect.mtu.into(),
            service: Some(service_message(connect.service)),
            service_revision: connect.service_revision,
            ipv6_line_prefix: text(connect.ipv6_line),
            dhcp: connect.dhcp.map(dhcp_message),
        }),
        Instruction::ChangeService(change) => FromServer::ChangeService(pb::ChangeService {
            session_id: change.session.to_string(),
            generation: change.generation,
            revision: change.revision,
            service: Some(service_message(change.service)),
        }),
        Instruction::Disconnect {
            session,
            generation,
        } => FromServer::Disconnect(pb::Disconnect {
            session_id: session.to_string(),
            generation: *generation,
        }),
        Instruction::Synced => FromServer::Synced(pb::Synced {}),
        Instruction::ReceiptAck { number } => {
            FromServer::ReceiptAck(pb::ReceiptAck { number: *number })
        }
        Instruction::Malformed(_) => return None,
    })
}

fn dhcp_message(dhcp: Dhcp) -> pb::Dhcp {
    let (replacement, hold_s) = match dhcp.replacement {
        CpeReplacement::AtOnce => (pb::CpeReplacement::AtOnce, 0),
        CpeReplacement::AfterHold { hold_s } => (pb::CpeReplacement::AfterHold, hold_s),
        CpeReplacement::Never => (pb::CpeReplacement::Never, 0),
    };
    pb::Dhcp {
        lease_s: dhcp.lease_s,
        replacement: replacement.into(),
        hold_s,
    }
}

fn text(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

const COUNTERS: Counters = Counters {
    upstream_packets: 1,
    upstream_bytes: 2,
    downstream_packets: 3,
    downstream_bytes: 4,
    upstream_policed: 5,
    downstream_policed: 6,
};

fn gateway_seeds() -> Vec<Vec<u8>> {
    let held = |phase| Held {
        session: SESSION,
        generation: 3,
        phase,
        revision: 4,
    };
    let nack = Refusal {
        session: SESSION.to_string(),
        generation: 3,
        revision: 0,
        reason: RefusalReason::AddressInUse,
        detail: "100.64.1.10 is another session's".to_owned(),
    };
    let receipt = Receipt {
        number: 9,
        session: SESSION,
        generation: 4,
        final_counters: COUNTERS,
        at_unix_ms: 1_700_000_000_000,
    };
    let phases = [
        HeldPhase::Establishing,
        HeldPhase::Established,
        HeldPhase::Disconnected,
    ];
    [
        Report::Hello {
            held: phases.map(held).to_vec(),
        },
        Report::Ack {
            session: SESSION,
            generation: 3,
            revision: 4,
        },
        Report::Nack(nack),
        Report::Established {
            session: SESSION,
            generation: 3,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            line: "access0/101.1004".to_owned(),
            route: "uplink0 via 192.0.2.1".to_owned(),
            at_unix_ms: 1_700_000_000_000,
        },
        Report::Receipt(receipt),
        Report::Accounting(vec![Account {
            silent_since_ms: Some(1_700_000_000_000),
            session: SESSION,
            generation: 3,
            counters: COUNTERS,
        }]),
    ]
    .map(|report| outgoing("gw1", report).encode_to_vec())
    .to_vec()
}

fn check_gateway_message(data: &[u8]) {
    let Some(message) = reread::<pb::GatewayMessage>(data) else {
        return;
    };
    match message.body {
        None => {}
        Some(FromGateway::Hello(hello)) => {
            for held in &hello.held {
                check_held(held);
            }
        }
        Some(FromGateway::Ack(ack)) => check_id(&ack.session_id),
        Some(FromGateway::Nack(nack)) => {
            check_id(&nack.session_id);
            let reason = convert::nack_reason(&nack);
            assert!(
                !reason.is_empty() && reason.chars().count() < 400,
                "{reason}"
            );
            assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
        Some(FromGateway::Established(established)) => {
            check_id(&established.session_id);
            check_tidy(&established.line);
            check_tidy(&established.route);
            if let Some(mac) = convert::mac(&established.terminal_mac) {
                let mac: Mac = mac.parse().expect("as people write it");
                assert_eq!(mac.0[..], established.terminal_mac);
            }
        }
        Some(FromGateway::Receipt(receipt)) => {
            check_id(&receipt.session_id);
            check_counters(receipt.r#final);
        }
        Some(FromGateway::Accounting(accounting)) => {
            for session in accounting.sessions {
                check_id(&session.session_id);
                check_counters(session.counters);
                if let Some((said, _)) = convert::account(session) {
                    assert_ne!(said.silent_since_ms, Some(0));
                }
            }
        }
    }
}

fn check_held(given: &pb::HeldSession) {
    use doorstep_server::session::instruct::Phase;

    match convert::held(given) {
        Ok(held) => {
            let phase = match held.phase {
                Phase::Establishing => HeldPhase::Establishing,
                Phase::Established => HeldPhase::Established,
                Phase::Disconnected => HeldPhase::Disconnected,
            };
            let report = Report::Hello {
                held: vec![Held {
                    session: held.session,
                    generation: held.generation,
                    phase,
                    revision: held.revision,
                }],
            };
            let Some(FromGateway::Hello(again)) = outgoing("gw1", report).body else {
                panic!("a Hello");
            };
            assert_eq!(convert::held(&again.held[0]), Ok(held));
        }
        Err(error) => assert!(names_a_field(&error, &["phase", "session_id"]), "{error}"),
    }
}

fn check_id(text: &str) {
    if let Ok(id) = convert::uuid(text) {
        assert!(id.to_string().eq_ignore_ascii_case(text));
        assert_eq!(convert::optional_uuid(text), Ok(Some(id)));
    } else {
        assert_eq!(convert::optional_uuid(text).is_ok(), text.is_empty());
    }
}

fn check_tidy(text: &str) {
    let tidy = convert::tidy(text);
    assert_eq!(convert::tidy(&tidy), tidy);
    assert!(!tidy.chars().any(char::is_control) && tidy.chars().count() <= 256);
}

/// The gateway's counters and the server's are the same numbers.
fn check_counters(given: Option<pb::Counters>) {
    let read = convert::plain_counters(given);
    assert_eq!(convert::counters(read), given.unwrap_or_default());
    let at_gateway = Counters {
        upstream_packets: read.upstream_packets,
        upstream_bytes: read.upstream_bytes,
        downstream_packets: read.downstream_packets,
        downstream_bytes: read.downstream_bytes,
        upstream_policed: read.upstream_policed,
        downstream_policed: read.downstream_policed,
    };
    assert_eq!(convert::plain_counters(Some(counters(at_gateway))), read);
}
