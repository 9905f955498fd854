//! Statements over many rows, and the two databases that run them.
//!
//! A batch of transitions is read and written by a handful of statements, whatever its size. What
//! the databases have in common is said once; how many rows are given to one statement is each one's
//! own affair: SQLite runs it for each row, which costs nothing within a process, PostgreSQL takes
//! all rows as arrays, so that there is one way to the server and back.

mod checkpoint;
pub(super) mod postgres;
pub(super) mod sqlite;

use std::sync::Arc;

use uuid::Uuid;

use super::{Result, StoreError};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

macro_rules! value_from {
    ($($kind:ty => |$value:ident| $made:expr),* $(,)?) => {$(
        impl From<$kind> for Value {
            fn from($value: $kind) -> Value {
                $made
            }
        }
    )*};
}

value_from! {
    i64 => |value| Value::Int(Some(value)),
    Option<i64> => |value| Value::Int(value),
    u64 => |value| Value::Int(Some(to_i64(value))),
    &str => |value| Value::Text(Some(value.to_owned())),
    String => |value| Value::Text(Some(value)),
    Option<String> => |value| Value::Text(value),
    Option<&str> => |value| Value::Text(value.map(ToOwned::to_owned)),
    Uuid => |value| Value::Bytes(Some(value.as_bytes().to_vec())),
    Option<Uuid> => |value| Value::Bytes(value.map(|id| id.as_bytes().to_vec())),
    &[u8] => |value| Value::Bytes(Some(value.to_vec())),
    Option<&[u8]> => |value| Value::Bytes(value.map(<[u8]>::to_vec)),
}

/// SQLite and PostgreSQL have signed 64-bit integers only. Generations and receipt numbers never
/// come near the limit; counters may in theory, and stop there.
pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// How a statement takes its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `INSERT INTO t (…)` rows `ON CONFLICT …`
    Insert,
    /// The same, and every row must be written: each is returned.
    InsertAll,
    /// `… WHERE (a, b)` is one of the rows.
    Match,
    /// `SELECT … FROM` the rows, as `given (a, b, c)`, `JOIN …`
    Join,
    /// Each `?` is a value; there is one row.
    Marks,
}

/// A statement: what stands before its rows, and behind them.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub takes: Takes,
    pub before: &'static str,
    pub after: &'static str,
    pub rows: Vec<Vec<Value>>,
}

impl Statement {
    pub fn new(
        takes: Takes,
        (before, after): (&'static str, &'static str),
        rows: Vec<Vec<Value>>,
    ) -> Self {
        Statement {
            takes,
            before,
            after,
            rows,
        }
    }

    /// Of single keys: `… WHERE id` is one of them.
    pub fn keys(before: &'static str, keys: Vec<Value>) -> Self {
        let rows = keys.into_iter().map(|key| vec![key]).collect();
        Self::new(Takes::Match, (before, ""), rows)
    }

    pub fn marks(text: &'static str, values: Vec<Value>) -> Self {
        Self::new(Takes::Marks, (text, ""), vec![values])
    }

    /// Whether as much came back as must.
    fn check(&self, returned: usize) -> Result<()> {
        if self.takes == Takes::InsertAll && returned != self.rows.len() {
            return Err(StoreError::Conflict);
        }
        Ok(())
    }
}

/// Names for the columns of rows that are joined with.
const GIVEN: [&str; 3] = ["a", "b", "c"];

/// What a statement returns.
#[derive(Debug)]
pub(super) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    /// Reads the columns in the order in which they were selected.
    pub fn read(&self) -> Reader<'_> {
        Reader { row: self, at: 0 }
    }
}

pub(super) struct Reader<'a> {
    row: &'a Row,
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<&Value> {
        let value = self.row.values.get(self.at);
        self.at += 1;
        value.ok_or_else(|| StoreError::Failed("a statement returned too few columns".to_owned()))
    }

    fn wrong(&self) -> StoreError {
        let column = self.row.columns.get(self.at.wrapping_sub(1));
        StoreError::Failed(format!(
            "column {} holds what it never should; the database was changed by something else",
            column.map_or("?", String::as_str)
        ))
    }

    pub fn optional_int(&mut self) -> Result<Option<i64>> {
        match self.next()? {
            Value::Int(value) => Ok(*value),
            Value::Text(None) | Value::Bytes(None) => Ok(None),
            _ => Err(self.wrong()),
        }
    }

    pub fn optional_text(&mut self) -> Result<Option<String>> {
        match self.next()? {
            Value::Text(value) => Ok(value.clone()),
            Value::Int(None) | Value::Bytes(None) => Ok(None),
            _ => Err(self.wrong()),
        }
    }

    pub fn optional_bytes(&mut self) -> Result<Option<Vec<u8>>> {
        match self.next()? {
            Value::Bytes(value) => Ok(value.clone()),
            Value::Int(None) | Value::Text(None) => Ok(None),
            _ => Err(self.wrong()),
        }
    }

    pub fn int(&mut self) -> Result<i64> {
        self.optional_int()?.ok_or_else(|| self.wrong())
    }

    pub fn number(&mut self) -> Result<u64> {
        Ok(to_u64(self.int()?))
    }

    pub fn text(&mut self) -> Result<String> {
        self.optional_text()?.ok_or_else(|| self.wrong())
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        self.optional_bytes()?.ok_or_else(|| self.wrong())
    }

    pub fn id(&mut self) -> Result<Uuid> {
        self.optional_id()?.ok_or_else(|| self.wrong())
    }

    pub fn optional_id(&mut self) -> Result<Option<Uuid>> {
        match self.optional_bytes()? {
            None => Ok(None),
            Some(bytes) => Uuid::from_slice(&bytes).map(Some).map_err(|_| self.wrong()),
        }
    }

    /// Text as a type of ours.
    pub fn parsed<T: std::str::FromStr>(&mut self) -> Result<T> {
        self.optional_parsed()?.ok_or_else(|| self.wrong())
    }

    pub fn optional_parsed<T: std::str::FromStr>(&mut self) -> Result<Option<T>> {
        match self.optional_text()? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| self.wrong()),
        }
    }
}

/// One of the two databases.
#[derive(Clone)]
pub(super) enum Backend {
    Sqlite(Arc<sqlite::Sqlite>),
    Postgres(postgres::Postgres),
}

impl Backend {
    /// Whether nobody else writes to it.
    pub fn is_own(&self) -> bool {
        matches!(self, Backend::Sqlite(_))
    }

    /// Runs statements that only read, each for itself.
    pub async fn read(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.read(statements).await,
            Backend::Postgres(postgres) => postgres.read(&statements).await,
        }
    }

    /// Runs statements as whoever writes next sees the database.
    pub async fn read_to_write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.read_to_write(statements).await,
            Backend::Postgres(postgres) => postgres.read(&statements).await,
        }
    }

    /// Runs statements as one transaction, durable when it returns.
    pub async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.write(statements).await,
            Backend::Postgres(postgres) => postgres.write(&statements).await,
        }
    }

    /// The same for statements that write different rows and whose answers nobody needs.
    pub async fn commit(&self, statements: Vec<Statement>) -> Result<()> {
        match self {
            Backend::Sqlite(sqlite) => sqlite.write(statements).await.map(drop),
            Backend::Postgres(postgres) => postgres.commit(&statements).await,
        }
    }

    pub async fn close(&self) {
        match self {
            Backend::Sqlite(sqlite) => sqlite.close(),
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}
