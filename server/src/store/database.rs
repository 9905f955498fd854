//! Which database, and how it is opened.

use std::fmt;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sql::{Backend, postgres::Postgres, sqlite::Sqlite};
use super::{Result, StoreError, migrate};

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
            if !has_place(text) {
                return Err(
                    "its host and port cannot be told from a password: in the password write '@', \
                     '/', '?' and '#' as %40, %2F, %3F and %23",
                );
            }
            Ok(Database::Postgres(text.to_owned()))
        } else if let Some(path) = text.strip_prefix("sqlite:")
            && !path.is_empty()
        {
            Ok(Database::Sqlite(path.into()))
        } else {
            Err("must be postgres://USER@HOST/NAME, or sqlite:PATH")
        }
    }
}

/// Whether what follows the credentials can be a host, a port and a name. Otherwise a part of a
/// password may stand there, because a sign in it is missing or was not escaped, and would be shown.
fn has_place(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
    let (_, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    // An IPv6 address has colons of its own, and brackets around it.
    let (_, after) = place.rsplit_once(']').unwrap_or(("", place));
    let port = after.split_once(':').map_or("0", |(_, port)| port);
    port.parse::<u16>().is_ok() && !name.contains('@')
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

/// Opens it and brings its schema up to date.
pub(super) async fn open(database: &Database) -> Result<Backend> {
    match database {
        Database::Sqlite(path) => {
            private_file(path).map_err(|error| StoreError::Open {
                database: database.to_string(),
                reason: error.to_string(),
            })?;
            let sqlite = Sqlite::open(path, migrate::sqlite)?;
            Ok(Backend::Sqlite(Arc::new(sqlite)))
        }
        Database::Postgres(url) => {
            let postgres = Postgres::open(url)
                .await
                .map_err(|error| StoreError::Open {
                    database: database.to_string(),
                    reason: error.to_string(),
                })?;
            migrate::postgres(postgres.pool()).await?;
            Ok(Backend::Postgres(postgres))
        }
    }
}

/// Opens it to look only, beside the server that uses it.
pub(super) async fn look(database: &Database) -> Result<Backend> {
    match database {
        Database::Sqlite(path) => Ok(Backend::Sqlite(Arc::new(Sqlite::look(path)?))),
        Database::Postgres(url) => Ok(Backend::Postgres(connect(database, url).await?)),
    }
}

async fn connect(database: &Database, url: &str) -> Result<Postgres> {
    Postgres::open(url).await.map_err(|error| StoreError::Open {
        database: database.to_string(),
        reason: error.to_string(),
    })
}

/// SQLite gives its journal files the mode of the database file.
pub(super) fn private_file(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
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

    #[test]
    fn a_password_that_may_stand_for_the_host_is_refused() {
        for (url, shown) in [
            (
                "postgres://o:sesame@db.example/north",
                Some("postgres://db.example/north"),
            ),
            (
                "postgresql://o:sesame@[::1]:5432/north",
                Some("postgres://[::1]:5432/north"),
            ),
            (
                "postgres://o@localhost/north?password=sesame",
                Some("postgres://localhost/north"),
            ),
            (
                "postgres://localhost:5432",
                Some("postgres://localhost:5432"),
            ),
            ("postgres://o:sesame2db.example/north", None),
            ("postgres://o:ses?ame@db.example/north", None),
            ("postgres://o:ses/ame@db.example/north", None),
            ("postgres://o:1/ame@db.example/north", None),
        ] {
            let database = Database::parse(url).ok();
            let found = database.map(|database| database.to_string());
            assert_eq!(found.as_deref(), shown, "{url}");
        }
    }
}
