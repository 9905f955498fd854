//! Which command prints what with `-o json`, for the schemas of `docs/reference/schemas`.

use clap::CommandFactory as _;
use doorstep_test_schemas::{assert_complete, of, told};
use serde_json::Value;

use super::{Cli, json, packets};
use crate::preflight;

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
fn every_command_has_a_schema_as_its_type_is() {
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
    assert_complete(&Cli::command(), &schemas(), &without);
}
