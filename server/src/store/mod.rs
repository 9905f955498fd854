//! The database: the only module with SQL.
//!
//! Reads go to the database directly. Whatever changes goes through [`Store::change`]: many units of
//! work share one transaction (`group`), each decided in memory (`work`) on rows that were loaded
//! for it (`load`), and all written by a few statements (`flush`). A write names the version of the
//! row that it was decided from, so that no server ever overwrites what another one has changed.

mod database;
mod flush;
mod group;
mod lists;
mod load;
mod pools;
mod receipts;
mod requests;
mod sessions;
mod sql;
mod steps;
mod subscribers;
mod work;

use std::fmt;
use std::sync::Arc;

use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row as _};
use uuid::Uuid;

pub use database::Database;
pub use group::Committed;
pub use lists::{GatewayRow, Page, StatusCounts};
pub use pools::Pools;
pub use receipts::{Counters, CountersRow, ReceiptRow};
pub use requests::Answer;
pub use sessions::SessionRow;
pub use steps::{StepRow, Who};
pub use subscribers::{NewSubscriber, Subscriber, SubscriberRow};
pub use work::{GatewaySeen, Need, Number, Work};

use sql::{Dialect, Value};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot open the database {database}: {source}; see that it is there, that this user may write to it, and that the disk is not full"
    )]
    Open {
        database: String,
        source: sqlx::Error,
    },
    #[error(
        "cannot bring the database {database} to this version's schema: {source}; a newer version, or one before the first release, may have written it"
    )]
    Migrate {
        database: String,
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
    #[error("another server changed the same rows again and again; ask again")]
    Conflict,
    #[error("the {family} pool of gateway {gateway} is exhausted; give it a larger one")]
    PoolExhausted {
        gateway: String,
        family: &'static str,
    },
    #[error("there is no subscriber {0}")]
    NoSubscriber(Uuid),
    /// Never seen outside: the work is done again once its rows are there.
    #[error("rows are not loaded yet")]
    NotLoaded,
    #[error("the server has more to write than it can; ask again a little later")]
    Busy,
    #[error("the server is shutting down; ask again")]
    Closed,
}

pub type Result<T> = std::result::Result<T, StoreError>;

/// An open database.
#[derive(Clone)]
pub struct Store {
    dialect: Dialect,
    writers: AnyPool,
    readers: AnyPool,
    lanes: Arc<group::Lanes>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.dialect)
    }
}

impl Store {
    /// Opens the database and brings its schema up to date. `committed` is told of every transaction
    /// once it is durable.
    pub async fn open(
        database: &Database,
        committed: impl Fn(&Committed) + Send + Sync + 'static,
    ) -> Result<Self> {
        let database::Opened { writers, readers } = database::open(database).await?;
        let dialect = database.dialect();
        let lanes = group::Lanes::start(
            database::lanes(database),
            dialect,
            &writers,
            Arc::new(committed),
        );
        Ok(Store {
            dialect,
            writers,
            readers,
            lanes: Arc::new(lanes),
        })
    }

    /// Does one unit of work, together with others; durable when it returns. `work` may be called
    /// several times, and must do nothing but read and change what it is given.
    ///
    /// Work with the same `key` is done in the order in which it came.
    pub async fn change<T, E>(
        &self,
        key: Uuid,
        work: impl FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.lanes.submit(key, work).await
    }

    /// The same, unless so much waits already that it would wait long.
    pub async fn change_if_not_busy<T, E>(
        &self,
        key: Uuid,
        work: impl FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.lanes.try_submit(key, work).await
    }

    /// Does what was begun, and closes the database.
    pub async fn close(&self) {
        self.lanes.close().await;
        self.readers.close().await;
        self.writers.close().await;
    }

    async fn select(&self, statement: &str, values: Vec<Value>) -> Result<Vec<AnyRow>> {
        let mut connection = self.readers.acquire().await?;
        sql::each(&mut connection, self.dialect, statement, &[values]).await
    }

    async fn select_in(&self, before: &str, after: &str, keys: &[Value]) -> Result<Vec<AnyRow>> {
        let mut connection = self.readers.acquire().await?;
        sql::with_keys(&mut connection, self.dialect, before, after, keys).await
    }
}

fn id(row: &AnyRow, column: &'static str) -> Result<Uuid> {
    let bytes: Vec<u8> = row.try_get(column)?;
    as_id(&bytes, column)
}

fn optional_id(row: &AnyRow, column: &'static str) -> Result<Option<Uuid>> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    bytes.map(|bytes| as_id(&bytes, column)).transpose()
}

fn as_id(bytes: &[u8], column: &'static str) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| {
        StoreError::Sql(sqlx::Error::ColumnDecode {
            index: column.to_owned(),
            source: Box::new(error),
        })
    })
}

#[cfg(test)]
mod tests;
