//! Requests that are refused: each says why, and nothing else changes.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::ensure;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, flows};

/// A home that is connected, and one that is refused; the first must not notice.
fn refused(
    words: impl FnOnce(&Street) -> anyhow::Result<Vec<String>>,
    expected: &[&str],
) -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    street.homes[1].register()?;
    let words = words(&street)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = street.homes[1].terminal.refuse(&words)?;
    for part in expected {
        ensure!(said.contains(part), "{part:?} is not in {said:?}");
    }
    ensure!(
        !said.contains(&street.homes[1].phone()),
        "a phone number in {said:?}"
    );
    flows(&street, &street.homes[0], &session)?;
    // And a right request still works.
    let own = street.homes[1].request(&street.seal(0, 1)?)?;
    flows(&street, &street.homes[1], &own)
}

fn request(sealed: String) -> anyhow::Result<Vec<String>> {
    Ok(vec!["request".to_owned(), "--sealed".to_owned(), sealed])
}

pub fn unknown_location() -> CaseResult {
    refused(
        |street| request(street.seal_location("110103-xinjingjiayuan-001-002-099")?),
        &["inventory"],
    )
}

pub fn wrong_seal() -> CaseResult {
    refused(
        |street| {
            let mut sealed = street.seal(0, 1)?;
            let last = if sealed.ends_with('A') { 'E' } else { 'A' };
            sealed.pop();
            sealed.push(last);
            request(sealed)
        },
        &["sealed"],
    )
}

pub fn legacy_seal_unless_allowed() -> CaseResult {
    const LEGACY: &str =
        "U2FsdGVkX1+tJS9l3vL+0dxU9VIy8bgXGc3upM++Id5Cxg2CEFhDszWHwEAfmLPwXRNiCMgtlJo=";
    refused(|_| request(LEGACY.to_owned()), &["sealed"])
}

pub fn gateway_unknown() -> CaseResult {
    refused(
        |street| request(street.seal_location("440305-nanshan-003-002-0704")?),
        &["no gateway"],
    )
}

pub fn unregistered_subscriber() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let said = street.homes[0]
        .terminal
        .refuse(&["request", "--sealed", &street.seal(0, 0)?])?;
    ensure!(said.contains("register"), "{said:?}");
    connect(&street, 0).map(drop)
}

pub fn registered_twice() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        ..Plan::default()
    })?;
    street.homes[0].register()?;
    let phone = street.homes[0].phone();
    let said = street.homes[1]
        .terminal
        .refuse(&["register", "--phone", &phone])?;
    ensure!(
        said.contains("registered") && !said.contains(&phone),
        "{said:?}"
    );
    for bad in ["12", "12345678901234567", "phone"] {
        let said = street.homes[1]
            .terminal
            .refuse(&["register", "--phone", bad])?;
        ensure!(
            said.contains("phone") && !said.contains(&format!("{bad:?}")),
            "{said:?}"
        );
    }
    let said = street.homes[1]
        .terminal
        .refuse(&["register", "--id-card", "110101199003070000"])?;
    ensure!(
        said.contains("ID") || said.contains("id_card") || said.contains("id-card"),
        "{said:?}"
    );
    for log in [street.server().log(), street.homes[0].terminal.log()] {
        ensure!(!log.contains(&phone), "a phone number in a log");
    }
    Ok(())
}

/// The operator's program sends a code, which the subscriber gives to the terminal.
pub fn registered_with_a_code() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let program = street.dir().join("verify");
    // Codes that no time or id in a log is like.
    let text = r#"#!/bin/sh
case "$(cat)" in
    *'"code":"otter-11"'*) exit 0 ;;
    *'"code":'*) echo "the code is wrong"; exit 1 ;;
    *) exit 10 ;;
esac
"#;
    std::fs::write(&program, text)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
    let config = street.operators[0].config.clone();
    street.server().stop()?;
    let section = format!("\n[register.verification]\ncommand = [{program:?}]\n");
    let text = std::fs::read_to_string(&config)? + &section;
    std::fs::write(&config, text)?;
    street.restart_server()?;

    let terminal = &street.homes[0].terminal;
    let phone = street.homes[0].phone();
    let said = terminal.refuse(&["register", "--phone", &phone])?;
    ensure!(said.contains("code has been sent"), "{said:?}");
    let wrong = ["register", "--phone", &phone, "--code", "otter-12"];
    let said = terminal.refuse(&wrong)?;
    ensure!(said.contains("the code is wrong"), "{said:?}");
    let said = terminal.refuse(&["request", "--sealed", &street.seal(0, 0)?])?;
    ensure!(said.contains("not registered"), "{said:?}");
    terminal.ask(&["register", "--phone", &phone, "--code", "otter-11"])?;
    let session = street.homes[0].request(&street.seal(0, 0)?)?;
    flows(&street, &street.homes[0], &session)?;
    for log in [street.server().log(), terminal.log()] {
        ensure!(
            !log.contains(&phone) && !log.contains("otter"),
            "a number or a code in a log"
        );
    }
    Ok(())
}
