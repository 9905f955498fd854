use super::*;

#[test]
fn every_wrong_field_is_named_and_no_value_is_shown() {
    let error = access_request(pb::RequestAccessRequest {
        credentials: Some(pb::Credentials {
            subscriber_id: "13800000000".to_owned(),
            secret: vec![1; 31],
        }),
        kind: 9,
        sealed_location_id: "x".repeat(2000),
        session_id: "s".to_owned(),
        request_id: String::new(),
        plan: "Home 300".to_owned(),
    })
    .err()
    .unwrap();
    for field in [
        "credentials.subscriber_id: must be a UUID",
        "credentials.secret: must be 32 bytes",
        "kind: must be",
        "sealed_location_id: longer than",
        "session_id: must be a UUID",
        "request_id: must be a UUID",
        "plan: no name of a plan",
    ] {
        assert!(error.message().contains(field), "{field}: {error}");
    }
    assert!(!error.message().contains("138"), "{error}");
    assert!(!error.message().contains("Home"), "{error}");
}

#[test]
fn an_account_says_whether_the_terminal_is_silent() {
    let session = Uuid::from_u128(7);
    let mut report = pb::SessionCounters {
        session_id: session.to_string(),
        generation: 3,
        counters: None,
        silent_since_unix_ms: 0,
        blocked: true,
    };
    for (unix_ms, silent_since_ms) in [(0, None), (5000, Some(5000))] {
        report.silent_since_unix_ms = unix_ms;
        let (said, (counted, generation, counters)) = account(report.clone()).unwrap();
        assert_eq!(said.silent_since_ms, silent_since_ms);
        assert!(said.blocked);
        assert_eq!((said.session, said.generation), (session, 3));
        assert_eq!((counted, generation), (session, 3));
        assert_eq!(counters, Counters::default());
    }
    report.session_id = "no".to_owned();
    assert!(account(report).is_none());
}

#[test]
fn liveness_is_told_by_name() {
    for (plain, name, since_ms) in [
        (Liveness::Unknown, "unknown", 0),
        (Liveness::NotSilent, "not_silent", 0),
        (Liveness::SilentSince(5000), "silent", 5000),
    ] {
        let (told, told_since_ms) = liveness(plain);
        assert_eq!(liveness_name(told.into()), name);
        assert_eq!(told_since_ms, since_ms);
    }
    assert_eq!(liveness_name(99), "unknown");
}

#[test]
fn gateway_text_becomes_one_bounded_line() {
    assert_eq!(tidy(" a\nb\u{1b}[31m "), "a b [31m");
    assert_eq!(tidy(&"é".repeat(1000)).chars().count(), MAX_TEXT_LEN);
}
