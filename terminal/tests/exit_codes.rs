//! What commands end with, against the table of `docs/reference/cli.md`.

use std::time::Duration;

use doorstep_daemon::exit::Exit;

use crate::support::connected::connected_home;
use crate::support::home::{listening, stop};
use crate::support::in_namespace;

#[test]
fn every_kind_of_end_has_its_code() {
    in_namespace("every_kind_of_end_has_its_code", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, _grants) = connected_home(folder.path(), Duration::ZERO).await;
        let ends = async |words: &str, exit: Exit| {
            let (code, _, error) = terminal.client(words).await;
            assert_eq!(code, i32::from(exit.number()), "{words}: {error}");
        };
        ends("status", Exit::Unreachable).await;
        ends("doctor", Exit::Unreachable).await;
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        for (words, exit) in [
            ("status", Exit::Done),
            ("explode", Exit::Usage),
            ("request", Exit::Usage),
            ("request --sealed d1.x --timeout soon", Exit::Usage),
            ("doctor", Exit::Finding),
            ("request --sealed d1.x", Exit::Refused),
            ("confirm", Exit::Refused),
            ("release", Exit::NotFound),
            (
                "register --phone 13800000000 --operator nobody",
                Exit::NotFound,
            ),
            ("register --id-card 7", Exit::Usage),
            ("register --phone 13800000000", Exit::Done),
            ("register --phone 13800000000", Exit::Refused),
            ("request --sealed nonsense", Exit::Usage),
            ("request --sealed d1.keyless", Exit::Failed),
            ("request --qr absent.png", Exit::Failed),
            // No gateway answers.
            ("request --sealed d1.x --timeout 300ms", Exit::TimedOut),
            ("release --session 7", Exit::NotFound),
        ] {
            ends(words, exit).await;
        }
        stop(daemon).await;
    });
}

#[test]
fn a_server_that_is_away_is_no_refusal() {
    in_namespace("a_server_that_is_away_is_no_refusal", || async {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, _grants) = connected_home(folder.path(), Duration::ZERO).await;
        let file = folder.path().join("terminal.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let url = config.split('"').find(|text| text.starts_with("https://"));
        // Nobody listens there.
        let away = config.replace(url.unwrap(), "https://127.0.0.1:9");
        std::fs::write(&file, away).unwrap();
        let daemon = terminal.daemon();
        terminal.until("listens", listening).await;
        let (code, _, error) = terminal.client("register --phone 13800000000").await;
        assert_eq!(code, i32::from(Exit::NotNow.number()), "{error}");
        stop(daemon).await;
    });
}
