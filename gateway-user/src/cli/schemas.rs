//! Which command prints what with `-o json`, for the schemas of `docs/reference/schemas`.

use clap::CommandFactory as _;
use doorstep_test_schemas::{of, told, unaccounted, wrong_files};
use serde_json::Value;

use super::{Cli, json, packets};
use crate::preflight;

const DAEMON: &str = "doorstep-gateway";

fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("check", of::<preflight::Report>()),
        ("enroll", told::<json::Enrolled>()),
        ("upgrade", told::<json::Upgraded>()),
        ("status", of::<json::Status>()),
        ("sessions", of::<Vec<json::Session>>()),
        ("lines list", of::<Vec<json::Line>>()),
        ("lines block", told::<json::Line>()),
        ("lines unblock", told::<json::Line>()),
        ("garden", of::<Vec<json::GardenLine>>()),
        ("drops", of::<Vec<json::Reason>>()),
        ("trace", of::<packets::Told>()),
        ("why", of::<Vec<packets::Fate>>()),
    ]
}

#[test]
fn every_command_has_a_schema() {
    let without = [
        ("run", "it prints nothing"),
        ("manual", "it prints nothing"),
        ("load", "it prints no JSON"),
        ("detach", "it prints no JSON"),
        ("top", "it draws"),
        (
            "support-bundle",
            "it prints what it has written; the file has its manifest",
        ),
    ];
    let wrong = unaccounted(&Cli::command(), &schemas(), &without);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schemas_are_as_the_types() {
    let wrong = wrong_files(DAEMON, &schemas());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
