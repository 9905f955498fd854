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
    ] {
        assert!(error.message().contains(field), "{field}: {error}");
    }
    assert!(!error.message().contains("138"), "{error}");
}

#[test]
fn gateway_text_becomes_one_bounded_line() {
    assert_eq!(tidy(" a\nb\u{1b}[31m "), "a b [31m");
    assert_eq!(tidy(&"é".repeat(1000)).chars().count(), MAX_TEXT_LEN);
}
