//! The project's own documents.

use std::collections::BTreeSet;
use std::path::Path;

use doorstep_test_docs::{Document, broken_links};

#[test]
fn no_link_leads_nowhere() {
    let broken = broken_links(&Document::all());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whoever follows the Chinese one does the same.
#[test]
fn the_chinese_readme_has_the_same_commands_and_files() {
    let english = code("README.md");
    let chinese = code("README.zh.md");
    let missing: Vec<&String> = english.symmetric_difference(&chinese).collect();
    assert!(missing.is_empty(), "in one of them only: {missing:#?}");
}

/// The lines of code of a document, without comments and examples of output.
fn code(name: &str) -> BTreeSet<String> {
    let document = Document::all()
        .into_iter()
        .find(|document| document.path == Path::new(name))
        .expect("the document");
    let mut lines = BTreeSet::new();
    let mut kind = None;
    for line in document.text.lines() {
        match (line.strip_prefix("```"), kind) {
            (Some(begun), None) => kind = Some(begun),
            (Some(_), Some(_)) => kind = None,
            (None, Some(kind)) if kind != "text" => {
                let line = line.split(" #").next().unwrap_or_default().trim();
                lines.insert(line.to_owned());
            }
            _ => {}
        }
    }
    lines
}
