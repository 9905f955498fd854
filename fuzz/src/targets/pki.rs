//! Enrollment tokens, certificates, requests for them.

use std::sync::LazyLock;

use doorstep_pki::certificate::{self, Certificate};
use doorstep_pki::identity::{self, NewKey};
use doorstep_pki::token::{Token, is_name};
use doorstep_server::keys::pki::{Authority, Request, RequestError};

use crate::Target;
use crate::mutate::Shape;

pub const TOKEN: Target = Target {
    name: "token",
    about: "enrollment tokens: one text for each, and the secret nowhere else",
    check: check_token,
    seeds: token_seeds,
    shape: Shape::Text,
    words: &["dt1", "dt2", ".", "-", "gw1", "="],
    inputs: 20_000,
};

pub const CERTIFICATE: Target = Target {
    name: "certificate",
    about: "PEM files and certificates: what is read is what stands there, keys come back",
    check: check_certificate,
    seeds: certificate_seeds,
    shape: Shape::Text,
    words: &[
        "-----BEGIN CERTIFICATE-----",
        "-----END CERTIFICATE-----",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "A",
    ],
    inputs: 1_500,
};

pub const REQUEST: Target = Target {
    name: "certificate_request",
    about: "requests for certificates: only one that its own key has signed is certified",
    check: check_request,
    seeds: request_seeds,
    shape: Shape::Bytes,
    words: &["gw1", "gw2"],
    inputs: 600,
};

/// Also what a mutated token must not have in common with it.
const SECRET: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg";

fn token_seeds() -> Vec<Vec<u8>> {
    let authority = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    let longest = "a".repeat(63);
    vec![
        format!("dt1.gw1.north-net.{authority}.{SECRET}").into(),
        format!(" dt1.{longest}.{longest}.{authority}.{SECRET}\n").into(),
    ]
}

fn check_token(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let Ok(token) = Token::parse(text) else {
        return;
    };
    assert_eq!(*token.to_text(), text.trim(), "two texts of one token");
    assert!(is_name(&token.gateway) && is_name(&token.operator));
    let secret = text.trim().rsplit('.').next().expect("the last part");
    for shown in [format!("{token:?}"), token.hash()] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(token.hash().len() == 64);
}

/// Made once and kept, so that the inputs are the same each time.
const FILE: &str = include_str!("../../corpus/certificate/gw1.pem");

fn certificate_seeds() -> Vec<Vec<u8>> {
    let chain = certificate::chain(FILE.as_bytes()).expect("a certificate");
    chain.into_iter().map(|der| der.to_vec()).collect()
}

fn check_certificate(data: &[u8]) {
    if let Ok(chain) = certificate::chain(data) {
        assert!(!chain.is_empty());
        let file: String = chain.iter().map(|der| certificate::to_pem(der)).collect();
        assert_eq!(certificate::chain(file.as_bytes()).as_ref(), Ok(&chain));
        let first = Certificate::from_der(&chain[0]);
        assert_eq!(Certificate::from_pem(data), first);
        if let Ok(text) = std::str::from_utf8(data) {
            assert!(
                chain
                    .iter()
                    .all(|der| identity::holds(text, &certificate::digest(der)))
            );
        }
    } else {
        assert!(Certificate::from_pem(data).is_err());
    }
    let pem = certificate::to_pem(data);
    let again = certificate::chain(pem.as_bytes()).expect("a certificate");
    assert_eq!(*again[0], *data);
    if let Ok(read) = Certificate::from_der(data) {
        assert_eq!(Certificate::from_der(data).as_ref(), Ok(&read));
        assert!(!read.public_key.is_empty());
        assert!(read.issued_ms >= 0, "{}", read.issued_ms);
    }
    let text = &*String::from_utf8_lossy(data);
    if let Ok(key) = NewKey::from_pem(text) {
        let pem = key.to_pem();
        let again = NewKey::from_pem(&pem).expect("a key");
        assert_eq!(*again.to_pem(), *pem);
    }
}

static AUTHORITY: LazyLock<Authority> =
    LazyLock::new(|| Authority::make("north-net").expect("an authority"));

/// Signatures have random numbers in them, so that new ones would be others each time.
const REQUEST_DER: &[u8] = include_bytes!("../../corpus/certificate_request/gw1.der");

/// What the key has signed of it (RFC 2986, section 4.2): names, key, attributes.
const SIGNED: std::ops::Range<usize> = 3..151;

fn request_seeds() -> Vec<Vec<u8>> {
    Vec::new()
}

fn check_request(data: &[u8]) {
    match Request::check(data, "gw1") {
        Ok(request) => {
            let signed = &REQUEST_DER[SIGNED];
            let is_there = data.windows(signed.len()).any(|part| part == signed);
            assert!(is_there, "a changed request is accepted");
            let life = std::time::Duration::from_secs(3600);
            let pem = AUTHORITY.issue_gateway(&request, life).expect("issues");
            let issued = Certificate::from_pem(pem.as_bytes()).expect("a certificate");
            assert_eq!(issued.names, ["gw1"]);
        }
        Err(RequestError::Name(name)) => assert_eq!(name, "gw1"),
        Err(RequestError::Unreadable) => assert!(data != REQUEST_DER),
    }
    assert!(Request::check(data, "gw2").is_err(), "for another's name");
}
