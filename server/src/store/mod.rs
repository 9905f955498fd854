//! The database: the only module with SQL. One writer, many readers; each transition is one
//! transaction, durable when `commit` returns.

pub mod leases;
mod lists;
mod receipts;
mod requests;
mod sessions;
mod steps;
mod subscribers;

use std::borrow::Cow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr as _, Sqlite, SqlitePool, Transaction};

pub use lists::{GatewayRow, Page, StatusCounts};
pub use receipts::{Counters, ReceiptRow};
pub use requests::Answer;
pub use sessions::SessionRow;
pub use steps::{StepRow, Who};
pub use subscribers::{NewSubscriber, SubscriberRow};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open the database {}: {source}; see that the folder exists and is writable, and that the disk is not full", path.display())]
    Open { path: PathBuf, source: sqlx::Error },
    #[error("cannot bring the database {} to this version's schema: {source}; a newer version may have written it", path.display())]
    Migrate {
        path: PathBuf,
        source: sqlx::migrate::MigrateError,
    },
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    #[error(
        "row {id} of table {table} has an unreadable {column}; the database was changed by something else"
    )]
    Unreadable {
        table: &'static str,
        id: String,
        column: &'static str,
    },
    #[error("session {0} was changed at the same time; ask again")]
    Conflict(uuid::Uuid),
    #[error("the {family} pool of gateway {gateway} is exhausted; give it a larger one")]
    PoolExhausted {
        gateway: String,
        family: &'static str,
    },
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// An open database.
#[derive(Clone, Debug)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// One transaction of the writer. Dropped without `commit`, it never was.
pub struct Tx {
    inner: Transaction<'static, Sqlite>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let open = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        // SQLite gives its journal files the mode of the database file.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| open(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: a committed transaction outlives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await
            .map_err(open)?;
        migrator()
            .run(&writer)
            .await
            .map_err(|source| StoreError::Migrate {
                path: path.to_owned(),
                source,
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .min_connections(1)
            .connect_with(options.read_only(true))
            .await
            .map_err(open)?;
        Ok(Store { writer, readers })
    }

    /// Begins a writing transaction; waits for the one before.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx {
            inner: self.writer.begin_with("BEGIN IMMEDIATE").await?,
        })
    }

    /// Waits for what is under way and closes the files.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }
}

fn migrator() -> Migrator {
    let migration = |version, name, sql: &'static str| {
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    let migrations = vec![
        migration(1, "init", include_str!("migrations/0001_init.sql")),
        migration(2, "services", include_str!("migrations/0002_services.sql")),
        migration(
            3,
            "line_prefixes",
            include_str!("migrations/0003_line_prefixes.sql"),
        ),
    ];
    Migrator::with_migrations(migrations)
}

/// SQLite and PostgreSQL have signed 64-bit integers only. Generations and receipt numbers never
/// come near the limit; counters may in theory, and stop there.
fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;
