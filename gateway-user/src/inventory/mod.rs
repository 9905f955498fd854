//! The inventory: which access line each location is.

mod parse;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use doorstep_gateway_common::{LineKey, LineValue};
use doorstep_location::LocationId;
use thiserror::Error;

use crate::config::{Position, Problem};
use crate::engine::row::Blocks;
use crate::session::Line;

/// The table location → line, and its reverse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    lines: HashMap<LocationId, Line>,
    /// Those whose lines are blocked until the file says otherwise.
    blocked: HashSet<LocationId>,
}

#[derive(Debug, Error)]
pub enum InventoryError {
    #[error("cannot read the inventory {}: {source}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    /// All that is wrong, not only the first.
    #[error("{}", list(file, problems))]
    Invalid {
        file: PathBuf,
        problems: Vec<Problem>,
    },
}

impl Inventory {
    /// Reads and checks an inventory file. `port` knows the access ports' interface indexes.
    pub fn load(file: &Path, port: impl Fn(&str) -> Option<u32>) -> Result<Self, InventoryError> {
        let text = std::fs::read_to_string(file).map_err(|source| InventoryError::Read {
            file: file.to_owned(),
            source,
        })?;
        Self::parse(file, &text, port)
    }

    /// Checks the text of an inventory; `file` is for messages.
    pub fn parse(
        file: &Path,
        text: &str,
        port: impl Fn(&str) -> Option<u32>,
    ) -> Result<Self, InventoryError> {
        parse::inventory(text, port).map_err(|problems| InventoryError::Invalid {
            file: file.to_owned(),
            problems,
        })
    }

    pub fn resolve(&self, location: &LocationId) -> Option<&Line> {
        self.lines.get(location)
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the file says that a location's line is blocked.
    pub fn is_blocked(&self, location: &LocationId) -> bool {
        self.blocked.contains(location)
    }

    /// How many lines the file blocks.
    pub fn blocked_len(&self) -> usize {
        self.blocked.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&LocationId, &Line)> {
        self.lines.iter()
    }

    /// The names of the ports that have lines, by their interface index.
    pub fn ports(&self) -> HashMap<u32, String> {
        let mut ports = HashMap::new();
        for line in self.lines.values() {
            let port = ports.entry(line.key.ifindex);
            port.or_insert_with(|| line.port.clone());
        }
        ports
    }

    /// What the fast path must know of every line, with those blocked that somebody has blocked.
    pub fn map_rows(&self, blocks: &Blocks) -> Vec<(LineKey, LineValue)> {
        let lines = self.lines.iter();
        lines
            .map(|(location, line)| {
                let blocked = self.is_blocked(location) || blocks.contains_key(location);
                (line.key, map_value(location, blocked))
            })
            .collect()
    }
}

/// What the fast path must know of a location's line.
pub fn map_value(location: &LocationId, blocked: bool) -> LineValue {
    LineValue {
        location_hash: location.hash64(),
        flags: if blocked { LineValue::BLOCKED } else { 0 },
        pad: 0,
    }
}

fn list(file: &Path, problems: &[Problem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|Problem { at, what }| {
            let Position { line, column } = at;
            format!("{}:{line}:{column}: {what}", file.display())
        })
        .collect();
    lines.join("\n")
}
