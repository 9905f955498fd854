//! Holds what commands print with `-o json` against its schemas in `docs/reference/schemas`, and those
//! against the types that are printed. For tests.

mod files;
mod printed;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

pub use files::assert_complete;
pub use printed::{are_here, assert_valid};

/// Of whatever serializes as `T`.
#[must_use]
pub fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Of what a command that changes something prints: the same, with `dry_run` where it is one.
#[must_use]
pub fn told<T: JsonSchema>() -> Value {
    with_dry_run(of::<T>(), false)
}

/// Of what it prints by a dry run alone.
#[must_use]
pub fn would_be<T: JsonSchema>() -> Value {
    with_dry_run(of::<T>(), true)
}

fn with_dry_run(mut schema: Value, is_always_there: bool) -> Value {
    schema["properties"]["dry_run"] = json!({
        "description": "Nothing was changed; left out where something was.",
        "const": true,
    });
    if is_always_there && let Some(required) = schema["required"].as_array_mut() {
        required.push(json!("dry_run"));
    }
    schema
}

/// Of one or another. Definitions of one name must be the same.
#[must_use]
pub fn any(schemas: impl IntoIterator<Item = Value>) -> Value {
    let mut defs = serde_json::Map::new();
    let mut kinds = Vec::new();
    for mut schema in schemas {
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
            if let Some(Value::Object(own)) = object.remove("$defs") {
                defs.extend(own);
            }
        }
        kinds.push(schema);
    }
    let mut any = json!({ "$schema": SCHEMA, "anyOf": kinds });
    if !defs.is_empty() {
        any["$defs"] = defs.into();
    }
    any
}

const SCHEMA: &str = "https://json-schema.org/draft/2020-12/schema";
