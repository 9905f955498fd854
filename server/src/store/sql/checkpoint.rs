//! Moves SQLite's journal into the database file beside whoever writes.
//!
//! Left to itself SQLite does that within the commit that makes the journal too long, which then
//! takes as long as hundreds of others. Here another connection does nearly all of it; what was
//! written meanwhile, and with that the beginning of the journal anew, is left to the writer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::sqlite::{connect, failed};
use crate::store::{Result, StoreError};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(250);
/// Pages of 4 KiB in the journal from which on it is begun anew.
const LONG: i64 = 4096;

/// Transactions that were committed.
#[derive(Debug, Default)]
pub(super) struct Commits(AtomicU64);

impl Commits {
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Starts the thread; `finish` has the writer do the rest. It ends with the sender of `stop`.
pub(super) fn start(
    path: &Path,
    commits: Arc<Commits>,
    stop: mpsc::Receiver<()>,
    finish: impl Fn() + Send + 'static,
) -> Result<thread::JoinHandle<()>> {
    let connection = connect(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    thread::Builder::new()
        .name("sqlite-checkpoint".to_owned())
        .spawn(move || {
            let mut seen = commits.so_far();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stop.recv_timeout(EVERY) {
                let now = commits.so_far();
                if now == seen {
                    continue;
                }
                seen = now;
                match once(&connection) {
                    Ok(pages) if pages >= LONG => finish(),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "the journal cannot be moved into the database; it grows"),
                }
            }
        })
        .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))
}

/// Moves what nobody reads or writes any more; how many pages the journal has.
pub(super) fn once(connection: &Connection) -> Result<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(failed)
}
