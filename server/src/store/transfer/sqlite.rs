//! Rows out of and into a SQLite file, on a connection of their own beside the server's.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use doorstep_daemon::dry_run::Run;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql};

use super::file::{Reader, Writer};
use super::schema::{self, Cell, Schema};
use super::{Migrated, Result, check_empty, check_version};
use crate::store::sql::sqlite::failed;
use crate::store::{Database, StoreError, database, migrate as migrations};

pub fn open(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let open = |source| StoreError::Sqlite {
        path: PathBuf::from(path),
        source,
    };
    let connection =
        Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(open)?;
    connection
        .execute_batch("PRAGMA busy_timeout = 5000")
        .map_err(open)?;
    Ok(connection)
}

/// The connection as well, for what is done next.
pub fn migrate(path: &Path) -> Result<(Connection, Migrated)> {
    database::private_file(path).map_err(|error| StoreError::Open {
        database: path.display().to_string(),
        reason: error.to_string(),
    })?;
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL";
    connection.execute_batch(settings).map_err(failed)?;
    let from = schema::version(&connection)?;
    migrations::sqlite(&mut connection)?;
    let to = schema::version(&connection)?;
    Ok((connection, Migrated { from, to }))
}

/// In a transaction, which is undone when the connection is dropped. Where there is no file, in a database of no
/// name that is gone then.
pub fn trial(path: &Path) -> Result<(Connection, Migrated)> {
    let connection = if path.exists() {
        open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?
    } else {
        let mode = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        open(Path::new(""), mode)?
    };
    let from = schema::version(&connection)?;
    connection
        .execute_batch("BEGIN EXCLUSIVE")
        .map_err(failed)?;
    migrations::sqlite_within(&connection)?;
    let to = schema::version(&connection)?;
    Ok((connection, Migrated { from, to }))
}

pub fn export(
    database: &Database,
    path: &Path,
    schema: &Schema,
    writer: &mut Writer<impl Write>,
) -> Result<()> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // All that is read in one transaction is as of its first read.
    connection.execute_batch("BEGIN").map_err(failed)?;
    check_version(database, schema::version(&connection)?, schema.version)?;
    for table in &schema.tables {
        writer.table(table)?;
        let mut statement = connection.prepare(&table.select("")).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let cells = (0..table.columns.len())
                .map(|index| cell(row.get_ref(index).map_err(failed)?))
                .collect::<Result<_>>()?;
            writer.row(table, cells)?;
        }
    }
    Ok(())
}

pub fn import(
    database: &Database,
    path: &Path,
    schema: &Schema,
    reader: &mut Reader<'_, impl BufRead>,
    run: Run,
) -> Result<()> {
    // What is not committed is undone when the connection is dropped.
    let connection = match run {
        Run::Dry => trial(path)?.0,
        Run::Real => {
            let (connection, _) = migrate(path)?;
            let begun = connection.execute_batch("BEGIN EXCLUSIVE");
            begun.map_err(failed)?;
            connection
        }
    };
    let mut with_rows = Vec::new();
    for name in schema.all_names() {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {name})");
        if connection
            .query_row(&any, [], |row| row.get(0))
            .map_err(failed)?
        {
            with_rows.push(name);
        }
    }
    check_empty(database, &with_rows)?;
    while let Some(table) = reader.next_table()? {
        let marks = vec!["?"; table.columns.len()].join(", ");
        let insert = format!(
            "INSERT INTO {} ({}) VALUES ({marks})",
            table.name,
            table.column_list()
        );
        let mut insert = connection.prepare(&insert).map_err(failed)?;
        while let Some(cells) = reader.next_row(table)? {
            insert
                .execute(rusqlite::params_from_iter(&cells))
                .map_err(failed)?;
        }
    }
    let end = match run {
        Run::Real => "COMMIT",
        Run::Dry => "ROLLBACK",
    };
    Ok(connection.execute_batch(end).map_err(failed)?)
}

fn cell(value: ValueRef<'_>) -> Result<Cell> {
    let unreadable = |what: &str| StoreError::Failed(format!("a row holds {what}"));
    Ok(match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Int(value),
        ValueRef::Text(value) => Cell::Text(
            String::from_utf8(value.to_vec()).map_err(|_| unreadable("text that is not UTF-8"))?,
        ),
        ValueRef::Blob(value) => Cell::Bytes(value.to_vec()),
        ValueRef::Real(_) => return Err(unreadable("a fraction, which no column is for").into()),
    })
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Int(value) => ValueRef::Integer(*value),
            Cell::Text(value) => ValueRef::Text(value.as_bytes()),
            Cell::Bytes(value) => ValueRef::Blob(value),
        }))
    }
}
