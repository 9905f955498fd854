//! Phone and ID numbers, secrets and session keys never lie in the clear: not in the database, not
//! in the log, not in an error.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{HOME_1, ID_CARD, PHONE, Server, Subscriber};
use doorstep_proto::v1 as pb;
use tracing_subscriber::fmt::MakeWriter;

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
        for (place, bytes) in places {
            for (what, needles) in [
                ("phone", vec![PHONE.as_bytes().to_vec()]),
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
    server.stop().await;
    look(&server);
}
