//! Rows of a CSV file. What stands in it is never part of an error: it may be anybody's number.

use std::io::Cursor;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};
use futures::{Stream, stream};

/// What the first line may name, and of which groups it must name one each.
pub struct Columns {
    pub known: &'static [&'static str],
    pub needed: &'static [&'static [&'static str]],
}

/// What the sending end tells the reporting one.
#[derive(Debug, Default)]
pub struct Told {
    pub sent: u64,
    /// Lines that are no rows, and why.
    pub refused: Vec<(u64, String)>,
}

pub type Shared = Arc<Mutex<Told>>;

/// Looks at what is told, also if the other end has crashed.
pub fn look<T>(told: &Shared, at: impl FnOnce(&mut Told) -> T) -> T {
    at(&mut told.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Reads the file as a whole: a million rows are some dozens of megabytes.
type Reader = csv::Reader<Cursor<Vec<u8>>>;

fn open(path: &Path) -> Result<Reader> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ReaderBuilder::new()
        .trim(Trim::All)
        .from_reader(Cursor::new(bytes)))
}

/// The line that a record begins in. The reader's own position may be before the line feed of the
/// record before, and before empty lines.
fn line(reader: &Reader, position: Option<&Position>) -> u64 {
    let Some(position) = position else {
        return 0;
    };
    let bytes = reader.get_ref().get_ref();
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let before = bytes.get(start..).unwrap_or_default().iter();
    let skipped = before
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .filter(|byte| **byte == b'\n');
    position.line() + skipped.count() as u64
}

/// Which column each known name is, in the order of the names.
fn places(reader: &mut Reader, path: &Path, columns: &Columns) -> Result<Vec<Option<usize>>> {
    let known = columns.known.join(", ");
    let Ok(headers) = reader.headers() else {
        bail!("{}:1: must name the columns: {known}", path.display());
    };
    let mut places = vec![None; columns.known.len()];
    for (index, given) in headers.iter().enumerate() {
        let given = given.trim_start_matches('\u{feff}').trim();
        let given = given.to_ascii_lowercase().replace('_', "-");
        let given = if given == "id-number" {
            "id-card"
        } else {
            &given
        };
        let place = columns.known.iter().position(|name| *name == given);
        match place.map(|place| &mut places[place]) {
            Some(place @ None) => *place = Some(index),
            _ => bail!(
                "{}:1: column {} must be named one of {known}, each once; the first line names the \
                 columns",
                path.display(),
                index + 1
            ),
        }
    }
    for group in columns.needed {
        let is_there = |name| {
            columns
                .known
                .iter()
                .zip(&places)
                .any(|(known, place)| known == name && place.is_some())
        };
        if !group.iter().any(is_there) {
            bail!(
                "{}:1: there is no column {}",
                path.display(),
                group.join(" or ")
            );
        }
    }
    Ok(places)
}

/// The rows of a file as messages, read as they are sent.
pub struct Rows<F> {
    reader: Reader,
    columns: &'static Columns,
    places: Vec<Option<usize>>,
    make: F,
    told: Shared,
    total: u64,
}

impl<F> Rows<F> {
    /// `make` has the row's line and a way to its fields by name; one that is not there is empty.
    pub fn open<M>(path: &Path, columns: &'static Columns, make: F) -> Result<Self>
    where
        F: Fn(u64, &dyn Fn(&str) -> String) -> M,
    {
        let mut reader = open(path)?;
        let places = places(&mut reader, path, columns)?;
        let first = reader.position().clone();
        let mut record = csv::ByteRecord::new();
        let mut total = 0;
        while !matches!(reader.read_byte_record(&mut record), Ok(false)) {
            total += 1;
        }
        reader
            .seek(first)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Rows {
            reader,
            total,
            columns,
            places,
            make,
            told: Shared::default(),
        })
    }

    /// How many there are, good and bad.
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn told(&self) -> Shared {
        Arc::clone(&self.told)
    }

    pub fn into_stream<M>(mut self) -> impl Stream<Item = M>
    where
        F: Fn(u64, &dyn Fn(&str) -> String) -> M,
    {
        stream::iter(std::iter::from_fn(move || self.next()))
    }

    fn next<M>(&mut self) -> Option<M>
    where
        F: Fn(u64, &dyn Fn(&str) -> String) -> M,
    {
        let mut record = StringRecord::new();
        loop {
            match self.reader.read_record(&mut record) {
                Ok(false) => return None,
                Ok(true) => break,
                Err(error) => {
                    let line = line(&self.reader, error.position());
                    let problem = problem(&error);
                    look(&self.told, |told| told.refused.push((line, problem)));
                }
            }
        }
        look(&self.told, |told| told.sent += 1);
        let line = line(&self.reader, record.position());
        let field = |name: &str| {
            let at = self.columns.known.iter().position(|known| *known == name);
            let place = at.and_then(|at| self.places[at]);
            place
                .and_then(|place| record.get(place))
                .unwrap_or_default()
                .to_owned()
        };
        Some((self.make)(line, &field))
    }
}

/// What is wrong with a row.
fn problem(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("it has {len} fields, and the first line names {expected_len}"),
        ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => "it is no row of a CSV file".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: Columns = Columns {
        known: &["a", "b"],
        needed: &[&["a"]],
    };

    /// Whatever ends lines, and whatever lies between them.
    #[test]
    fn rows_have_the_lines_that_an_editor_shows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        for end in ["\n", "\r\n"] {
            let lines = ["b,a", "1,2", "", "", "3,\"4", "4\"", "5", "6,7", ""];
            std::fs::write(&path, lines.join(end)).unwrap();
            let mut rows = Rows::open(&path, &COLUMNS, |line, field| {
                (line, field("a"), field("b"))
            })
            .unwrap();
            assert_eq!(rows.total(), 4);
            let read: Vec<_> = std::iter::from_fn(|| rows.next()).collect();
            let lines: Vec<_> = read.iter().map(|(line, ..)| *line).collect();
            assert_eq!(lines, [2, 5, 8], "{end:?}");
            assert_eq!(read[2], (8, "7".to_owned(), "6".to_owned()));
            let refused = look(&rows.told(), |told| std::mem::take(&mut told.refused));
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].0, 7, "{end:?}");
        }
    }
}
