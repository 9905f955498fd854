//! The database: the only module with SQL.
//!
//! Reads go to the database directly. Whatever changes goes through [`Store::change`]: many units of
//! work share one transaction (`group`), each decided in memory (`work`) on rows that were loaded
//! for it (`load`) or are known from the last write (`cache`), and all written by a few statements
//! (`flush`). A write names the version of the
//! row that it was decided from, so that no server ever overwrites what another one has changed.

mod accounts;
mod audit;
mod cache;
mod database;
mod enrollments;
mod find;
mod flush;
mod group;
mod lists;
mod load;
mod measures;
mod migrate;
mod numbers;
mod others;
mod pages;
mod places;
mod pools;
mod receipts;
mod requests;
mod retention;
mod sessions;
mod sql;
mod standings;
mod steps;
mod subscribers;
mod tallies;
pub mod transfer;
mod work;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use uuid::Uuid;

pub use accounts::Account;
pub use audit::AuditLog;
pub use database::Database;
pub use group::Committed;
pub use lists::GatewayRow;
pub use measures::Measures;
pub use numbers::{Kind, Needs, Renewal};
pub use others::Hint;
pub use pages::{Key, Page, Sessions};
pub use places::BuildingCount;
pub use pools::Pools;
pub use receipts::{Counters, CountersRow, ReceiptRow};
pub use requests::Answer;
pub use retention::{Aged, Piece};
pub use sessions::SessionRow;
pub use steps::{StepRow, Who};
pub use subscribers::{NewSubscriber, Subscriber, SubscriberRow};
pub use tallies::Tallies;
pub use work::{GatewaySeen, Need, Outcome, Work};

use crate::audit::AuditKey;
use cache::Cache;
use group::WhenFull;
use others::Others;
use sql::{Backend, Row, Statement, Takes, Value};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "cannot open the database {database}: {reason}; see that it is there, that this user may \
         write to it, and that the disk is not full"
    )]
    Open { database: String, reason: String },
    #[error(
        "cannot open the database {}: {source}; see that its folder is there, that this user may \
         write to it, and that the disk is not full",
        path.display()
    )]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "the database has schema version {version}, and this server knows {newest} at most: a newer \
         server has used it; run that one"
    )]
    Newer { version: i64, newest: i64 },
    #[error(
        "the database is of a version before the first release, and cannot be read by this one; move \
         it away to begin anew"
    )]
    Unreleased,
    #[error("the database failed: {0}")]
    Failed(String),
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
    backend: Backend,
    cache: Arc<Cache>,
    queue: group::Queue,
    measures: Arc<Measures>,
    others: Arc<Others>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.backend {
            Backend::Sqlite(_) => "Store(SQLite)",
            Backend::Postgres(_) => "Store(PostgreSQL)",
        })
    }
}

impl Store {
    /// Opens the database and brings its schema up to date. `committed` is told of every transaction
    /// once it is durable, `heard` of what other servers have changed.
    pub async fn open(
        database: &Database,
        audit: AuditKey,
        committed: impl Fn(&Committed) + Send + Sync + 'static,
        heard: impl Fn(Hint) + Send + Sync + 'static,
    ) -> Result<Self> {
        let backend = database::open(database).await?;
        let cache = Arc::new(Cache::default());
        let others = Others::new();
        let measures = Arc::new(Measures::default());
        let queue = group::start(group::Writer {
            backend: backend.clone(),
            cache: Arc::clone(&cache),
            audit,
            audit_head: None,
            others: Arc::clone(&others),
            measures: Arc::clone(&measures),
            committed: Box::new(committed),
        });
        let kept = Arc::clone(&cache);
        others.start(database, &backend, move |hint| {
            match &hint {
                Hint::Gateway(_, session) | Hint::Steps(session) => kept.forget_session(*session),
            }
            heard(hint);
        });
        Ok(Store {
            backend,
            cache,
            queue,
            measures,
            others,
        })
    }

    /// Does one unit of work, together with others; durable when it returns. `work` may be called
    /// several times, and must do nothing but read and change what it is given.
    ///
    /// Work is done in the order in which it came.
    pub async fn change<T, E>(
        &self,
        work: impl FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.queue.submit(WhenFull::Wait, Run::Real, work).await
    }

    /// The same, or as a dry run: among the work that is done at that time, and without a trace.
    pub async fn change_or_try<T, E>(
        &self,
        run: Run,
        work: impl FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.queue.submit(WhenFull::Wait, run, work).await
    }

    /// The same, unless so much waits already that it would wait long.
    pub async fn change_if_not_busy<T, E>(
        &self,
        work: impl FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.queue.submit(WhenFull::Refuse, Run::Real, work).await
    }

    /// Waits until all work that was begun is done.
    pub async fn settle(&self) {
        self.queue.settle().await;
    }

    /// Does what was begun, and closes the database.
    pub async fn close(&self) {
        self.queue.close().await;
        self.others.stop();
        self.backend.close().await;
    }

    /// A row that was committed, where it is sure to be the newest and need not be read.
    fn newest<T>(&self, kept: impl FnOnce(&Cache) -> Option<T>) -> Option<T> {
        self.backend.is_own().then(|| kept(&self.cache)).flatten()
    }

    /// Asks the database for nothing in particular: whether it answers.
    pub async fn answers(&self) -> Result<()> {
        self.select("SELECT 1", vec![]).await.map(drop)
    }

    async fn select(&self, text: &'static str, values: Vec<Value>) -> Result<Vec<Row>> {
        self.read_one(Statement::marks(text, values)).await
    }

    /// Rows whose column that `before` ends with is one of these ids.
    async fn select_of(
        &self,
        before: &'static str,
        after: &'static str,
        ids: &[Uuid],
    ) -> Result<Vec<Row>> {
        let rows = ids.iter().map(|id| vec![Value::from(*id)]).collect();
        self.read_one(Statement::new(Takes::Match, (before, after), rows))
            .await
    }

    async fn read_one(&self, statement: Statement) -> Result<Vec<Row>> {
        let mut read = self.backend.read(vec![statement]).await?;
        Ok(read.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod dry_run_tests;
#[cfg(test)]
mod pages_tests;
#[cfg(test)]
mod sessions_tests;
#[cfg(test)]
mod test_rows;
#[cfg(test)]
mod tests;
