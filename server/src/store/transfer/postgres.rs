//! Rows out of and into PostgreSQL: read as one query for each table, written by `COPY`.

use std::fmt::Write as _;
use std::io::{BufRead, Write};

use doorstep_daemon::dry_run::Run;
use futures::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};

use super::file::{Reader, Writer};
use super::schema::{Cell, Kind, Schema, Table};
use super::{Migrated, Result, check_empty, check_version};
use crate::store::sql::postgres::{Postgres, failed};
use crate::store::{Database, StoreError, migrate as migrations};

/// Bytes sent to `COPY` at once.
const CHUNK: usize = 256 * 1024;

async fn open(database: &Database, url: &str) -> Result<PgConnection> {
    let unopened = |error: sqlx::Error| StoreError::Open {
        database: database.to_string(),
        reason: error.to_string(),
    };
    let options: PgConnectOptions = url.parse().map_err(unopened)?;
    Ok(options
        .application_name("doorstep-server database")
        // A server that is busy with the tables is waited for, but not for ever.
        .options([("lock_timeout", "30s")])
        .connect()
        .await
        .map_err(unopened)?)
}

/// 0: it has none yet.
async fn version(connection: &mut PgConnection) -> Result<i64> {
    let has_one: bool = sqlx::query_scalar("SELECT to_regclass('schema_version') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !has_one {
        return Ok(0);
    }
    Ok(sqlx::query_scalar(migrations::VERSION)
        .fetch_one(connection)
        .await
        .map_err(failed)?)
}

pub async fn migrate(database: &Database, url: &str) -> Result<Migrated> {
    let mut connection = open(database, url).await?;
    let from = version(&mut connection).await?;
    let postgres = Postgres::open(url)
        .await
        .map_err(|error| StoreError::Open {
            database: database.to_string(),
            reason: error.to_string(),
        })?;
    let migrated = migrations::postgres(postgres.pool()).await;
    postgres.close().await;
    migrated?;
    let to = version(&mut connection).await?;
    Ok(Migrated { from, to })
}

/// In a transaction, which is undone when the connection ends.
pub async fn trial(database: &Database, url: &str) -> Result<(PgConnection, Migrated)> {
    let mut connection = open(database, url).await?;
    let from = version(&mut connection).await?;
    connection.execute("BEGIN").await.map_err(failed)?;
    migrations::postgres_within(&mut connection).await?;
    let to = version(&mut connection).await?;
    Ok((connection, Migrated { from, to }))
}

pub async fn export(
    database: &Database,
    url: &str,
    schema: &Schema,
    writer: &mut Writer<impl Write>,
) -> Result<()> {
    let mut connection = open(database, url).await?;
    // All of its reads are as of its first one, and it keeps nobody waiting.
    connection
        .execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await
        .map_err(failed)?;
    let version = version(&mut connection).await?;
    check_version(database, version, schema.version)?;
    for table in &schema.tables {
        writer.table(table)?;
        let select = AssertSqlSafe(table.select(" COLLATE \"C\""));
        let mut rows = sqlx::query(select).fetch(&mut connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let cells = table
                .columns
                .iter()
                .enumerate()
                .map(|(index, (_, kind))| cell(&row, index, *kind))
                .collect::<sqlx::Result<_>>()
                .map_err(failed)?;
            writer.row(table, cells)?;
        }
    }
    Ok(())
}

pub async fn import(
    database: &Database,
    url: &str,
    schema: &Schema,
    reader: &mut Reader<'_, impl BufRead>,
    run: Run,
) -> Result<()> {
    let mut connection = match run {
        Run::Dry => trial(database, url).await?.0,
        Run::Real => {
            migrate(database, url).await?;
            let mut connection = open(database, url).await?;
            connection.execute("BEGIN").await.map_err(failed)?;
            connection
        }
    };
    let names: Vec<&str> = schema.all_names().collect();
    // A server that comes meanwhile waits. What is not committed is undone when the connection ends.
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", "));
    connection
        .execute(sqlx::raw_sql(AssertSqlSafe(lock)))
        .await
        .map_err(failed)?;
    let mut with_rows = Vec::new();
    for name in &names {
        let any = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {name})"));
        let any: bool = sqlx::query_scalar(any)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if any {
            with_rows.push(*name);
        }
    }
    check_empty(database, &with_rows)?;
    while let Some(table) = reader.next_table()? {
        copy(&mut connection, table, reader).await?;
    }
    let end = match run {
        Run::Real => "COMMIT",
        Run::Dry => "ROLLBACK",
    };
    connection.execute(end).await.map_err(failed)?;
    Ok(())
}

async fn copy(
    connection: &mut PgConnection,
    table: &Table,
    reader: &mut Reader<'_, impl BufRead>,
) -> Result<()> {
    let copy = format!("COPY {} ({}) FROM STDIN", table.name, table.column_list());
    let mut copy = connection.copy_in_raw(&copy).await.map_err(failed)?;
    let mut chunk = String::with_capacity(CHUNK + 4096);
    loop {
        let next = reader.next_row(table);
        let Ok(row) = next else {
            // The connection must not be left in the midst of it.
            let _ = copy.abort("the file cannot be read").await;
            return next.map(drop);
        };
        let ended = row.is_none();
        if let Some(cells) = row {
            line(&mut chunk, &cells);
        }
        if chunk.len() >= CHUNK || (ended && !chunk.is_empty()) {
            copy.send(chunk.as_bytes()).await.map_err(failed)?;
            chunk.clear();
        }
        if ended {
            copy.finish().await.map_err(failed)?;
            return Ok(());
        }
    }
}

/// A row in the text format of `COPY`.
fn line(to: &mut String, cells: &[Cell]) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            to.push('\t');
        }
        match cell {
            Cell::Null => to.push_str("\\N"),
            Cell::Int(value) => {
                // Writing to a String cannot fail.
                let _ = write!(to, "{value}");
            }
            Cell::Text(value) => {
                for character in value.chars() {
                    match character {
                        '\\' => to.push_str("\\\\"),
                        '\n' => to.push_str("\\n"),
                        '\r' => to.push_str("\\r"),
                        '\t' => to.push_str("\\t"),
                        other => to.push(other),
                    }
                }
            }
            Cell::Bytes(value) => {
                to.push_str("\\\\x");
                for byte in value {
                    let _ = write!(to, "{byte:02x}");
                }
            }
        }
    }
    to.push('\n');
}

fn cell(row: &PgRow, index: usize, kind: Kind) -> sqlx::Result<Cell> {
    Ok(match kind {
        Kind::Int => row
            .try_get::<Option<_>, _>(index)?
            .map_or(Cell::Null, Cell::Int),
        Kind::Text => row
            .try_get::<Option<_>, _>(index)?
            .map_or(Cell::Null, Cell::Text),
        Kind::Bytes => row
            .try_get::<Option<_>, _>(index)?
            .map_or(Cell::Null, Cell::Bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_lines_whatever_is_in_them() {
        let mut text = String::new();
        line(
            &mut text,
            &[
                Cell::Null,
                Cell::Int(-7),
                Cell::Text("a\tb\\N\r\nc".to_owned()),
                Cell::Text(String::new()),
                Cell::Bytes(vec![0, 10, 255]),
            ],
        );
        assert_eq!(text, "\\N\t-7\ta\\tb\\\\N\\r\\nc\t\t\\\\x000aff\n");
    }
}
