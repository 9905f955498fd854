//! Which command prints what with `-o json`, for the schemas of `docs/reference/schemas`.

use clap::CommandFactory as _;
use doorstep_test_schemas::{any, assert_complete, of, told, would_be};
use serde_json::Value;

use super::{Cli, accounts, audit, bulk_report, database, keys_views as keys, views, why};

fn schemas() -> Vec<(&'static str, Value)> {
    let session = told::<views::SessionDetail>;
    let account = told::<accounts::Changed>;
    let rows = told::<bulk_report::Rows<'_>>;
    let init = || any([of::<keys::Keys>(), would_be::<keys::KeysToBe>()]);
    let identity = || {
        let to_be = would_be::<keys::IdentityKeyToBe>();
        any([of::<Vec<keys::IdentityKey>>(), to_be])
    };
    vec![
        ("status", of::<views::Status>()),
        ("subscribers list", of::<views::Subscribers>()),
        ("subscribers show", of::<views::SubscriberDetail>()),
        ("subscribers import", rows()),
        ("subscribers reset-secret", told::<views::NewSecret>()),
        ("subscribers plan", told::<views::Subscriber>()),
        ("sessions list", of::<views::Sessions>()),
        ("sessions show", of::<views::SessionDetail>()),
        ("sessions force", session()),
        ("sessions service", session()),
        ("sessions connect", any([session(), rows()])),
        ("sessions move", session()),
        ("sessions disconnect", session()),
        ("why", of::<Vec<why::Connection>>()),
        ("plans list", of::<Vec<views::Plan>>()),
        ("plans reload", told::<views::ReloadedPlans>()),
        ("accounts list", of::<Vec<accounts::Account>>()),
        ("accounts add", account()),
        ("accounts disable", account()),
        ("accounts enable", account()),
        ("accounts role", account()),
        ("accounts password", account()),
        ("gateways", of::<Vec<views::Gateway>>()),
        ("audit verify", of::<audit::Verified>()),
        ("audit head", of::<audit::Proof>()),
        ("database migrate", told::<database::Migrated>()),
        ("database export", of::<database::Moved>()),
        ("database import", told::<database::Moved>()),
        ("database backup", of::<database::Copied>()),
        ("pki init", init()),
        ("pki token", told::<keys::Token<'_>>()),
        ("pki tokens", of::<Vec<keys::TokenRow>>()),
        ("pki revoke", told::<keys::Revoked>()),
        ("pki issue", told::<keys::Issued>()),
        ("pki rotate-ca", told::<keys::Rotated>()),
        ("pki show", of::<keys::Keys>()),
        ("keys show", of::<keys::Keys>()),
        ("keys rotate-seal", told::<keys::Keys>()),
        ("keys identity list", of::<Vec<keys::IdentityKey>>()),
        ("keys identity add", identity()),
        ("keys identity use", identity()),
        ("keys identity retire", identity()),
        ("keys seal", of::<keys::Sealed>()),
    ]
}

#[test]
fn every_command_has_a_schema_as_its_type_is() {
    let without = [
        ("run", "it prints nothing"),
        ("manual", "it prints nothing"),
        ("top", "it draws"),
        (
            "support-bundle",
            "it prints what it has written; the file has its manifest",
        ),
        (
            "audit list",
            "it prints lines, as they are exported: docs/reference/cli.md",
        ),
        ("audit export", "it prints lines: docs/reference/cli.md"),
        ("keys init", "it is pki init"),
        ("keys gateway", "it is pki issue"),
    ];
    assert_complete(&Cli::command(), &schemas(), &without);
}
