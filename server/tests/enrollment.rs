//! How gateways get their certificates, and lose them, over real TLS.

use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_pki::identity::NewKey;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::enrollment_client::EnrollmentClient;
use doorstep_proto::v1::pki_client::PkiClient;
use doorstep_server::config::Config;
use doorstep_server::config::Rate;
use doorstep_server::engine::now_ms;
use doorstep_server::enroll::{Taken, TokenRow};
use doorstep_server::keys::{self, pki, rotation};
use doorstep_server::serve;
use doorstep_server::store::Database;
use pb::gateway_message::Body as FromGateway;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, Endpoint, Identity};
use tonic::{Code, Status};

use crate::common::{self, CONFIG, Gateway, Server};

const PATIENCE: Duration = Duration::from_secs(60);

async fn pki_client(server: &Server) -> PkiClient<Channel> {
    let socket = format!("unix://{}", server.config.admin_socket.display());
    let channel = Endpoint::from_shared(socket).unwrap().connect().await;
    PkiClient::new(channel.unwrap())
}

async fn token(server: &Server, gateway: &str) -> String {
    let request = pb::CreateTokenRequest {
        gateway_id: gateway.to_owned(),
        lifetime_s: 60,
        dry_run: false,
    };
    let created = pki_client(server).await.create_token(request).await;
    created.unwrap().into_inner().token
}

/// Asks for a certificate with a token.
async fn enroll(
    server: &Server,
    token: &str,
    request: Vec<u8>,
) -> Result<pb::IssuedCertificate, Status> {
    let channel = server.dial(server.tls()).await.unwrap();
    let request = pb::EnrollRequest {
        token: token.to_owned(),
        request,
    };
    let answer = EnrollmentClient::new(channel).enroll(request).await;
    answer.map(tonic::Response::into_inner)
}

/// A gateway that has enrolled.
async fn enrolled(server: &Server, name: &str) -> Identity {
    let key = NewKey::generate().unwrap();
    let token = token(server, name).await;
    let issued = enroll(server, &token, key.request(name).unwrap()).await;
    let issued = issued.unwrap();
    key.check(&issued.certificate_pem, name).unwrap();
    Identity::from_pem(issued.certificate_pem, key.to_pem().as_bytes())
}

fn hello(name: &str) -> pb::Hello {
    pb::Hello {
        protocol_version: 1,
        gateway_id: name.to_owned(),
        software_version: "test".to_owned(),
        held: vec![],
    }
}

/// A stream past its Welcome.
async fn stream(server: &Server, name: &str, identity: Identity) -> Result<Gateway, String> {
    let client = server.control(Some(identity)).await;
    let client = client.map_err(|error| format!("{error:?}"))?;
    let opened = Gateway::hello(client, hello(name)).await;
    let mut gateway = opened.map_err(|status| format!("{status:?}"))?;
    match gateway.next().await {
        Ok(_) => Ok(gateway),
        Err(status) => Err(format!("{status:?}")),
    }
}

async fn renew(server: &Server, identity: Identity, name: &str) -> Result<Identity, Status> {
    let channel = server.dial(server.tls().identity(identity)).await;
    let key = NewKey::generate().unwrap();
    let request = key.request(name).unwrap();
    let mut client = EnrollmentClient::new(channel.unwrap());
    let issued = client
        .renew(pb::RenewRequest { request })
        .await?
        .into_inner();
    key.check(&issued.certificate_pem, name).unwrap();
    let key = key.to_pem();
    Ok(Identity::from_pem(issued.certificate_pem, key.as_bytes()))
}

/// Still carries messages: a report is taken, and nothing ends it.
async fn alive(gateway: &mut Gateway) {
    gateway
        .send(FromGateway::Accounting(pb::Accounting::default()))
        .await;
    let next = tokio::time::timeout(Duration::from_millis(100), gateway.inbound.message());
    if let Ok(end) = next.await {
        assert!(matches!(end, Ok(Some(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_token_is_good_once_and_for_one_gateway() {
    let mut server = Server::start().await;
    let key = NewKey::generate().unwrap();
    let request = |name: &str| key.request(name).unwrap();
    let text = token(&server, "gw1").await;

    // What is refused before the token is used up leaves it as it is.
    let status = enroll(&server, &text, request("gw2")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("must be for gw1"), "{status}");
    let status = enroll(&server, &text, vec![1; 100]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let renamed = text.replacen("gw1", "gw2", 1);
    let status = enroll(&server, &renamed, request("gw2")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("not known"), "{status}");
    let status = enroll(&server, "dt1.x", request("gw1")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    // Of several at once, one succeeds.
    let attempts = (0..8).map(|_| enroll(&server, &text, request("gw1")));
    let answers = futures::future::join_all(attempts).await;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (1, 7));
    // And none after a restart.
    server.restart().await;
    let status = enroll(&server, &text, request("gw1")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("used already"), "{status}");

    let issued = good.into_iter().next().unwrap().unwrap();
    let identity = Identity::from_pem(issued.certificate_pem, key.to_pem().as_bytes());
    assert!(stream(&server, "gw2", identity.clone()).await.is_err());
    stream(&server, "gw1", identity).await.unwrap();

    // No trace of the secret in any file of the server.
    let secret = text.rsplit('.').next().unwrap();
    for file in server.data_files() {
        let content = std::fs::read(&file).unwrap();
        let found = content
            .windows(secret.len())
            .any(|w| w == secret.as_bytes());
        assert!(!found, "{}", file.display());
    }
    let mut client = pki_client(&server).await;
    let listed = client.list_tokens(pb::ListTokensRequest {}).await;
    let listed = listed.unwrap().into_inner().tokens;
    assert!(
        listed.len() == 1 && listed[0].used_unix_ms > 0,
        "{listed:?}"
    );
}

#[tokio::test]
async fn tokens_that_are_refused() {
    let server = Server::start().await;
    let create = async |gateway_id: &str, lifetime_s| {
        let gateway_id = gateway_id.to_owned();
        let request = pb::CreateTokenRequest {
            gateway_id,
            lifetime_s,
            dry_run: false,
        };
        pki_client(&server).await.create_token(request).await
    };
    let status = create("gw9", 60).await.unwrap_err();
    assert!(status.message().contains("add a [[gateway]]"), "{status}");
    assert!(create("gw1", 1).await.is_err(), "too short");
    assert!(create("gw1", u64::MAX).await.is_err(), "too long");

    // Expired: as the table says.
    let key = NewKey::generate().unwrap();
    let engine = &server.running.as_ref().unwrap().engine;
    let made =
        |operator: &str| doorstep_pki::token::Token::generate("gw1", operator, [0; 32]).unwrap();
    let old = made("north-net");
    let row = doorstep_server::enroll::TokenRow {
        gateway: "gw1".to_owned(),
        created_ms: doorstep_server::engine::now_ms() - 120_000,
        expires_ms: doorstep_server::engine::now_ms() - 60_000,
        used_ms: None,
    };
    engine
        .add_token(&old.hash(), &row, Run::Real)
        .await
        .unwrap();
    for (token, expected) in [(old, "expired"), (made("south-net"), "another operator's")] {
        let request = key.request("gw1").unwrap();
        let status = enroll(&server, &token.to_text(), request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains(expected), "{status}");
        assert!(status.message().contains("pki token gw1"), "{status}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_good_while_the_old_stream_goes_on() {
    let server = Server::start().await;
    let first = enrolled(&server, "gw1").await;
    let mut old = stream(&server, "gw1", first.clone()).await.unwrap();
    let status = renew(&server, first.clone(), "gw2").await.unwrap_err();
    assert!(status.message().contains("must be for gw1"), "{status}");
    let second = renew(&server, first, "gw1").await.unwrap();
    alive(&mut old).await;
    stream(&server, "gw1", second).await.unwrap();
    // Without any certificate nobody renews.
    let key = NewKey::generate().unwrap();
    let channel = server.dial(server.tls()).await.unwrap();
    let request = key.request("gw1").unwrap();
    let mut client = EnrollmentClient::new(channel);
    let status = client
        .renew(pb::RenewRequest { request })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

/// A certificate of this server's authority, with a life of the test's choosing.
fn signed(config: &Config, life: Duration) -> Identity {
    let authority = keys::authority(config).unwrap().unwrap();
    let key = NewKey::generate().unwrap();
    let request = pki::Request::check(&key.request("gw1").unwrap(), "gw1").unwrap();
    let certificate = authority.issue_gateway(&request, life).unwrap();
    Identity::from_pem(certificate, key.to_pem().as_bytes())
}

#[tokio::test]
async fn an_expired_certificate_and_the_servers_own_are_refused() {
    let server = Server::start().await;
    let short = signed(&server.config, Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(stream(&server, "gw1", short).await.is_err(), "expired");
    // The server's certificate is of the right authority, but not for clients.
    let pem = std::fs::read(server.config.keys_dir().join("server.pem")).unwrap();
    let own = Identity::from_pem(&pem, &pem);
    assert!(stream(&server, "north-net", own).await.is_err());
    stream(
        &server,
        "gw1",
        signed(&server.config, Duration::from_secs(60)),
    )
    .await
    .unwrap();
}

/// The certificate that the server shows, by its fingerprint in the file.
fn shown(server: &Server) -> String {
    keys::server::current(&server.config).unwrap().1
}

/// Until a client that trusts only this can dial.
async fn dials(server: &Server, trusted: &str) {
    let tls = || {
        tonic::transport::ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(trusted))
            .domain_name("north-net")
    };
    let dialled = async {
        while server.dial(tls()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dialled)
        .await
        .expect("in time");
}

#[tokio::test]
async fn the_servers_certificate_is_renewed_under_a_running_stream() {
    let mut server = Server::start().await;
    server.stop().await;
    // One of this life, and renewed every second or two.
    server.config.certificates.server = Duration::from_secs(3);
    let authority = keys::authority(&server.config).unwrap().unwrap();
    keys::server::issue(&server.config, &authority).unwrap();
    server.resume().await;
    let identity = server.identity("gw1");
    // Whoever is slow finds one that is over, and the next one when it dials again.
    let opened = async {
        loop {
            if let Ok(gateway) = stream(&server, "gw1", identity.clone()).await {
                break gateway;
            }
        }
    };
    let mut gateway = tokio::time::timeout(PATIENCE, opened)
        .await
        .expect("a stream in time");
    let before = shown(&server);
    let renewed = async {
        while shown(&server) == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed)
        .await
        .expect("renewed in time");
    // Past the end of the first one: what is dialled now sees another.
    tokio::time::sleep(Duration::from_secs(3)).await;
    dials(&server, &keys::ca_pem(&server.config).unwrap()).await;
    alive(&mut gateway).await;
}

#[tokio::test]
async fn other_names_or_addresses_get_another_certificate() {
    let mut server = Server::start().await;
    let mut before = shown(&server);
    for (names, renews) in [
        // One address in another's place, and nothing else.
        (&["north-net", "127.0.0.2"][..], true),
        // The same in another order and form.
        (&["127.0.0.2", "north-net", "127.0.0.2"][..], false),
        (&["north-net", "127.0.0.2", "2001:db8::1"][..], true),
        (&["north-net", "127.0.0.2", "2001:DB8:0::1"][..], false),
        (&["north-net"][..], true),
        (&["north-net", "access.example"][..], true),
    ] {
        server.stop().await;
        server.config.server_names = names.iter().map(|name| (*name).to_owned()).collect();
        server.resume().await;
        let after = shown(&server);
        assert_eq!(after != before, renews, "{names:?}");
        before = after;
    }
    // A client that knows the server by its address alone.
    let ca = Certificate::from_pem(keys::ca_pem(&server.config).unwrap());
    let by_address = tonic::transport::ClientTlsConfig::new().ca_certificate(ca);
    server.dial(by_address.clone()).await.unwrap_err();
    server.stop().await;
    server.config.server_names = vec!["north-net".to_owned(), "127.0.0.1".to_owned()];
    server.resume().await;
    server.dial(by_address).await.unwrap();
}

/// What fails of a change takes its line in the audit log with it, and the other way round.
#[tokio::test]
async fn no_token_and_no_revocation_without_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = common::configure(CONFIG, dir.path());
    let path = dir.path().join("tokens.sqlite");
    config.database = Database::Sqlite(path.clone());
    keys::init(&config).unwrap();
    let running = serve::start(config, CancellationToken::new())
        .await
        .unwrap();
    let engine = &running.engine;
    let database = rusqlite::Connection::open(path).unwrap();
    let fails = |table: &str, how: &str| {
        database
            .execute_batch(&format!(
                "CREATE TRIGGER refuses BEFORE {how} ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
            ))
            .unwrap();
    };
    let works = || database.execute_batch("DROP TRIGGER refuses").unwrap();
    let lines = async || {
        let count = async |action| engine.store.audit_count(action).await.unwrap();
        [
            count("create-token").await,
            count("enroll-gateway").await,
            count("revoke-gateway").await,
            count("refuse-token").await,
        ]
    };
    let row = |gateway: &str| TokenRow {
        gateway: gateway.to_owned(),
        created_ms: now_ms(),
        expires_ms: now_ms() + 600_000,
        used_ms: None,
    };
    let tokens = async || engine.store.tokens().await.unwrap();

    // (table, statement that fails): the change, then the log.
    for (table, how) in [("enrollments", "INSERT"), ("audit", "INSERT")] {
        fails(table, how);
        engine
            .add_token("a", &row("gw1"), Run::Real)
            .await
            .unwrap_err();
        works();
        assert!(tokens().await.is_empty(), "{table}");
        assert_eq!(lines().await, [0; 4], "{table}");
    }
    engine.add_token("a", &row("gw1"), Run::Real).await.unwrap();
    assert_eq!(lines().await, [1, 0, 0, 0]);

    for (table, how) in [("enrollments", "UPDATE"), ("audit", "INSERT")] {
        fails(table, how);
        engine.take_token("a", "gw1").await.unwrap_err();
        works();
        assert_eq!(tokens().await[0].used_ms, None, "{table}");
        assert_eq!(lines().await, [1, 0, 0, 0], "{table}");
    }
    assert_eq!(engine.take_token("a", "gw2").await.unwrap(), Taken::Expired);
    // Of many at once one takes it.
    let all = futures::future::join_all((0..8).map(|_| engine.take_token("a", "gw1"))).await;
    let now = all
        .iter()
        .filter(|taken| *taken.as_ref().unwrap() == Taken::Now);
    assert_eq!(now.count(), 1, "{all:?}");
    assert_eq!(lines().await, [1, 1, 0, 8]);
    assert_eq!(engine.take_token("b", "gw1").await.unwrap(), Taken::Unknown);

    for (table, how) in [("revocations", "INSERT"), ("audit", "INSERT")] {
        fails(table, how);
        engine.revoke_gateway("gw1", Run::Real).await.unwrap_err();
        works();
        let revoked = engine.store.revocations().await.unwrap();
        assert!(revoked.is_empty(), "{table}");
        assert_eq!(lines().await, [1, 1, 0, 8], "{table}");
    }
    let until_ms = engine.revoke_gateway("gw1", Run::Real).await.unwrap();
    let revoked = engine.store.revocations().await.unwrap();
    assert_eq!(revoked, [("gw1".to_owned(), until_ms)]);
    assert_eq!(lines().await, [1, 1, 1, 8]);
}

#[tokio::test]
async fn another_authority_takes_over_and_no_stream_breaks() {
    use rotation::Step::{Activate, Finish, Prepare};
    let mut server = Server::start().await;
    server.stop().await;
    // So that the server looks at its files every 0.6 seconds.
    server.config.certificates.gateway = Duration::from_secs(60);
    // Dialled again and again below, until the certificate is refused.
    server.config.limits.gateway_stream_rate = Rate::new(0, 1);
    server.resume().await;
    let config = server.config.clone();
    let old = keys::ca_pem(&config).unwrap();
    let first = enrolled(&server, "gw1").await;
    let mut gateway = stream(&server, "gw1", first.clone()).await.unwrap();
    assert!(
        rotation::rotate(&config, Activate, true, Run::Real).is_err(),
        "not prepared"
    );

    rotation::rotate(&config, Prepare, false, Run::Real).unwrap();
    rotation::rotate(&config, Prepare, false, Run::Real).unwrap();
    let both = keys::ca_pem(&config).unwrap();
    assert_eq!(pki::pem_blocks(&both).count(), 2);
    let error = rotation::rotate(&config, Activate, false, Run::Real).unwrap_err();
    assert!(error.to_string().contains("--force"), "{error}");
    assert!(
        rotation::rotate(&config, Finish, true, Run::Real).is_err(),
        "does not sign"
    );
    rotation::rotate(&config, Activate, true, Run::Real).unwrap();
    let new = keys::authority(&config).unwrap().unwrap().cert_pem;
    assert_ne!(new, old);
    dials(&server, &new).await;
    // The old one's certificate still opens streams, and gets one of the new one.
    let second = renew(&server, first.clone(), "gw1").await.unwrap();
    alive(&mut gateway).await;
    stream(&server, "gw1", first.clone()).await.unwrap();

    rotation::rotate(&config, Finish, true, Run::Real).unwrap();
    assert_eq!(keys::ca_pem(&config).unwrap(), new);
    let refused = async {
        while stream(&server, "gw1", first.clone()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("refused in time");
    stream(&server, "gw1", second).await.unwrap();
}

#[tokio::test]
async fn a_revoked_gateway_is_out_until_it_enrolls_anew() {
    let server = Server::start().await;
    let first = enrolled(&server, "gw1").await;
    let other = enrolled(&server, "gw2").await;
    let mut old = stream(&server, "gw1", first.clone()).await.unwrap();
    let mut untouched = stream(&server, "gw2", other).await.unwrap();
    let gateway_id = "gw1".to_owned();
    let revoked = pki_client(&server)
        .await
        .revoke_gateway(pb::RevokeGatewayRequest {
            gateway_id,
            dry_run: false,
        })
        .await;
    assert!(revoked.unwrap().into_inner().issued_until_unix_ms > 0);
    let status = loop {
        if let Err(status) = old.next().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("revoked"), "{status}");
    let error = stream(&server, "gw1", first.clone()).await.err().unwrap();
    assert!(error.contains("revoked"), "{error}");
    let status = renew(&server, first, "gw1").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    alive(&mut untouched).await;
    let anew = enrolled(&server, "gw1").await;
    stream(&server, "gw1", anew).await.unwrap();
}

#[tokio::test]
async fn a_server_without_the_authoritys_key_serves_but_does_not_issue() {
    let mut server = Server::start_with(CONFIG).await;
    let identity = server.identity("gw1");
    server.stop().await;
    let key = server.config.keys_dir().join("ca.key");
    std::fs::rename(&key, server.dir.path().join("ca.key")).unwrap();
    server.resume().await;
    stream(&server, "gw1", identity.clone()).await.unwrap();
    let status = renew(&server, identity, "gw1").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(!status.message().contains('/'), "no path: {status}");
}

#[tokio::test]
async fn two_servers_on_one_database_take_a_token_once_and_both_know_who_is_revoked() {
    let one = Server::start_on_postgres().await;
    let two = one.replica().await;
    let key = NewKey::generate().unwrap();
    let request = || key.request("gw1").unwrap();
    let text = token(&one, "gw1").await;
    let attempts = (0..6).map(|number| {
        let server = if number % 2 == 0 { &one } else { &two };
        enroll(server, &text, request())
    });
    let answers = futures::future::join_all(attempts).await;
    let good: Vec<_> = answers.into_iter().filter_map(Result::ok).collect();
    assert_eq!(good.len(), 1);

    let identity = Identity::from_pem(&good[0].certificate_pem, key.to_pem().as_bytes());
    let mut gateway = stream(&two, "gw1", identity.clone()).await.unwrap();
    let gateway_id = "gw1".to_owned();
    let revoked = pki_client(&one)
        .await
        .revoke_gateway(pb::RevokeGatewayRequest {
            gateway_id,
            dry_run: false,
        })
        .await;
    revoked.unwrap();
    // A renewal looks at the database, whatever the server has heard.
    let status = renew(&two, identity, "gw1").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let ended = async {
        loop {
            if let Err(status) = gateway.next().await {
                break status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("ends in time");
    assert!(status.message().contains("revoked"), "{status}");
}
