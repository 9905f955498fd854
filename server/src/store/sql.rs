//! Statements over many rows, in the dialect of the database at hand.
//!
//! A batch of transitions is read and written by a handful of statements, whatever its size. Each
//! comes in few lengths (powers of two), so that the database prepares every one of them once.

use std::fmt::Write as _;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AnyConnection, Arguments as _, AssertSqlSafe, Executor as _};
use uuid::Uuid;

use super::{Result, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    fn placeholder(self, sql: &mut String, number: usize) {
        match self {
            // SQLite looks named parameters up one after the other.
            Dialect::Sqlite => sql.push('?'),
            Dialect::Postgres => {
                let _ = write!(sql, "${number}");
            }
        }
    }
}

/// One value of a row to be written, or of a key to be looked for.
#[derive(Clone, Debug)]
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

impl Value {
    fn add_to(&self, arguments: &mut AnyArguments) -> Result<()> {
        match self {
            Value::Int(value) => arguments.add(*value),
            Value::Text(value) => arguments.add(value.clone()),
            Value::Bytes(value) => arguments.add(value.clone()),
        }
        .map_err(|error| StoreError::Sql(sqlx::Error::Encode(error)))
    }
}

/// SQLite and PostgreSQL have signed 64-bit integers only. Generations and receipt numbers never
/// come near the limit; counters may in theory, and stop there.
pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Most rows of one statement.
const MOST_ROWS: usize = 64;

/// Cuts a list into pieces of the lengths that statements come in.
fn pieces<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let most = rest.len().min(MOST_ROWS);
        // The largest power of two that is not more.
        let length = 1 << most.ilog2();
        let (piece, left) = rest.split_at(length);
        rest = left;
        Some(piece)
    })
}

/// Runs `{before} (?, ?), (?, ?) {after}` for all rows; returns what it returns.
pub(super) async fn with_rows(
    connection: &mut AnyConnection,
    dialect: Dialect,
    before: &str,
    after: &str,
    rows: &[Vec<Value>],
) -> Result<Vec<AnyRow>> {
    let mut returned = Vec::new();
    for piece in pieces(rows) {
        let columns = piece[0].len();
        let mut sql = String::with_capacity(
            before.len() + after.len() + 16 + piece.len() * (columns * 7 + 4),
        );
        sql.push_str(before);
        let mut arguments = AnyArguments::default();
        arguments.reserve(piece.len() * columns, 0);
        let mut number = 0;
        for (index, row) in piece.iter().enumerate() {
            sql.push_str(if index == 0 { " (" } else { ", (" });
            for (column, value) in row.iter().enumerate() {
                if column > 0 {
                    sql.push_str(", ");
                }
                number += 1;
                dialect.placeholder(&mut sql, number);
                value.add_to(&mut arguments)?;
            }
            sql.push(')');
        }
        sql.push(' ');
        sql.push_str(after);
        returned.extend(run(connection, sql, arguments).await?);
    }
    Ok(returned)
}

/// Runs `{before} (?, ?, ?) {after}` for all keys.
pub(super) async fn with_keys(
    connection: &mut AnyConnection,
    dialect: Dialect,
    before: &str,
    after: &str,
    keys: &[Value],
) -> Result<Vec<AnyRow>> {
    let mut returned = Vec::new();
    for piece in pieces(keys) {
        let mut sql = String::with_capacity(before.len() + after.len() + 8 + piece.len() * 5);
        sql.push_str(before);
        sql.push_str(" (");
        let mut arguments = AnyArguments::default();
        for (index, value) in piece.iter().enumerate() {
            if index > 0 {
                sql.push_str(", ");
            }
            dialect.placeholder(&mut sql, index + 1);
            value.add_to(&mut arguments)?;
        }
        sql.push_str(") ");
        sql.push_str(after);
        returned.extend(run(connection, sql, arguments).await?);
    }
    Ok(returned)
}

/// Runs one statement for each list of values; `?` stands for a value.
pub(super) async fn each(
    connection: &mut AnyConnection,
    dialect: Dialect,
    statement: &str,
    lists: &[Vec<Value>],
) -> Result<Vec<AnyRow>> {
    let sql = text(dialect, statement);
    let mut returned = Vec::new();
    for list in lists {
        let mut arguments = AnyArguments::default();
        for value in list {
            value.add_to(&mut arguments)?;
        }
        returned.extend(run(connection, sql.clone(), arguments).await?);
    }
    Ok(returned)
}

/// A statement in which `?` stands for a value.
pub(super) fn text(dialect: Dialect, statement: &str) -> String {
    let mut sql = String::with_capacity(statement.len() + 16);
    let mut number = 0;
    for character in statement.chars() {
        if character == '?' {
            number += 1;
            dialect.placeholder(&mut sql, number);
        } else {
            sql.push(character);
        }
    }
    sql
}

async fn run(
    connection: &mut AnyConnection,
    sql: String,
    arguments: AnyArguments,
) -> Result<Vec<AnyRow>> {
    let query = sqlx::query_with::<Any, _>(AssertSqlSafe(sql), arguments);
    Ok(connection.fetch_all(query).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_lose_nothing() {
        for length in [0usize, 1, 2, 3, 63, 64, 65, 200] {
            let all: Vec<usize> = (0..length).collect();
            let cut: Vec<&[usize]> = pieces(&all).collect();
            assert!(
                cut.iter()
                    .all(|piece| piece.len().is_power_of_two() && piece.len() <= 64)
            );
            assert_eq!(cut.concat(), all);
        }
    }

    #[test]
    fn placeholders_follow_the_dialect() {
        let statement = "SELECT ? WHERE a = ?";
        assert_eq!(text(Dialect::Sqlite, statement), statement);
        assert_eq!(text(Dialect::Postgres, statement), "SELECT $1 WHERE a = $2");
    }
}
