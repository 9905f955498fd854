//! The schemas as they are kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use serde_json::Value;

/// Has the files written anew.
const WRITE: &str = "DOORSTEP_WRITE_SCHEMAS";

/// Those of a daemon, such as `doorstep-server`.
pub(crate) fn folder(daemon: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("docs/reference/schemas").join(daemon)
}

fn file(command: &str) -> String {
    format!("{}.json", command.replace(' ', "-"))
}

/// Files that are not as the types have them, lacking, or of no command; with `DOORSTEP_WRITE_SCHEMAS` they
/// are written, and none is. `schemas` are by the commands' names, such as `sessions list`.
///
/// # Panics
/// If the folder or a file cannot be read or written.
#[must_use]
pub fn wrong_files(daemon: &str, schemas: &[(&str, Value)]) -> Vec<String> {
    let folder = folder(daemon);
    let is_written = std::env::var_os(WRITE).is_some();
    if is_written {
        fs::create_dir_all(&folder).expect("a folder");
    }
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for (command, schema) in schemas {
        let name = file(command);
        let mut schema = schema.clone();
        schema["title"] = format!("{daemon} {command} -o json").into();
        let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        let path = folder.join(&name);
        if is_written {
            fs::write(&path, text).expect("written");
        } else if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            wrong.push(format!(
                "{name}: not as the types have it; {WRITE}=1 writes it"
            ));
        }
        known.insert(name);
    }
    for entry in fs::read_dir(&folder).expect("the folder of the schemas") {
        let name = entry.expect("an entry").file_name();
        let name = name.into_string().expect("text");
        if !known.contains(&name) {
            wrong.push(format!("{name}: of no command"));
        }
    }
    wrong
}

/// Commands that have neither a schema nor a reason to have none, and what is given and is no command.
#[must_use]
pub fn unaccounted(
    command: &Command,
    schemas: &[(&str, Value)],
    without: &[(&str, &str)],
) -> Vec<String> {
    let mut command = command.clone().disable_help_subcommand(true);
    command.build();
    let mut all = BTreeSet::new();
    collect(&command, "", &mut all);
    let given: Vec<&str> = schemas
        .iter()
        .map(|(name, _)| *name)
        .chain(without.iter().map(|(name, _)| *name))
        .collect();
    let lacking = all.iter().filter(|name| !given.contains(&name.as_str()));
    let lacking = lacking.map(|name| format!("{name}: has no schema"));
    let unknown = given.iter().filter(|name| !all.contains(**name));
    let unknown = unknown.map(|name| format!("{name}: is no command"));
    lacking.chain(unknown).collect()
}

fn collect(command: &Command, name: &str, all: &mut BTreeSet<String>) {
    let mut inner = command.get_subcommands().peekable();
    if inner.peek().is_none() {
        all.insert(name.to_owned());
    }
    for inner in inner {
        let below = format!("{name} {}", inner.get_name());
        collect(inner, below.trim_start(), all);
    }
}
