//! Which database, how it is opened, and its schema.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr as _};

use super::sql::Dialect;
use super::{Result, StoreError};

/// Where an operator's tables are.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of one server's own.
    Sqlite(PathBuf),
    /// `postgres://…`, shared by all servers of one operator.
    Postgres(String),
}

impl Database {
    /// Of a configuration or a command line: `postgres://…`, or `sqlite:` and a path.
    pub fn parse(text: &str) -> std::result::Result<Database, &'static str> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Database::Postgres(text.to_owned()))
        } else if let Some(path) = text.strip_prefix("sqlite:")
            && !path.is_empty()
        {
            Ok(Database::Sqlite(path.into()))
        } else {
            Err("must be postgres://USER@HOST/NAME, or sqlite:PATH")
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Database::Sqlite(_) => Dialect::Sqlite,
            Database::Postgres(_) => Dialect::Postgres,
        }
    }

    fn url(&self, mode: &str) -> String {
        match self {
            Database::Sqlite(path) => {
                let mut url = String::from("sqlite://");
                for byte in path.as_os_str().as_encoded_bytes() {
                    if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
                        url.push(char::from(*byte));
                    } else {
                        url.push_str(&format!("%{byte:02X}"));
                    }
                }
                url.push_str("?mode=");
                url.push_str(mode);
                url
            }
            Database::Postgres(url) => url.clone(),
        }
    }
}

/// Never with a password in it.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Sqlite(path) => write!(f, "{}", path.display()),
            Database::Postgres(url) => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                write!(f, "postgres://{place}")
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

/// Connections to a database with this version's schema.
pub(super) struct Opened {
    pub writers: AnyPool,
    pub readers: AnyPool,
}

/// Batches of transitions that may be under way at the same time.
pub(super) fn lanes(database: &Database) -> u32 {
    match database {
        // It has one writer at a time; a second one would only wait.
        Database::Sqlite(_) => 1,
        Database::Postgres(_) => 4,
    }
}

const READERS: u32 = 8;

pub(super) async fn open(database: &Database) -> Result<Opened> {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
    if let Database::Sqlite(path) = database {
        private_file(path).map_err(|error| failed(database, sqlx::Error::Io(error)))?;
    }
    let writers = pool(database, "rwc", lanes(database)).await?;
    migrator(database.dialect())
        .run(&writers)
        .await
        .map_err(|source| StoreError::Migrate {
            database: database.to_string(),
            source,
        })?;
    let readers = pool(database, "ro", READERS).await?;
    Ok(Opened { writers, readers })
}

/// SQLite gives its journal files the mode of the database file.
fn private_file(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

fn failed(database: &Database, source: sqlx::Error) -> StoreError {
    StoreError::Open {
        database: database.to_string(),
        source,
    }
}

async fn pool(database: &Database, mode: &'static str, most: u32) -> Result<AnyPool> {
    let options = AnyConnectOptions::from_str(&database.url(mode))
        .map_err(|error| failed(database, error))?;
    let dialect = database.dialect();
    AnyPoolOptions::new()
        .max_connections(most)
        .min_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                let settings = match (dialect, mode) {
                    (Dialect::Sqlite, "ro") => "PRAGMA busy_timeout = 5000",
                    // FULL: a committed transaction outlives a power cut. A checkpoint for each
                    // 16,384 pages (64 MiB) of the journal, some thousand transitions.
                    (Dialect::Sqlite, _) => {
                        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; \
                         PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; \
                         PRAGMA wal_autocheckpoint = 16384"
                    }
                    // A server that sleeps in the middle of a transaction must not keep its locks.
                    (Dialect::Postgres, _) => {
                        "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '5s'"
                    }
                };
                sqlx::raw_sql(settings).execute(&mut *connection).await?;
                Ok(())
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| failed(database, error))
}

pub(super) fn migrator(dialect: Dialect) -> Migrator {
    let migration = |version, name, sql: &'static str| {
        Migration::new(
            version,
            Cow::Borrowed(name),
            MigrationType::Simple,
            AssertSqlSafe(in_dialect(dialect, sql)).into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(vec![migration(
        1,
        "init",
        include_str!("migrations/0001_init.sql"),
    )])
}

fn in_dialect(dialect: Dialect, sql: &str) -> String {
    match dialect {
        Dialect::Postgres => sql.to_owned(),
        Dialect::Sqlite => sql
            .replace("/*sqlite:", "")
            .replace("*/", "")
            .replace("BYTEA", "BLOB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for url in [
            "postgres://doorstep:s3cret@db.example/doorstep?sslmode=require",
            "postgres://doorstep:s3c@ret@db.example/doorstep",
            "postgres://db.example/doorstep?password=s3cret",
        ] {
            let database = Database::Postgres(url.to_owned());
            assert_eq!(database.to_string(), "postgres://db.example/doorstep");
            assert_eq!(
                format!("{database:?}"),
                "Database(postgres://db.example/doorstep)"
            );
        }
    }
}
