//! Moves SQLite's journal into the database file beside whoever writes.
//!
//! Left to itself SQLite does that within the commit that makes the journal too long, which then
//! takes as long as hundreds of others. Here another connection does nearly all of it; what was
//! written meanwhile, and with that the beginning of the journal anew, is left to the writer.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::sqlite::{connect, failed};
use crate::store::{Result, StoreError};

/// How often it looks while nothing is written.
const IDLE: Duration = Duration::from_millis(250);
/// And while something is. A commit that comes meanwhile waits for the disk as long as this takes, so
/// that little at a time is better than much.
const BUSY: Duration = Duration::from_millis(20);
/// Pages of 4 KiB in the journal from which on it is begun anew.
const LONG: i64 = 4096;

/// Starts the thread; `finish` has the writer do the rest. It ends with the sender of `stop`.
pub(super) fn start(
    path: &Path,
    stop: mpsc::Receiver<()>,
    finish: impl Fn() + Send + 'static,
) -> Result<thread::JoinHandle<()>> {
    let connection = connect(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    thread::Builder::new()
        .name("sqlite-checkpoint".to_owned())
        .spawn(move || {
            let (mut seen, mut pause) = (None, IDLE);
            while let Err(mpsc::RecvTimeoutError::Timeout) = stop.recv_timeout(pause) {
                pause = IDLE;
                match look(&connection, &mut seen) {
                    Ok(None) => {}
                    Ok(Some(pages)) => {
                        pause = BUSY;
                        if pages >= LONG {
                            finish();
                        }
                    }
                    Err(error) => tracing::warn!(
                        %error,
                        "the journal cannot be moved into the database; it grows"
                    ),
                }
            }
        })
        .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))
}

/// Moves what others have written since the last look; how many pages the journal has then. None:
/// nothing was written.
fn look(connection: &Connection, seen: &mut Option<i64>) -> Result<Option<i64>> {
    let version = connection
        .query_row("PRAGMA data_version", [], |row| row.get(0))
        .map_err(failed)?;
    if seen.replace(version) == Some(version) {
        return Ok(None);
    }
    once(connection).map(Some)
}

/// Moves what nobody reads or writes any more; how many pages the journal has.
pub(super) fn once(connection: &Connection) -> Result<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Instant;

    use super::*;
    use crate::store::sql::sqlite::Sqlite;
    use crate::store::sql::{Statement, Value};

    /// What changes in the journal's header when it is begun anew.
    fn salt(journal: &Path) -> [u8; 8] {
        let mut header = [0; 24];
        std::fs::File::open(journal)
            .unwrap()
            .read_exact(&mut header)
            .unwrap();
        header[16..].try_into().unwrap()
    }

    #[tokio::test]
    async fn a_long_journal_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sqlite");
        drop(rusqlite::Connection::open(&path).unwrap());
        let sqlite = Sqlite::open(&path, |_| Ok(())).unwrap();
        let write = |text, values| sqlite.write(vec![Statement::marks(text, values)]);
        let table = "CREATE TABLE long (number BIGINT, value BLOB)";
        write(table, vec![]).await.unwrap();
        let journal = path.with_extension("sqlite-wal");
        let first = salt(&journal);
        let page = |bytes: usize| vec![1_i64.into(), Value::Bytes(Some(vec![7; bytes]))];
        let insert = "INSERT INTO long VALUES (?, ?)";
        let patience = Instant::now() + Duration::from_secs(60);
        // Without a pause: what is moved is never all that there is.
        while salt(&journal) == first {
            assert!(Instant::now() < patience, "the journal only grows");
            write(insert, page(1 << 18)).await.unwrap();
        }
        sqlite.close();
    }
}
