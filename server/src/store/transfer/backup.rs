//! A copy of a SQLite file while a server writes to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::backup::{Backup as Copy, StepResult};

use super::{Result, TransferError, schema, sqlite};
use crate::store::Database;
use crate::store::sql::sqlite::failed;

/// Pages copied at once.
const PAGES: std::ffi::c_int = 4096;

/// A copy that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    pub bytes: u64,
    /// Its schema version.
    pub schema: i64,
}

/// Copies the database as of one moment to `to`, which must not exist, readable by its owner only. It
/// has its name once it is whole, checked and on disk.
pub fn backup(database: &Database, to: &Path) -> Result<Backup> {
    let Database::Sqlite(path) = database else {
        return Err(TransferError::OnlySqlite {
            database: database.to_string(),
        });
    };
    let unwritten = |source| TransferError::File {
        path: to.to_owned(),
        source,
    };
    if to.exists() {
        return Err(TransferError::Exists(to.to_owned()));
    }
    let folder = to.parent().filter(|folder| *folder != Path::new(""));
    let file = tempfile::Builder::new()
        .prefix(".doorstep-backup-")
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(unwritten)?;
    let source = sqlite::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // While this transaction is open the copy is as of its first read: without it every write of the
    // server's would have the copy begin anew.
    source.execute_batch("BEGIN").map_err(failed)?;
    let schema = schema::version(&source)?;
    let mut copy = sqlite::open(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let copying = Copy::new(&source, &mut copy).map_err(failed)?;
    loop {
        match copying.step(PAGES).map_err(failed)? {
            StepResult::Done => break,
            StepResult::More => {}
            // Busy or locked: a checkpoint has the file for a moment.
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    drop(copying);
    drop(source);
    // One file without a journal beside it; a server that opens it makes one.
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))
        .map_err(failed)?;
    let check: String = copy
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if check != "ok" {
        return Err(TransferError::Unsound(check));
    }
    copy.close().map_err(|(_, error)| failed(error))?;
    file.as_file().sync_all().map_err(unwritten)?;
    let bytes = file.as_file().metadata().map_err(unwritten)?.len();
    file.persist_noclobber(to)
        .map_err(|error| unwritten(error.error))?;
    Ok(Backup { bytes, schema })
}
