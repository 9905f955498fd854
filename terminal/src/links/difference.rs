//! What a change would do, told before it is done. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::plan::{Plan, Step};
use super::{Item, Owned};
use crate::config::LinkConfig;

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is made.
    Added,
    /// It takes the place of something.
    Changed,
    /// It is undone.
    Removed,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What becomes of it.
    pub kind: Kind,
    /// The thing.
    pub item: Item,
    /// What it takes the place of; empty unless it changes.
    pub former: String,
}

/// The changes that a plan makes, in its order, except that what gives its place to something else
/// is told together with that.
#[must_use]
pub fn changes(plan: &Plan, owned: &[Owned]) -> Vec<Change> {
    let made = |item: &Item| {
        let mut steps = plan.steps.iter();
        steps.any(|step| matches!(step, Step::Make(new) if new.item.excludes(item)))
    };
    let change = |step: &Step| match step {
        Step::Undo(own) if made(&own.item) => None,
        Step::Undo(own) => Some(Change {
            kind: Kind::Removed,
            item: own.item.clone(),
            former: String::new(),
        }),
        Step::Make(new) => {
            let replaced = owned
                .iter()
                .find(|own| own.item != new.item && own.item.excludes(&new.item))
                .map(|own| own.item.to_string());
            let former = replaced.or_else(|| match &new.item {
                // The whole of a file is too much to tell.
                Item::File { .. } => new.former.as_ref().map(|_| "another text".into()),
                _ => new.former.clone(),
            });
            Some(Change {
                kind: if former.is_some() {
                    Kind::Changed
                } else {
                    Kind::Added
                },
                item: new.item.clone(),
                former: former.unwrap_or_default(),
            })
        }
    };
    plan.steps.iter().filter_map(change).collect()
}

/// A setting that two configurations have otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `home.room_ports`
    pub key: String,
    /// JSON; empty: not there.
    pub former: String,
    /// JSON; empty: not there.
    pub value: String,
}

/// What two configurations have otherwise, by key.
#[must_use]
pub fn settings(former: &LinkConfig, new: &LinkConfig) -> Vec<Setting> {
    let (former, new) = (leaves(former), leaves(new));
    let mut keys: Vec<&String> = former.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let text = |of: &BTreeMap<String, String>, key| of.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| Setting {
            key: key.clone(),
            former: text(&former, key),
            value: text(&new, key),
        })
        .filter(|setting| setting.former != setting.value)
        .collect()
}

fn leaves(config: &LinkConfig) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(config) {
        collect(&mut out, String::new(), &value);
    }
    out
}

fn collect(out: &mut BTreeMap<String, String>, key: String, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if key.is_empty() { "" } else { "." };
                collect(out, format!("{key}{dot}{name}"), value);
            }
        }
        Value::Null => {}
        value => {
            out.insert(key, value.to_string());
        }
    }
}
