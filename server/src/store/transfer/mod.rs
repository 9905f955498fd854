//! A whole database in one file, to be put into another one: from SQLite to PostgreSQL, or back.
//!
//! What is sealed or indexed stays so: the file is as secret as the database, and opens with the
//! same identity keys only.

mod backup;
mod file;
mod postgres;
mod schema;
mod sqlite;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

pub use backup::{Backup, backup};
pub use file::{FORMAT, Summary};

use doorstep_daemon::dry_run::Run;

use super::{Database, StoreError};
use schema::Schema;

/// Why a database was not moved. Texts never hold a value of a row.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the export: {0}; see that the disk is not full")]
    Write(io::Error),
    #[error("cannot read the file after line {line}: {source}")]
    Read { line: u64, source: io::Error },
    #[error("line {line}: {problem}; the file was changed or is damaged, export anew")]
    Form { line: u64, problem: String },
    #[error("this is no export of a database: its first line is not an export's header")]
    NoExport,
    #[error(
        "the file has format {found}, and this server reads format {FORMAT} only: import it with \
         the release that wrote it"
    )]
    Format { found: u64 },
    #[error(
        "the file has schema version {found}, and this server's is {newest}: import it with the \
         release that wrote it; then `database migrate` brings it up to date"
    )]
    FileSchema { found: i64, newest: i64 },
    #[error("the file is of operator {found}, and this server is of operator {own}")]
    Operator { found: String, own: String },
    #[error("the file was cut off: it ends with line {line}, without an export's last line")]
    CutOff { line: u64 },
    #[error(
        "the file was changed: it has not the SHA-256 that its last line says it was written with"
    )]
    Changed,
    #[error("{database} is not empty: there are rows in {tables}; import into a new database")]
    NotEmpty { database: String, tables: String },
    #[error(
        "{database} has schema version {version}, and this server's is {newest}: bring it up to \
         date with `database migrate` first"
    )]
    Behind {
        database: String,
        version: i64,
        newest: i64,
    },
    #[error(
        "{database} is backed up by PostgreSQL's own means: pg_dump, or an archive of its log. \
         `database export` writes a file that other databases can import"
    )]
    OnlySqlite { database: String },
    #[error("{} is there already; it is not overwritten", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the backup is not sound: {0}; it was thrown away")]
    Unsound(String),
}

pub type Result<T> = std::result::Result<T, TransferError>;

/// Schema versions; 0: the database was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    pub from: i64,
    pub to: i64,
}

/// Brings the schema up to date, and makes the database where there is none. A dry run does so in a transaction
/// that it undoes.
pub async fn migrate(database: &Database, run: Run) -> Result<Migrated> {
    Ok(match (database, run) {
        (Database::Sqlite(path), Run::Real) => sqlite::migrate(path)?.1,
        (Database::Sqlite(path), Run::Dry) => sqlite::trial(path)?.1,
        (Database::Postgres(url), Run::Real) => postgres::migrate(database, url).await?,
        (Database::Postgres(url), Run::Dry) => postgres::trial(database, url).await?.1,
    })
}

/// Writes every row, as of one moment, whatever servers do meanwhile.
pub async fn export(database: &Database, operator: &str, out: impl Write) -> Result<Summary> {
    let schema = Schema::newest()?;
    let mut writer = file::Writer::begin(out, schema.version, operator)?;
    match database {
        Database::Sqlite(path) => sqlite::export(database, path, &schema, &mut writer)?,
        Database::Postgres(url) => postgres::export(database, url, &schema, &mut writer).await?,
    }
    writer.finish()
}

/// Puts all rows of an export into an empty database, or none; a dry run does so in a transaction that it undoes.
pub async fn import(
    database: &Database,
    operator: &str,
    input: impl BufRead,
    run: Run,
) -> Result<Summary> {
    let schema = Schema::newest()?;
    let mut reader = file::Reader::begin(input, &schema, operator)?;
    match database {
        Database::Sqlite(path) => sqlite::import(database, path, &schema, &mut reader, run)?,
        Database::Postgres(url) => {
            postgres::import(database, url, &schema, &mut reader, run).await?;
        }
    }
    reader.finish()
}

/// That this server may read the rows as it knows them.
fn check_version(database: &Database, version: i64, newest: i64) -> Result<()> {
    if version > newest {
        return Err(StoreError::Newer { version, newest }.into());
    }
    if version < newest {
        return Err(TransferError::Behind {
            database: database.to_string(),
            version,
            newest,
        });
    }
    Ok(())
}

fn check_empty(database: &Database, with_rows: &[&str]) -> Result<()> {
    if with_rows.is_empty() {
        return Ok(());
    }
    Err(TransferError::NotEmpty {
        database: database.to_string(),
        tables: with_rows.join(", "),
    })
}
