//! Phone and ID numbers, secrets and session keys never lie in the clear: not in the database, not
//! in the log, not in an error.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{HOME_1, ID_CARD, PHONE, Server, Subscriber, planted};
use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use doorstep_server::keys;
use doorstep_server::vault::KeyId;
use tracing_subscriber::fmt::MakeWriter;

const OTHER_PHONE: &str = "13900001234";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;
    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// How a byte string may show up in text.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = format!("{bytes:?}");
    vec![
        bytes.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        list.trim_matches(['[', ']']).as_bytes().to_vec(),
    ]
}

// One test in this file: the log is captured for the whole process.
#[tokio::test]
async fn planted_numbers_and_keys_are_nowhere() {
    let log = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .init();
    let mut server = Server::start().await;
    let mut client = server.access().await;
    let registration = pb::RegisterRequest {
        phone: PHONE.to_owned(),
        id_card: ID_CARD.to_owned(),
        verification_code: String::new(),
    };
    let credentials = client
        .register(registration.clone())
        .await
        .unwrap()
        .into_inner()
        .credentials
        .unwrap();
    let again = client.register(registration).await.unwrap_err();
    let mut home = Subscriber {
        client,
        credentials,
    };
    let mut gw1 = server.synced_gateway("gw1").await;
    let answer = home
        .ask(&server, pb::AccessKind::Connect, HOME_1)
        .await
        .unwrap();
    gw1.establish().await;
    server
        .reaches(&answer.session_id, pb::SessionState::Established)
        .await;
    server
        .operator()
        .await
        .list_subscribers(pb::ListSubscribersRequest::default())
        .await
        .unwrap();

    // Who asks by a number is told all but the number.
    let mut told = Vec::new();
    let mut operator = server.operator().await;
    for phone in [PHONE, OTHER_PHONE] {
        let why = operator.why(pb::WhyRequest {
            subject: Some(pb::why_request::Subject::Phone(phone.to_owned())),
            quiet_after_s: 0,
        });
        told.push(format!("{:?}", why.await.unwrap()).into_bytes());
    }

    let refusals = planted::refusals(&server, &home).await;

    let look = |server: &Server| {
        let mut places: Vec<(String, Vec<u8>)> = server
            .data_files()
            .into_iter()
            .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
            .collect();
        assert!(
            places
                .iter()
                .any(|(_, bytes)| contains(bytes, HOME_1.as_bytes())),
            "what is stored in the clear is found this way"
        );
        // The client half of this very process logs too, in `h2`, `hyper` and `tonic`: what crosses
        // TLS is seen there by design of those crates' TRACE level, so only the server's lines count.
        let lines: Vec<u8> = log
            .0
            .lock()
            .unwrap()
            .split(|byte| *byte == b'\n')
            .filter(|line| contains(line, b"doorstep_server") || contains(line, b"sqlx"))
            .collect::<Vec<_>>()
            .join(&b'\n');
        assert!(contains(&lines, b"session changed"), "the log is captured");
        places.push(("the log".to_owned(), lines));
        places.push(("the error".to_owned(), again.to_string().into_bytes()));
        let answers = told
            .iter()
            .map(|text| ("an answer of why".to_owned(), text.clone()));
        places.extend(answers);
        for (call, status) in &refusals {
            let text = format!("{status} {status:?}").into_bytes();
            places.push((format!("the refusal of {call}"), text));
        }
        for (place, bytes) in places {
            for (what, needles) in [
                ("phone", vec![PHONE.into(), OTHER_PHONE.into()]),
                ("ID card", vec![ID_CARD.as_bytes().to_vec()]),
                ("secret", spellings(&home.credentials.secret)),
                ("session key", spellings(&answer.session_key)),
            ] {
                for needle in needles {
                    assert!(
                        !contains(&bytes, &needle),
                        "{what} lies in the clear in {place}"
                    );
                }
            }
        }
    };
    look(&server);

    // Another identity key comes to seal; what the first one has sealed is renewed.
    keys::identity::add(&server.config, Run::Real).unwrap();
    keys::identity::begin_use(&server.config, KeyId::new(2).unwrap(), Run::Real).unwrap();
    server.restart().await;
    look(&server);
    Subscriber::register(&server, OTHER_PHONE).await;
    let all_masked = async |server: &Server| {
        let request = pb::ListSubscribersRequest::default();
        let listed = server.operator().await.list_subscribers(request).await?;
        Ok::<Vec<String>, tonic::Status>(
            listed
                .into_inner()
                .subscribers
                .into_iter()
                .map(|one| one.phone_masked)
                .collect(),
        )
    };
    let masked = |phone: &str| {
        format!(
            "{}****{}",
            &phone[..phone.len() - 8],
            &phone[phone.len() - 4..]
        )
    };
    let shows_both = |listed: &[String]| {
        [PHONE, OTHER_PHONE]
            .iter()
            .all(|phone| listed.iter().any(|one| one.ends_with(&masked(phone))))
    };
    assert!(
        shows_both(&all_masked(&server).await.unwrap()),
        "both keys open"
    );
    look(&server);
    let walking = async {
        loop {
            let keys = server.running.as_ref().unwrap().engine.identity_keys();
            let needs = keys.await.unwrap().into_iter().filter_map(|key| key.needs);
            if needs.map(|needs| needs.total()).sum::<u64>() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), walking)
        .await
        .expect("rows are not renewed");
    look(&server);
    let request = pb::RetireIdentityKeyRequest {
        key: 1,
        dry_run: false,
    };
    let kept = server.operator().await.retire_identity_key(request).await;
    let first_key = PathBuf::from(kept.unwrap().into_inner().file);
    server.restart().await;
    assert!(
        shows_both(&all_masked(&server).await.unwrap()),
        "the first key is not needed"
    );
    look(&server);

    // With the keys of an old backup instead of its own the server says which one it needs, and
    // nothing else.
    server.stop().await;
    look(&server);
    std::fs::rename(&first_key, first_key.with_extension("key")).unwrap();
    let second_key = server.config.keys_dir().join("identity-0002.key");
    std::fs::rename(&second_key, second_key.with_extension("retired")).unwrap();
    server.resume().await;
    let refused = all_masked(&server).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Internal);
    let told = refused.message();
    assert!(told.contains("needs identity key 0002"), "{told}");
    assert!(!told.contains(PHONE) && !told.contains(ID_CARD), "{told}");
    server.stop().await;
    look(&server);
}
