//! The schemas as they are kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use doorstep_daemon::commands::leaves;
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

/// That each command has a schema or a reason to have none, and each schema its file, as the types have it;
/// with `DOORSTEP_WRITE_SCHEMAS` the files are written. `schemas` are by the commands' names, such as
/// `sessions list`, and so are the reasons.
///
/// # Panics
/// If it is not so, or the folder or a file cannot be read or written.
pub fn assert_complete(command: &Command, schemas: &[(&str, Value)], without: &[(&str, &str)]) {
    let mut wrong = unaccounted(command, schemas, without);
    wrong.extend(wrong_files(command.get_name(), schemas));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files that are not as the types have them, lacking, or of no command.
fn wrong_files(daemon: &str, schemas: &[(&str, Value)]) -> Vec<String> {
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
fn unaccounted(
    command: &Command,
    schemas: &[(&str, Value)],
    without: &[(&str, &str)],
) -> Vec<String> {
    let all = leaves(command);
    let with = schemas.iter().map(|(name, _)| *name);
    let given: Vec<&str> = with.chain(without.iter().map(|(name, _)| *name)).collect();
    let lacking = all.keys().filter(|name| !given.contains(&name.as_str()));
    let lacking = lacking.map(|name| format!("{name}: has no schema"));
    let unknown = given.iter().filter(|name| !all.contains_key(**name));
    let unknown = unknown.map(|name| format!("{name}: is no command"));
    lacking.chain(unknown).collect()
}
