//! Messages of the log are literals, in all daemons; what changes stands in fields. So a message never
//! quotes anything, and `support-bundle` may tell it.

use std::fs;
use std::path::{Path, PathBuf};

const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
const CRATES: [&str; 6] = [
    "daemon",
    "establish",
    "gateway-user",
    "pki",
    "server",
    "terminal",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a call, from after its parenthesis: texts that stand among them for themselves.
fn messages(arguments: &str) -> Vec<&str> {
    let (mut depth, mut at, mut found) = (1, 0, Vec::new());
    let mut before = '(';
    let bytes = arguments.as_bytes();
    while depth > 0 && at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let start = at + 1;
                at = start;
                while bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if depth == 1 && "(,".contains(before) {
                    found.push(&arguments[start..at]);
                }
                before = '"';
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if !bytes[at].is_ascii_whitespace() && bytes[at] != b'"' {
            before = char::from(bytes[at]);
        }
        at += 1;
    }
    found
}

#[test]
fn messages_are_literals() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for name in CRATES {
        sources(&root.join(name).join("src"), &mut files);
    }
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        for name in MACROS {
            // What begins in the middle of another word is no macro of the log's.
            let calls = text.match_indices(name).filter(|(at, _)| {
                let before = text[..*at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            });
            for (at, name) in calls {
                let line = text[..at].matches('\n').count() + 1;
                let messages = messages(&text[at + name.len()..]);
                seen += messages.len();
                for message in messages {
                    assert!(
                        !message.contains('{'),
                        "{}:{line}: put what changes into a field: {message}",
                        file.display()
                    );
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} messages were found");
}

#[test]
fn only_texts_for_themselves_are_messages() {
    for (arguments, expected) in [
        (r#""plain")"#, vec!["plain"]),
        (r#"%error, "with {name}")"#, vec!["with {name}"]),
        (r#"error = format!("{error:#}"), "said")"#, vec!["said"]),
        (r#"reason = "given", "said"); other("x")"#, vec!["said"]),
        (r#"target: "x", "a \"b\" c")"#, vec!["a \\\"b\\\" c"]),
    ] {
        assert_eq!(messages(arguments), expected, "{arguments}");
    }
}
