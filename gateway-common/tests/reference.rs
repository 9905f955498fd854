//! The reference lists what the code has.

use std::path::Path;

use doorstep_gateway_common::Reason;

#[test]
fn every_reason_is_in_the_reference() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/reasons.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let row = |reason: &Reason| {
        let (number, name) = (reason.number(), reason.name());
        format!("| {number} | `{name}` | {} |", reason.describe())
    };
    let missing: Vec<String> = Reason::ALL
        .iter()
        .map(row)
        .filter(|row| !text.contains(row))
        .collect();
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    let rows = text.lines().filter(|line| {
        line.strip_prefix("| ")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    assert_eq!(rows.count(), Reason::ALL.len(), "rows that no reason has");
}
