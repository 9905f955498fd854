//! What can be wrong with a configuration, and where.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use thiserror::Error;

use super::IndexError;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", file.display())]
    Read {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", file.display())]
    Syntax {
        file: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("{}", list(file, problems))]
    Invalid {
        file: PathBuf,
        problems: Vec<Problem>,
    },
    #[error("{}: {source}", file.display())]
    Index { file: PathBuf, source: IndexError },
}

/// A place in a text file; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// The position of a byte of a text.
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: Position,
    pub what: String,
}

/// Collects all that is wrong, so that one run shows it all.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    pub fn add(&mut self, span: Range<usize>, what: impl fmt::Display) {
        self.found.push(Problem {
            at: Position::of(self.text, span.start),
            what: what.to_string(),
        });
    }

    pub fn into_found(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.at);
        self.found
    }
}

fn list(file: &std::path::Path, problems: &[Problem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|Problem { at, what }| format!("{}:{}:{}: {what}", file.display(), at.line, at.column))
        .collect();
    lines.join("\n")
}
