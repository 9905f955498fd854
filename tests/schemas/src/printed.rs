//! What real commands print.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;

use crate::files::folder;

/// Whether a daemon's schemas can be read: not in a virtual machine, which has no documents.
#[must_use]
pub fn are_here(daemon: &str) -> bool {
    folder(daemon).is_dir()
}

/// That a document is as the schema of the command has it, which `words` begin with, and has no field that
/// it does not name.
///
/// # Panics
/// If it is not, or there is no such schema.
pub fn assert_valid(daemon: &str, words: &[&str], printed: &Value) {
    let (name, path) = schema(daemon, words)
        .unwrap_or_else(|| panic!("there is no schema of {daemon} {}", words.join(" ")));
    let validator = validator(&path);
    let wrong = errors(&validator, printed);
    assert!(
        wrong.is_empty(),
        "{name}: {}: {printed:#}",
        wrong.join("; ")
    );
}

/// Made once of each file: some commands are asked again and again.
fn validator(path: &Path) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<PathBuf, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let text = fs::read_to_string(path).expect("a file");
        let validator = closed(serde_json::from_str(&text).expect("JSON"));
        Arc::new(validator.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    Arc::clone(made.entry(path.to_owned()).or_insert_with(make))
}

/// Whoever reads documents must bear fields that come later; those that are printed now are all named.
fn closed(mut schema: Value) -> Result<Validator, String> {
    close(&mut schema);
    jsonschema::validator_for(&schema).map_err(|error| error.to_string())
}

fn errors(validator: &Validator, printed: &Value) -> Vec<String> {
    let errors = validator.iter_errors(printed);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// The longest beginning that names one; a command that lists by default is named by itself.
fn schema(daemon: &str, words: &[&str]) -> Option<(String, PathBuf)> {
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
                let path = folder(daemon).join(format!("{name}.json"));
                path.is_file().then_some((name, path))
            })
    })
}

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

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde_json::json;

    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Row {
        name: String,
        since_unix_ms: Option<i64>,
        inner: Vec<Inner>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        count: u64,
    }

    #[test]
    fn what_is_not_as_the_schema_says_is_found() {
        let good = json!({ "name": "a", "since_unix_ms": null, "inner": [{ "count": 1 }] });
        let with = |field: &str, value: Value| {
            let mut row = good.clone();
            row[field] = value;
            row
        };
        let told = closed(crate::told::<Row>()).expect("a schema");
        let would_be = closed(crate::would_be::<Row>()).expect("a schema");
        for (row, as_told, as_would_be) in [
            (good.clone(), true, false),
            (with("dry_run", true.into()), true, true),
            (with("dry_run", false.into()), false, false),
            (with("other", 1.into()), false, false),
            (with("name", 1.into()), false, false),
            (with("inner", json!([{ "count": "1" }])), false, false),
            (
                with("inner", json!([{ "count": 1, "other": 2 }])),
                false,
                false,
            ),
            (json!({ "name": "a" }), false, false),
            (json!([]), false, false),
        ] {
            assert_eq!(errors(&told, &row).is_empty(), as_told, "{row}");
            assert_eq!(errors(&would_be, &row).is_empty(), as_would_be, "{row}");
        }
    }
}
