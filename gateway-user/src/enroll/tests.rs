//! Against a scripted server, over real TLS on the loopback interface.

use std::os::unix::fs::PermissionsExt as _;

use doorstep_pki::certificate;

use super::*;
use crate::testing::{Pki, ScriptedServer};

fn token(pki: &Pki) -> Token {
    let chain = certificate::chain(pki.authority_pem().as_bytes()).expect("a certificate");
    Token::generate("gw1", "north-net", certificate::digest(&chain[0])).expect("random numbers")
}

#[tokio::test]
async fn a_gateway_enrolls_and_its_files_open_the_door() {
    let pki = Pki::new("north-net", "gw1");
    let server = ScriptedServer::start(&pki).await;
    let url = format!("https://127.0.0.1:{}", server.port);
    let out = tempfile::tempdir().expect("a folder");
    let folder = out.path().join("north-net");
    let token = token(&pki);
    let tried = enroll(&url, &token, &folder, false, Run::Dry)
        .await
        .expect("would");
    assert!(tried.certificate.is_none());
    assert!(!folder.exists(), "a dry run writes nothing");
    let first = enroll(&url, &token, &folder, false, Run::Real)
        .await
        .expect("enrolls");
    let certificate = first.certificate.expect("issued");
    assert_eq!(certificate.names, ["gw1"]);
    let mode = std::fs::metadata(&first.files.key).expect("is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let checked = crate::control::check_server(&first.files, &first.files.address).await;
    assert_eq!(checked, Ok(()));

    for run in [Run::Dry, Run::Real] {
        let again = enroll(&url, &token, &folder, false, run).await.err();
        let again = again.expect("files are there").to_string();
        assert!(again.contains("--replace"), "{again}");
    }
    let second = enroll(&url, &token, &folder, true, Run::Real)
        .await
        .expect("enrolls");
    let other = second.certificate.expect("issued");
    assert_ne!(other.public_key, certificate.public_key);
    server.stop().await;
    let absent = enroll(&url, &token, &folder, true, Run::Real)
        .await
        .err()
        .expect("fails");
    assert!(format!("{absent:#}").contains("cannot reach"), "{absent:#}");
}

#[tokio::test]
async fn a_server_that_the_token_does_not_name_gets_no_token() {
    let pki = Pki::new("north-net", "gw1");
    let misnamed = Pki::new("south-net", "gw1");
    let out = tempfile::tempdir().expect("a folder");
    for (server_pki, token, expected) in [
        // Somebody in between, with an authority of his own.
        (&pki, token(&misnamed), "is not of the authority"),
        // A server of the right authority that is not the operator's.
        (&misnamed, token(&misnamed), "not valid for name"),
    ] {
        let server = ScriptedServer::start(server_pki).await;
        let url = format!("https://127.0.0.1:{}", server.port);
        let error = enroll(&url, &token, out.path(), false, Run::Real)
            .await
            .err();
        let error = format!("{:#}", error.expect("is refused"));
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("token has not been sent"), "{error}");
        let secret = token.to_text();
        assert!(!error.contains(secret.rsplit('.').next().expect("a part")));
        let left = std::fs::read_dir(out.path()).expect("lists").count();
        assert_eq!(left, 0, "no file is left");
        server.stop().await;
    }
    let error = enroll(
        "http://127.0.0.1:1",
        &token(&pki),
        out.path(),
        false,
        Run::Real,
    )
    .await;
    let error = error.err().expect("no TLS").to_string();
    assert!(error.contains("https://host:port"), "{error}");
}
