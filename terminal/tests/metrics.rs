//! What the whole daemon tells Prometheus.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use doorstep_establish::Mac;
use doorstep_terminal::daemon::metrics::FAMILIES;
use doorstep_test_metrics::{check, check_reference, scrape};

use crate::support::connected::connected_home;
use crate::support::home::{Gateway, listening, stop};
use crate::support::{assert_unchanged, dump, in_namespace};

#[test]
fn the_reference_is_that_of_the_code() {
    check_reference("doorstep-terminal", FAMILIES);
}

#[test]
fn a_real_terminal_is_scraped() {
    in_namespace("a_real_terminal_is_scraped", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, mut grants) = connected_home(folder.path(), Duration::ZERO).await;
        // Of the test's own namespace: nobody else has the port.
        let address: SocketAddr = "127.0.0.1:9466".parse().unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(folder.path().join("terminal.toml"))
            .unwrap();
        writeln!(file, "[metrics]\nlisten = \"{address}\"").unwrap();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let samples = check(&scrape(address), FAMILIES);
        let sessions = |state: &str| format!("doorstep_terminal_sessions{{state=\"{state}\"}}");
        assert_eq!(samples[&sessions("established")], 0.0);
        assert_eq!(
            samples["doorstep_terminal_port_listening{port=\"wan0\"}"],
            1.0
        );

        let (code, registered, error) = terminal.client("register --phone 13800000000").await;
        assert_eq!(code, 0, "{error}");
        let gateway = Gateway::new("gw-1", Mac([2, 0, 0, 0, 1, 1]));
        let establish = async {
            let grant = grants.recv().await.unwrap();
            gateway.establish(grant, 10).await
        };
        let ((code, result, error), _) =
            tokio::join!(terminal.client("request --sealed d1.x"), establish);
        assert_eq!(code, 0, "{error}");
        let before = dump();
        let text = scrape(address);
        assert_unchanged(&before, "a scrape changes nothing");
        for hidden in [&registered["subscriber_id"], &result["session_id"]] {
            let hidden = hidden.as_str().unwrap();
            assert!(!text.contains(hidden), "{hidden} is told");
        }
        let samples = check(&text, FAMILIES);
        assert_eq!(samples[&sessions("established")], 1.0, "{text}");
        assert_eq!(samples["doorstep_terminal_repairs_total"], 0.0);
        assert_eq!(
            samples["doorstep_terminal_server_connected{operator=\"default\"}"],
            1.0
        );
        stop(daemon).await;
    });
}
