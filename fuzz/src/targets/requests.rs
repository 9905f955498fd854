//! What terminals and operators ask of a server.

use doorstep_proto::v1 as pb;
use doorstep_server::engine::{AccessKind, Wanted};
use doorstep_server::service::convert;
use prost::Message as _;
use tonic::{Code, Status};

use super::establish::SESSION;
use super::{names_a_field, reread};
use crate::Target;
use crate::mutate::Shape;

pub const ACCESS: Target = Target {
    name: "access_request",
    about: "requests for access: every wrong field by its name and no value, or the same written back",
    check: check_access,
    seeds: access_seeds,
    shape: Shape::Protobuf,
    words: WORDS,
    inputs: 10_000,
};

pub const REGISTER: Target = Target {
    name: "register_request",
    about: "registrations: no number in any error, and both spellings of one are the same person",
    check: check_register,
    seeds: register_seeds,
    shape: Shape::Protobuf,
    words: &[
        "+86",
        "0086",
        "13800000000",
        "11010519491231002X",
        "(",
        "-",
        "X",
    ],
    inputs: 10_000,
};

pub const SERVICE: Target = Target {
    name: "service_request",
    about: "changes of a session's service: a plan or parts of it, never both",
    check: check_service,
    seeds: service_seeds,
    shape: Shape::Protobuf,
    words: WORDS,
    inputs: 10_000,
};

const WORDS: &[&str] = &[
    "0190f3e8-0000-7000-8000-000000000001",
    "-",
    "{",
    "urn:uuid:",
];

fn access_seeds() -> Vec<Vec<u8>> {
    let request = |kind: pb::AccessKind, session_id: String| pb::RequestAccessRequest {
        credentials: Some(pb::Credentials {
            subscriber_id: SESSION.to_string(),
            secret: vec![1; 32],
        }),
        kind: kind.into(),
        sealed_location_id: "d1.AAAA".to_owned(),
        session_id,
        request_id: SESSION.to_string(),
        plan: "home-300".to_owned(),
    };
    [
        request(pb::AccessKind::Connect, String::new()),
        request(pb::AccessKind::Move, SESSION.to_string()),
        request(pb::AccessKind::Additional, String::new()),
    ]
    .map(|request| request.encode_to_vec())
    .to_vec()
}

fn check_access(data: &[u8]) {
    let Some(request) = reread::<pb::RequestAccessRequest>(data) else {
        return;
    };
    let asked = request.clone();
    match convert::access_request(request) {
        Ok(((subscriber, secret), request)) => {
            let kind = match request.kind {
                AccessKind::Connect => pb::AccessKind::Connect,
                AccessKind::Move => pb::AccessKind::Move,
                AccessKind::Additional => pb::AccessKind::Additional,
            };
            let session = request.session.map(|session| session.to_string());
            let again = pb::RequestAccessRequest {
                credentials: Some(pb::Credentials {
                    subscriber_id: subscriber.to_string(),
                    secret: secret.as_bytes().to_vec(),
                }),
                kind: kind.into(),
                sealed_location_id: request.sealed_location_id,
                session_id: session.unwrap_or_default(),
                request_id: request.request.to_string(),
                plan: request.plan.unwrap_or_default(),
            };
            assert_eq!(again, lowercase(asked), "another one once written");
        }
        Err(status) => {
            let values = [
                &asked.sealed_location_id,
                &asked.session_id,
                &asked.request_id,
                &asked.plan,
            ];
            let fields = [
                "credentials",
                "credentials.subscriber_id",
                "credentials.secret",
                "kind",
                "sealed_location_id",
                "session_id",
                "request_id",
                "plan",
            ];
            refused(&status, &fields, &values);
        }
    }
}

/// UUIDs are written so.
fn lowercase(mut request: pb::RequestAccessRequest) -> pb::RequestAccessRequest {
    request.session_id.make_ascii_lowercase();
    request.request_id.make_ascii_lowercase();
    if let Some(credentials) = &mut request.credentials {
        credentials.subscriber_id.make_ascii_lowercase();
    }
    request
}

fn register_seeds() -> Vec<Vec<u8>> {
    [
        ("13800000000", "11010519491231002X"),
        ("+86 (138) 0000-0000", ""),
        ("", "440524188001010014"),
    ]
    .map(|(phone, id_card)| {
        pb::RegisterRequest {
            phone: phone.to_owned(),
            id_card: id_card.to_owned(),
            verification_code: String::new(),
        }
        .encode_to_vec()
    })
    .to_vec()
}

fn check_register(data: &[u8]) {
    let Some(request) = reread::<pb::RegisterRequest>(data) else {
        return;
    };
    for country_code in [None, Some("86")] {
        match convert::numbers(&request.phone, &request.id_card, country_code) {
            Ok((phone, id_card)) => {
                assert_eq!(phone.is_some(), !request.phone.is_empty());
                assert_eq!(id_card.is_some(), !request.id_card.is_empty());
                assert!(phone.is_some() || id_card.is_some());
                // Who writes the number as it is kept is the same person.
                let phone_again = phone.as_ref().map_or("", |it| it.as_str());
                let card_again = id_card.as_ref().map_or("", |it| it.as_str());
                let again =
                    convert::numbers(phone_again, card_again, country_code).expect("a good one");
                assert!(again == (phone, id_card), "another person once written");
            }
            Err(status) => refused(
                &status,
                &["phone", "id_card", "phone, id_card"],
                &[&request.phone, &request.id_card],
            ),
        }
    }
}

fn service_seeds() -> Vec<Vec<u8>> {
    let parts = pb::SetSessionServiceRequest {
        session_id: SESSION.to_string(),
        plan: String::new(),
        upstream_bps: Some(100_000_000),
        downstream_bps: Some(0),
        shape_downstream: Some(true),
        priority: Some(5),
        dry_run: false,
    };
    let plan = pb::SetSessionServiceRequest {
        session_id: SESSION.to_string(),
        plan: "home-300".to_owned(),
        ..pb::SetSessionServiceRequest::default()
    };
    vec![parts.encode_to_vec(), plan.encode_to_vec()]
}

fn check_service(data: &[u8]) {
    let Some(request) = reread::<pb::SetSessionServiceRequest>(data) else {
        return;
    };
    let mut asked = request.clone();
    match convert::wanted_service(request) {
        Ok((session, wanted)) => {
            let session_id = session.to_string();
            let again = match wanted {
                Wanted::Plan(plan) => pb::SetSessionServiceRequest {
                    session_id,
                    plan,
                    dry_run: asked.dry_run,
                    ..pb::SetSessionServiceRequest::default()
                },
                Wanted::Parts {
                    upstream_bps,
                    downstream_bps,
                    shape_downstream,
                    priority,
                } => pb::SetSessionServiceRequest {
                    session_id,
                    plan: String::new(),
                    upstream_bps,
                    downstream_bps,
                    shape_downstream,
                    priority: priority.map(u32::from),
                    dry_run: asked.dry_run,
                },
            };
            asked.session_id.make_ascii_lowercase();
            assert_eq!(again, asked, "another one once written");
        }
        Err(status) => refused(&status, &["session_id", "service", "plan"], &[&asked.plan]),
    }
}

/// A refusal names fields, and never what somebody wrote there.
fn refused(status: &Status, fields: &[&str], values: &[&String]) {
    assert_eq!(status.code(), Code::InvalidArgument);
    let message = status.message();
    let violations = message.strip_prefix("invalid request: ").expect("says so");
    for violation in violations.split("; ") {
        assert!(names_a_field(violation, fields), "{violation}");
    }
    for value in values {
        // Shorter ones stand in our own words by chance.
        assert!(
            value.len() < 40 || !message.contains(value.as_str()),
            "{message}"
        );
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        assert!(digits.len() < 5 || !message.contains(&digits), "{message}");
    }
}
