//! Results: tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stderr, stdout};

use clap::ValueEnum;
use serde::Serialize;

use crate::exit::{self, Exit};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Tables for people
    #[default]
    #[value(alias = "text")]
    Table,
    /// One JSON document
    Json,
}

/// Writes text to standard output as it is. Where that is a pipe that nobody reads any more, such as
/// `head`'s, the command ends, and says nothing of it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => exit::because(Exit::Failed, ""),
            _ => anyhow::Error::new(error).context("cannot write to standard output"),
        })
}

/// Says on standard error what is no part of the result.
pub fn note(text: impl Display) {
    // Nobody is left to be told if it is closed.
    let _ = writeln!(stderr(), "{text}");
}

/// Writes a line to standard output, as [`print()`] does: `say!("{n} changes")?`.
#[macro_export]
macro_rules! say {
    ($($line:tt)*) => {
        $crate::output::print(&format!("{}\n", format_args!($($line)*)))
    };
}

/// Writes one JSON document to standard output.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Name and value, one pair a line; empty values are left out.
#[must_use]
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:width$}  {value}\n"))
        .collect()
}

/// Columns as wide as they need to be, with a line above them that names them.
#[must_use]
pub fn table<R: AsRef<[String]>>(head: &[&str], rows: &[R]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text += &line(&mut row.as_ref().iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["access0".to_owned(), "1".to_owned()],
            ["é".to_owned(), String::new()],
        ];
        let text = table(&["PORT", "N"], &rows);
        assert_eq!(text, "PORT     N\naccess0  1\né\n");
        let nothing: [Vec<String>; 0] = [];
        assert_eq!(table(&["PORT", "N"], &nothing), "PORT  N\n");
    }

    #[test]
    fn fields_line_up() {
        let text = fields(&[
            ("id", "7".to_owned()),
            ("detail", String::new()),
            ("running since", "now".to_owned()),
        ]);
        assert_eq!(text, "id             7\nrunning since  now\n");
        assert_eq!(fields(&[]), "");
    }

    #[test]
    fn forms_are_named() {
        for (text, output) in [
            ("table", Some(Output::Table)),
            ("text", Some(Output::Table)),
            ("json", Some(Output::Json)),
            ("yaml", None),
        ] {
            assert_eq!(Output::from_str(text, false).ok(), output, "{text}");
        }
    }
}
