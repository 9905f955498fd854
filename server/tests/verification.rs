//! Registrations that the operator's own program or web server has a say in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorstep_proto::v1 as pb;
use doorstep_server::config::Config;
use doorstep_server::keys::pki::Authority;
use doorstep_server::{keys, serve};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::common::hook::Hook;
use crate::common::{self, CONFIG, PHONE, Server};

fn config(verification: &str) -> String {
    let section = format!("[register.verification]\n{verification}\n[[gateway]]\nid = \"gw1\"");
    CONFIG.replace("[[gateway]]\nid = \"gw1\"", &section)
}

/// A program of the operator's that finds its file beside itself.
fn script(dir: &Path, body: &str) -> String {
    let path = dir.join("verify");
    std::fs::write(&path, format!("#!/bin/sh\ncd \"${{0%/*}}\"\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    format!("command = [{path:?}, \"a\", \"b\"]")
}

async fn register(server: &Server, phone: &str, code: &str) -> Result<(), Status> {
    let request = pb::RegisterRequest {
        phone: phone.to_owned(),
        id_card: String::new(),
        verification_code: code.to_owned(),
    };
    let answer = server.access().await.register(request).await?.into_inner();
    assert_eq!(answer.credentials.unwrap().secret.len(), 32);
    Ok(())
}

fn asks_for_a_code(status: &Status) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("code has been sent"), "{status}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "VERIFICATION_CODE_NEEDED");
}

#[tokio::test]
async fn a_program_sends_a_code_and_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let verification = script(
        dir.path(),
        r#"question=$(cat)
        echo "$question" >> asked
        echo "$# $*" >> arguments
        env >> environment
        case "$question" in
            *'"code":"otter-11"'*) exit 0 ;;
            *'"code":'*) echo "the code is wrong"; echo "more"; exit 1 ;;
            *) exit 10 ;;
        esac"#,
    );
    let server = Server::start_with(&config(&verification)).await;
    let phone = format!("+86{PHONE}");
    asks_for_a_code(&register(&server, &phone, "").await.unwrap_err());
    let status = register(&server, &phone, "otter-12").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(
        status.message().ends_with(": the code is wrong"),
        "{status}"
    );
    register(&server, &phone, " otter-11 ").await.unwrap();
    // Known already, and still only its owner learns that.
    asks_for_a_code(&register(&server, &phone, "").await.unwrap_err());
    let status = register(&server, &phone, "otter-11").await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");

    let told = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let first = told("asked").lines().next().unwrap().to_owned();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    let expected = serde_json::json!({
        "operator": "north-net", "phone": phone, "source": "127.0.0.1"
    });
    assert_eq!(first, expected);
    assert_eq!(told("arguments").lines().next(), Some("2 a b"));
    for public in [told("arguments"), told("environment")] {
        assert!(
            !public.contains(PHONE) && !public.contains("otter"),
            "{public}"
        );
    }
}

#[tokio::test]
async fn a_program_that_says_nothing_of_use_is_tried_again_later() {
    for (body, timeout_ms) in [
        ("exit 3", 5000),
        ("kill -9 $$", 5000),
        ("exec sleep 60", 100),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let verification = script(dir.path(), body);
        let verification = format!("{verification}\ntimeout_ms = {timeout_ms}");
        let server = Server::start_with(&config(&verification)).await;
        let status = register(&server, "+8613800000001", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{body}: {status}");
    }
    let nowhere = config("command = [\"/nonexistent/verify\"]");
    let server = Server::start_with(&nowhere).await;
    let status = register(&server, "+8613800000001", "").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_web_server_has_the_say() {
    const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const SENT: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    const NO: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 11\r\n\r\nnot\x07 yours\n!";
    const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
    const BROKEN: &str = "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n";
    const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
    let hook = Hook::start(Duration::ZERO, |question| {
        match question["code"].as_str().unwrap_or_default() {
            "" => SENT,
            "good" => OK,
            "busy" => BUSY,
            "broken" => BROKEN,
            "moved" => MOVED,
            "rubbish" => "rubbish",
            _ => NO,
        }
    })
    .await;
    let address = hook.address;
    let server =
        Server::start_with(&config(&format!("url = \"http://{address}/verify?a=b\""))).await;
    let phone = "+8613800000002";
    asks_for_a_code(&register(&server, phone, "").await.unwrap_err());
    for (code, expected) in [
        ("bad", Code::PermissionDenied),
        ("busy", Code::Unavailable),
        ("broken", Code::Unavailable),
        ("moved", Code::Unavailable),
        ("rubbish", Code::Unavailable),
    ] {
        let status = register(&server, phone, code).await.unwrap_err();
        assert_eq!(status.code(), expected, "{code}: {status}");
    }
    register(&server, phone, "good").await.unwrap();
    let (head, question) = hook.asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /verify?a=b HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    assert!(head.contains(&format!("host: {address}")), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(question["phone"], phone);

    let asked = hook.asked.lock().unwrap().len();
    for wrong in ["x".repeat(65), "a b".to_owned()] {
        let status = register(&server, phone, &wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    assert_eq!(hook.asked.lock().unwrap().len(), asked, "nothing asked");
}

/// A web server's TLS for names, and its authority's certificate.
fn private_tls(names: &[&str]) -> (ServerConfig, String) {
    let authority = Authority::make("billing").unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let life = Duration::from_secs(3600);
    let file = authority.issue_server("billing", &names, life).unwrap();
    let chain = doorstep_pki::certificate::chain(file.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(file.as_bytes()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (tls, authority.cert_pem)
}

#[tokio::test]
async fn a_web_server_of_a_private_authority_is_asked_over_https() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const SENT: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    let (tls, ca) = private_tls(&["127.0.0.1"]);
    let hook = Hook::start_tls(tls, |question| match question["code"].as_str() {
        Some("otter-11") => OK,
        _ => SENT,
    })
    .await;
    let (other_tls, other_ca) = private_tls(&["billing.example"]);
    let other_name = Hook::start_tls(other_tls, |_| OK).await;

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let (ca, other_ca) = (file("ca.pem", &ca), file("other.pem", &other_ca));
    let section =
        |hook: &Hook, ca: &Path| format!("url = \"https://{}/verify\"\nca = {ca:?}", hook.address);

    let server = Server::start_with(&config(&section(&hook, &ca))).await;
    let phone = "+8613800000005";
    asks_for_a_code(&register(&server, phone, "").await.unwrap_err());
    register(&server, phone, "otter-11").await.unwrap();
    assert_eq!(hook.asked.lock().unwrap()[1].1["phone"], phone);

    // Of another authority, and of the right one but for another name: neither learns a number.
    for (hook, ca) in [(&hook, &other_ca), (&other_name, &other_ca)] {
        let before = hook.asked.lock().unwrap().len();
        let server = Server::start_with(&config(&section(hook, ca))).await;
        let status = register(&server, "+8613800000006", "").await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert_eq!(hook.asked.lock().unwrap().len(), before);
    }
    // A file without a certificate is found at the start.
    let empty = file("empty.pem", "nothing\n");
    let dir = tempfile::tempdir().unwrap();
    let parsed = common::configure(&config(&section(&hook, &empty)), dir.path());
    keys::init(&parsed).unwrap();
    let error = serve::start(parsed, CancellationToken::new()).await.err();
    let error = format!("{:#}", error.expect("no authority"));
    assert!(error.contains("empty.pem: no CA certificate"), "{error}");
}

#[tokio::test]
async fn few_are_asked_about_at_once() {
    let hook = Hook::start(
        Duration::from_millis(500),
        |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let text = format!("url = \"http://{}\"\nconcurrency = 1", hook.address);
    let server = Server::start_with(&config(&text)).await;
    let (one, other) = tokio::join!(
        register(&server, "+8613800000003", ""),
        register(&server, "+8613800000004", "")
    );
    let refused = match (one, other) {
        (Ok(()), Err(status)) | (Err(status), Ok(())) => status,
        both => panic!("one is registered and one refused: {both:?}"),
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let hint = refused.get_details_retry_info().unwrap().retry_delay;
    assert!(hint.is_some_and(|delay| delay >= Duration::from_millis(500)));
}

#[test]
fn what_is_wrong_with_a_hook_is_said_with_its_place() {
    for (text, problem) in [
        ("", "give either command or url"),
        ("command = [\"/a\"]\nurl = \"http://b\"", "give either"),
        ("command = []", "command: must be a list"),
        ("command = [\"verify\"]", "absolute path"),
        ("url = \"ftp://a/b\"", "url: must be like"),
        ("url = \"https://user:password@a/b\"", "url: must be like"),
        (
            "url = \"http://a\"\nca = \"ca.pem\"",
            "ca: makes sense only",
        ),
        (
            "command = [\"/a\"]\ntimeout_ms = 10000",
            "timeout_ms: must be",
        ),
        (
            "command = [\"/a\"]\nconcurrency = 0",
            "concurrency: must be",
        ),
    ] {
        let error = Config::parse(&config(text), Path::new("server.toml")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(problem), "{text}: {error}");
        assert!(
            error.contains("server.toml:8:1: register.verification"),
            "{text}: {error}"
        );
    }
}
