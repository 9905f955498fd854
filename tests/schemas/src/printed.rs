//! What real commands print.

use std::fs;

use serde_json::Value;

use crate::files::folder;

/// That a document is as the schema of the command has it, which `words` begin with, and has no field that
/// it does not name.
///
/// # Panics
/// If it is not, or there is no such schema.
pub fn assert_valid(daemon: &str, words: &[&str], printed: &Value) {
    let (name, mut schema) = schema(daemon, words)
        .unwrap_or_else(|| panic!("there is no schema of {daemon} {}", words.join(" ")));
    close(&mut schema);
    let validator = jsonschema::validator_for(&schema)
        .unwrap_or_else(|error| panic!("{name}: the schema is none: {error}"));
    let wrong: Vec<_> = validator
        .iter_errors(printed)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(
        wrong.is_empty(),
        "{name}: {}: {printed:#}",
        wrong.join("; ")
    );
}

/// The longest beginning that names one; a command that lists by default is named by itself.
fn schema(daemon: &str, words: &[&str]) -> Option<(String, Value)> {
    let words: Vec<_> = words
        .iter()
        .take_while(|word| !word.starts_with('-'))
        .collect();
    (0..=words.len()).rev().find_map(|count| {
        let name = words[..count]
            .iter()
            .map(|word| **word)
            .collect::<Vec<_>>()
            .join("-");
        [name.clone(), format!("{name}-list")]
            .into_iter()
            .find_map(|name| {
                let text = fs::read_to_string(folder(daemon).join(format!("{name}.json"))).ok()?;
                Some((name, serde_json::from_str(&text).expect("JSON")))
            })
    })
}

/// Whoever reads documents must bear fields that come later; those that are printed now are all named.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.contains_key("properties") && !object.contains_key("additionalProperties") {
                object.insert("additionalProperties".to_owned(), false.into());
            }
            object.values_mut().for_each(close);
        }
        Value::Array(values) => values.iter_mut().for_each(close),
        _ => {}
    }
}
