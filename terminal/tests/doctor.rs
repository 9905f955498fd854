//! `doctor` in a home that is well, and in one whose cable is out.

use std::time::Duration;

use serde_json::Value;

use crate::support::connected::connected_home;
use crate::support::home::{Terminal, listening, stop};
use crate::support::online::go_online;
use crate::support::{assert_unchanged, dump, in_namespace, ip};

/// What is wrong, by name, and the exit code.
async fn wrong(terminal: &Terminal) -> (i32, Vec<String>) {
    let (code, said, error) = terminal.client("doctor").await;
    let findings = said["findings"].as_array();
    let findings = findings.unwrap_or_else(|| panic!("{error}"));
    let wrong = findings
        .iter()
        .filter(|finding| finding["advice"] != Value::Null);
    let names = wrong.map(|finding| finding["what"].as_str().unwrap().to_owned());
    (code, names.collect())
}

#[test]
fn a_fault_is_named_and_a_healthy_home_has_none() {
    in_namespace("a_fault_is_named_and_a_healthy_home_has_none", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut grants) = connected_home(folder.path(), Duration::ZERO).await;
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let (code, names) = wrong(&terminal).await;
        assert_eq!(
            (code, &*names),
            (3, &["operator default", "sessions"].map(String::from)[..])
        );

        let _gateway = go_online(&terminal, &mut grants).await;
        // Nobody is beyond this gateway.
        let (code, names) = wrong(&terminal).await;
        assert_eq!((code, &*names), (3, &["DNS 192.0.2.53".to_owned()][..]));

        // A resolver that says anything.
        ip("addr add 192.0.2.53/32 dev lo");
        let resolver = tokio::net::UdpSocket::bind("192.0.2.53:53").await.unwrap();
        let answering = tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (len, from) = resolver.recv_from(&mut question).await.unwrap();
                question[2] |= 0x80;
                resolver.send_to(&question[..len], from).await.unwrap();
            }
        });
        let before = dump();
        assert_eq!(wrong(&terminal).await, (0, Vec::new()));
        assert_unchanged(&before, "after the look");

        ip("link set gw0 down");
        let (code, names) = wrong(&terminal).await;
        assert_eq!(code, 3);
        assert!(names.contains(&"port wan0".to_owned()), "{names:?}");
        answering.abort();
        stop(daemon).await;
    });
}
