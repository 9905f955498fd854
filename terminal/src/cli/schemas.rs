//! Which command prints what with `-o json`, for the schemas of `docs/reference/schemas`.

use clap::CommandFactory as _;
use doorstep_test_schemas::{any, assert_complete, of, told};
use serde_json::Value;

use super::{Cli, views};

fn schemas() -> Vec<(&'static str, Value)> {
    let requested = told::<views::Requested>;
    vec![
        ("register", told::<views::Registered>()),
        ("plans", of::<views::Plans>()),
        ("request", requested()),
        ("move", requested()),
        ("switch", requested()),
        ("release", told::<views::Released>()),
        ("apply", told::<views::Applied>()),
        ("confirm", told::<views::Confirmed>()),
        ("status", of::<views::Status>()),
        ("doctor", of::<views::Health>()),
        ("qr", any([of::<views::Read>(), of::<views::Made>()])),
    ]
}

#[test]
fn every_command_has_a_schema_as_its_type_is() {
    let without = [
        ("run", "it prints nothing"),
        ("manual", "it prints nothing"),
        ("undo", "it prints no JSON"),
        (
            "watch",
            "it prints lines, as things have fields: docs/reference/cli.md",
        ),
        (
            "support-bundle",
            "it prints what it has written; the file has its manifest",
        ),
    ];
    assert_complete(&Cli::command(), &schemas(), &without);
}
