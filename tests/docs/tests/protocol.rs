//! The reference of the protocol is what the code has.

use std::fs;
use std::path::Path;

use doorstep_test_docs::protocol;

#[test]
fn the_reference_is_what_the_protocol_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/protocol.md");
    let made = protocol();
    if std::env::var_os("DOORSTEP_WRITE_REFERENCE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let other = kept
        .lines()
        .zip(made.lines())
        .find(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "it is made anew by `DOORSTEP_WRITE_REFERENCE=1 cargo test -p doorstep-test-docs`; {other:?}"
    );
}
