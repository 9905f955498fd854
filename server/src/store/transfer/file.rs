//! The file: lines of JSON.
//!
//! | line | is |
//! |---|---|
//! | first | `{"doorstep_database": 1, "schema": 2, "operator": "…"}`, the first number being the format's |
//! | of each table | `{"table": "leases", "columns": [["gateway", "text"], ["place", "int"], …]}` |
//! | of each row of it | an array with a value for each column; `bytes` are text in Base64 |
//! | last | `{"rows": {"leases": 3, …}, "sha256": "…"}`, the digest of all bytes before this line |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, Read as _, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::schema::{Cell, Kind, Schema, Table};
use super::{Result, TransferError};

/// Of this file; another one is refused.
pub const FORMAT: u64 = 1;

/// Longest line that is read: more than any row has.
const MAX_LINE_LEN: u64 = 16 << 20;

#[derive(Deserialize, Serialize)]
struct Header {
    doorstep_database: u64,
    schema: i64,
    operator: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TableLine {
    table: String,
    columns: Vec<(String, Kind)>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    rows: BTreeMap<String, u64>,
    sha256: String,
}

/// What was written or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub schema: i64,
    /// By table.
    pub rows: BTreeMap<String, u64>,
    /// In hexadecimal digits.
    pub sha256: String,
}

fn hex(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Writes an export, table by table.
pub struct Writer<W> {
    out: W,
    hasher: Sha256,
    line: Vec<u8>,
    schema: i64,
    rows: BTreeMap<String, u64>,
}

impl<W: Write> Writer<W> {
    pub fn begin(out: W, schema: i64, operator: &str) -> Result<Self> {
        let mut writer = Writer {
            out,
            hasher: Sha256::new(),
            line: Vec::new(),
            schema,
            rows: BTreeMap::new(),
        };
        writer.json(&Header {
            doorstep_database: FORMAT,
            schema,
            operator: operator.to_owned(),
        })?;
        Ok(writer)
    }

    pub fn table(&mut self, table: &Table) -> Result<()> {
        self.rows.insert(table.name.clone(), 0);
        self.json(&TableLine {
            table: table.name.clone(),
            columns: table.columns.clone(),
        })
    }

    /// Of the table that was begun last.
    pub fn row(&mut self, table: &Table, cells: Vec<Cell>) -> Result<()> {
        let row: Vec<Json> = cells
            .into_iter()
            .map(|cell| match cell {
                Cell::Null => Json::Null,
                Cell::Int(value) => value.into(),
                Cell::Text(value) => value.into(),
                Cell::Bytes(value) => STANDARD.encode(value).into(),
            })
            .collect();
        *self.rows.entry(table.name.clone()).or_default() += 1;
        self.json(&row)
    }

    pub fn finish(mut self) -> Result<Summary> {
        let sha256 = hex(std::mem::take(&mut self.hasher));
        let rows = self.rows.clone();
        self.json(&Trailer {
            rows: rows.clone(),
            sha256: sha256.clone(),
        })?;
        self.out.flush().map_err(TransferError::Write)?;
        Ok(Summary {
            schema: self.schema,
            rows,
            sha256,
        })
    }

    fn json(&mut self, value: &impl Serialize) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, value)
            .map_err(|error| TransferError::Write(error.into()))?;
        self.line.push(b'\n');
        self.hasher.update(&self.line);
        self.out.write_all(&self.line).map_err(TransferError::Write)
    }
}

/// Reads an export, table by table. Only once `next_table` has returned none is it known to be whole.
pub struct Reader<'s, R> {
    input: R,
    schema: &'s Schema,
    hasher: Sha256,
    line: Vec<u8>,
    number: u64,
    /// `line` was read, and nobody has taken it.
    waits: bool,
    rows: BTreeMap<String, u64>,
    summary: Option<Summary>,
}

impl<'s, R: BufRead> Reader<'s, R> {
    pub fn begin(input: R, schema: &'s Schema, operator: &str) -> Result<Self> {
        let mut reader = Reader {
            input,
            schema,
            hasher: Sha256::new(),
            line: Vec::new(),
            number: 0,
            waits: false,
            rows: BTreeMap::new(),
            summary: None,
        };
        if !reader.read_line()? {
            return Err(TransferError::NoExport);
        }
        // The format first: another one may have another header.
        let header: Json =
            serde_json::from_slice(&reader.line).map_err(|_| TransferError::NoExport)?;
        match header["doorstep_database"].as_u64() {
            None => return Err(TransferError::NoExport),
            Some(FORMAT) => {}
            Some(found) => return Err(TransferError::Format { found }),
        }
        let header: Header = serde_json::from_value(header).map_err(|_| TransferError::NoExport)?;
        if header.schema != schema.version {
            return Err(TransferError::FileSchema {
                found: header.schema,
                newest: schema.version,
            });
        }
        if header.operator != operator {
            return Err(TransferError::Operator {
                found: header.operator,
                own: operator.to_owned(),
            });
        }
        reader.take_line();
        Ok(reader)
    }

    /// The table whose rows come next; none: that was the last one, and the file is whole.
    pub fn next_table(&mut self) -> Result<Option<&'s Table>> {
        if self.summary.is_some() {
            return Ok(None);
        }
        if !self.waits && !self.read_line()? {
            return Err(TransferError::CutOff { line: self.number });
        }
        if let Ok(trailer) = serde_json::from_slice::<Trailer>(&self.line) {
            self.end(trailer)?;
            return Ok(None);
        }
        let given: TableLine = serde_json::from_slice(&self.line)
            .map_err(|error| self.wrong_line("neither a table nor the last line", &error))?;
        let schema = self.schema;
        let table = schema
            .table(&given.table)
            .filter(|table| table.columns == given.columns)
            .ok_or_else(|| self.wrong("a table that this schema version has not"))?;
        if self.rows.insert(given.table, 0).is_some() {
            return Err(self.wrong("a table that came before"));
        }
        self.take_line();
        Ok(Some(table))
    }

    /// The next row of the table; none: all have come.
    pub fn next_row(&mut self, table: &Table) -> Result<Option<Vec<Cell>>> {
        if !self.waits && !self.read_line()? {
            return Err(TransferError::CutOff { line: self.number });
        }
        if self.line.first() != Some(&b'[') {
            return Ok(None);
        }
        let given: Vec<Json> = serde_json::from_slice(&self.line)
            .map_err(|error| self.wrong_line("not a row", &error))?;
        if given.len() != table.columns.len() {
            return Err(self.wrong("a row with a wrong number of values"));
        }
        let cells = given
            .into_iter()
            .zip(&table.columns)
            .map(|(value, (name, kind))| {
                cell(value, *kind)
                    .ok_or_else(|| self.wrong(&format!("{}.{name} is of another type", table.name)))
            })
            .collect::<Result<_>>()?;
        *self.rows.entry(table.name.clone()).or_default() += 1;
        self.take_line();
        Ok(Some(cells))
    }

    /// What was read, after the last table.
    pub fn finish(self) -> Result<Summary> {
        self.summary
            .ok_or(TransferError::CutOff { line: self.number })
    }

    fn end(&mut self, trailer: Trailer) -> Result<()> {
        // The last line is not a part of what it proves.
        if hex(std::mem::take(&mut self.hasher)) != trailer.sha256 {
            return Err(TransferError::Changed);
        }
        let all = self.schema.tables.len();
        if trailer.rows != self.rows || self.rows.len() != all {
            return Err(self.wrong("the last line counts other tables and rows than there are"));
        }
        self.waits = false;
        if self.read_line()? {
            return Err(self.wrong("the file goes on after its last line"));
        }
        self.summary = Some(Summary {
            schema: self.schema.version,
            rows: trailer.rows,
            sha256: trailer.sha256,
        });
        Ok(())
    }

    /// `false` at the end of the file. A last line that is not ended was cut off.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        let mut input = self.input.by_ref().take(MAX_LINE_LEN);
        input
            .read_until(b'\n', &mut self.line)
            .map_err(|source| TransferError::Read {
                line: self.number,
                source,
            })?;
        if self.line.is_empty() {
            return Ok(false);
        }
        self.number += 1;
        if self.line.len() as u64 == MAX_LINE_LEN {
            return Err(self.wrong("longer than any row"));
        }
        if self.line.last() != Some(&b'\n') {
            return Err(TransferError::CutOff { line: self.number });
        }
        self.waits = true;
        Ok(true)
    }

    fn take_line(&mut self) {
        self.hasher.update(&self.line);
        self.waits = false;
    }

    fn wrong(&self, problem: &str) -> TransferError {
        TransferError::Form {
            line: self.number,
            problem: problem.to_owned(),
        }
    }

    /// Where it is wrong, without what stands there.
    fn wrong_line(&self, problem: &str, error: &serde_json::Error) -> TransferError {
        self.wrong(&format!("{problem} (column {})", error.column()))
    }
}

fn cell(value: Json, kind: Kind) -> Option<Cell> {
    Some(match (kind, value) {
        (_, Json::Null) => Cell::Null,
        (Kind::Int, Json::Number(value)) => Cell::Int(value.as_i64()?),
        (Kind::Text, Json::String(value)) => Cell::Text(value),
        (Kind::Bytes, Json::String(value)) => Cell::Bytes(STANDARD.decode(value).ok()?),
        _ => return None,
    })
}
