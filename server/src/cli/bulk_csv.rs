//! Rows of a CSV file. What stands in it is never part of an error: it may be anybody's number.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};
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
    /// Why the file could not be read to its end.
    pub unreadable: Option<String>,
}

pub type Shared = Arc<Mutex<Told>>;

/// Looks at what is told, also if the other end has crashed.
pub fn look<T>(told: &Shared, at: impl FnOnce(&mut Told) -> T) -> T {
    at(&mut told.lock().unwrap_or_else(PoisonError::into_inner))
}

fn open(path: &Path) -> Result<Reader<File>> {
    ReaderBuilder::new()
        .trim(Trim::All)
        .from_path(path)
        .map_err(|error| match error.into_kind() {
            ErrorKind::Io(error) => anyhow::Error::from(error),
            _ => anyhow::anyhow!("it is no CSV"),
        })
        .with_context(|| format!("cannot read {}", path.display()))
}

/// Which column each known name is, in the order of the names.
fn places(reader: &mut Reader<File>, path: &Path, columns: &Columns) -> Result<Vec<Option<usize>>> {
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

/// How many rows a file has, good and bad.
pub fn count(path: &Path, columns: &Columns) -> Result<u64> {
    let mut reader = open(path)?;
    places(&mut reader, path, columns)?;
    let mut record = csv::ByteRecord::new();
    let mut count = 0;
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(count),
            Err(error) if error.is_io_error() => {
                bail!("cannot read {}", path.display());
            }
            Ok(true) | Err(_) => count += 1,
        }
    }
}

/// The rows of a file as messages, read as they are sent.
pub struct Rows<F> {
    reader: Reader<File>,
    columns: &'static Columns,
    places: Vec<Option<usize>>,
    make: F,
    told: Shared,
}

impl<F> Rows<F> {
    /// `make` has the row's line and a way to its fields by name; one that is not there is empty.
    pub fn open<M>(path: &Path, columns: &'static Columns, make: F) -> Result<Self>
    where
        F: Fn(u64, &dyn Fn(&str) -> String) -> M,
    {
        let mut reader = open(path)?;
        let places = places(&mut reader, path, columns)?;
        Ok(Rows {
            reader,
            columns,
            places,
            make,
            told: Shared::default(),
        })
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
                    let (line, problem) = bad(&error);
                    match problem {
                        Some(problem) => {
                            look(&self.told, |told| told.refused.push((line, problem)));
                        }
                        None => {
                            let text = format!("the file cannot be read to its end: {error}");
                            look(&self.told, |told| told.unreadable = Some(text));
                            return None;
                        }
                    }
                }
            }
        }
        look(&self.told, |told| told.sent += 1);
        let line = record.position().map_or(0, csv::Position::line);
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

/// The line of a bad row and what is wrong with it; none: it is the file that is bad.
fn bad(error: &csv::Error) -> (u64, Option<String>) {
    let line = error.position().map_or(0, csv::Position::line);
    let problem = match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => Some(format!(
            "it has {len} fields, and the first line names {expected_len}"
        )),
        ErrorKind::Utf8 { .. } => Some("it is not UTF-8".to_owned()),
        _ => None,
    };
    (line, problem)
}
