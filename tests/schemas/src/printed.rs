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

/// Made once of each file: some commands are asked again and again.
fn validator(path: &Path) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<PathBuf, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || {
        let text = fs::read_to_string(path).expect("a file");
        let mut schema = serde_json::from_str(&text).expect("JSON");
        close(&mut schema);
        let validator = jsonschema::validator_for(&schema);
        Arc::new(validator.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    Arc::clone(made.entry(path.to_owned()).or_insert_with(make))
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
