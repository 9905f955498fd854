//! What survives a crash: sessions, fences, receipts, blocked lines, in a database file.
//!
//! A commit is durable when it returns, and whole or not at all. Session keys lie in the file, so
//! that only its owner may read it.

mod admit;
pub mod codec;
mod former;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use doorstep_daemon::blocking;
use redb::backends::FileBackend;
use redb::{
    Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use thiserror::Error;
use uuid::Uuid;

use crate::config::Indexes;
use crate::engine::row::{Fence, SessionRef, SessionRow, Snapshot, Write};

pub use admit::Misfit;

const FILE: &str = "journal.redb";

/// Keys: operator, session.
const SESSIONS: TableDefinition<(u16, u128), &[u8]> = TableDefinition::new("sessions");
const FENCES: TableDefinition<(u16, u128), &[u8]> = TableDefinition::new("fences");
/// Keys: operator, number.
const RECEIPTS: TableDefinition<(u16, u64), &[u8]> = TableDefinition::new("receipts");
/// Each operator's last receipt number.
const NUMBERS: TableDefinition<u16, u64> = TableDefinition::new("receipt_numbers");
/// When each operator's server was last in contact, in Unix milliseconds.
const CONTACTS: TableDefinition<u16, i64> = TableDefinition::new("contacts");
/// Blocked lines by location.
const BLOCKS: TableDefinition<&str, &[u8]> = TableDefinition::new("blocked_lines");
/// Which operator each index was given to; never taken back.
const OPERATORS: TableDefinition<&str, u16> = TableDefinition::new("operators");

#[derive(Debug, Error)]
pub enum JournalError {
    #[error("{}: {source}; see the journal {}", file.display(), path.display())]
    Misfit {
        /// The configuration.
        file: PathBuf,
        path: PathBuf,
        source: Misfit,
    },
    #[error("the journal {}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the journal {} cannot be opened: {source}; is another daemon running?", path.display())]
    Open {
        path: PathBuf,
        source: Box<redb::DatabaseError>,
    },
    #[error("the journal {}: {source}", path.display())]
    Database {
        path: PathBuf,
        source: Box<redb::Error>,
    },
    #[error(
        "the journal {} has a row of {table} that this version cannot read: {source}; \
         run the version that wrote it, or move the file away (sessions are then set up anew)",
        path.display()
    )]
    Row {
        path: PathBuf,
        table: &'static str,
        source: codec::CodecError,
    },
    #[error("the journal {} has a blocked line that is no location: {source}", path.display())]
    Location {
        path: PathBuf,
        source: doorstep_location::ParseError,
    },
}

impl JournalError {
    /// Whether another process has it open.
    pub fn is_in_use(&self) -> bool {
        let Self::Open { source, .. } = self else {
            return false;
        };
        matches!(**source, redb::DatabaseError::DatabaseAlreadyOpen)
    }
}

/// The database file; opened for writing, unless it was only looked at.
pub struct Journal<D = Database> {
    path: PathBuf,
    database: D,
    /// What it held when it was checked, for whoever loads it before it changes.
    checked: Mutex<Option<Snapshot>>,
}

impl Journal<ReadOnlyDatabase> {
    /// Opens a journal for reading; none where there is no file. A running daemon keeps its own
    /// to itself.
    pub fn look(folder: &Path) -> Result<Option<Self>, JournalError> {
        let path = folder.join(FILE);
        match Database::builder().open_read_only(&path) {
            Ok(database) => Ok(Some(Self {
                path,
                database,
                checked: Mutex::default(),
            })),
            Err(redb::DatabaseError::Storage(redb::StorageError::Io(error)))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(source) => Err(JournalError::Open {
                path,
                source: Box::new(source),
            }),
        }
    }
}

impl Journal {
    /// Opens the journal in a folder, making both where they are not.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(FILE);
        let io = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        // One that existed may have come from a copy with other permissions.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(io)?;
        let open = |source| JournalError::Open {
            path: path.clone(),
            source: Box::new(source),
        };
        let backend = FileBackend::new(file).map_err(open)?;
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(open)?;
        let journal = Self {
            path,
            database,
            checked: Mutex::default(),
        };
        journal.try_create_tables().map_err(|e| journal.failed(e))?;
        Ok(journal)
    }

    /// Makes changes durable, all together or none.
    pub fn commit(&self, writes: &[Write]) -> Result<(), JournalError> {
        if writes.is_empty() {
            return Ok(());
        }
        self.take_checked();
        self.try_commit(writes).map_err(|error| self.failed(error))
    }

    /// Makes the operators' indexes durable. Those of others stay.
    fn put_operators(&self, indexes: &Indexes) -> Result<(), JournalError> {
        self.try_put_operators(indexes)
            .map_err(|error| self.failed(error))
    }

    fn try_put_operators(&self, indexes: &Indexes) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut operators = transaction.open_table(OPERATORS)?;
            for (name, index) in indexes {
                operators.insert(name.as_str(), *index)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn try_create_tables(&self) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(SESSIONS)?;
        transaction.open_table(FENCES)?;
        transaction.open_table(RECEIPTS)?;
        transaction.open_table(NUMBERS)?;
        transaction.open_table(OPERATORS)?;
        transaction.open_table(BLOCKS)?;
        transaction.open_table(CONTACTS)?;
        transaction.commit()?;
        Ok(())
    }

    fn try_commit(&self, writes: &[Write]) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut sessions = transaction.open_table(SESSIONS)?;
            let mut fences = transaction.open_table(FENCES)?;
            let mut receipts = transaction.open_table(RECEIPTS)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            let mut blocks = transaction.open_table(BLOCKS)?;
            let mut contacts = transaction.open_table(CONTACTS)?;
            for write in writes {
                match write {
                    Write::PutSession(session, row) => {
                        let value = codec::encode(row.as_ref());
                        sessions.insert(session_key(*session), &value[..])?;
                    }
                    Write::DeleteSession(session) => {
                        sessions.remove(session_key(*session))?;
                    }
                    Write::PutFence(session, fence) => {
                        let value = codec::encode(fence);
                        fences.insert(session_key(*session), &value[..])?;
                    }
                    Write::DeleteFence(session) => {
                        fences.remove(session_key(*session))?;
                    }
                    Write::PutReceipt(operator, receipt) => {
                        let value = codec::encode(receipt);
                        receipts.insert((*operator, receipt.number), &value[..])?;
                        numbers.insert(*operator, receipt.number)?;
                    }
                    Write::DeleteReceipt(operator, number) => {
                        receipts.remove((*operator, *number))?;
                    }
                    Write::PutContact(operator, unix_ms) => {
                        contacts.insert(*operator, *unix_ms)?;
                    }
                    Write::PutBlock(location, block) => {
                        blocks.insert(location.as_str(), &codec::encode(block)[..])?;
                    }
                    Write::DeleteBlock(location) => {
                        blocks.remove(location.as_str())?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl<D: ReadableDatabase + Sync> Journal<D> {
    /// Everything that was committed.
    pub fn load(&self) -> Result<Snapshot, JournalError> {
        match self.take_checked() {
            Some(snapshot) => Ok(snapshot),
            None => self.read(),
        }
    }

    fn take_checked(&self) -> Option<Snapshot> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.take()
    }

    fn read(&self) -> Result<Snapshot, JournalError> {
        let rows = self.try_read().map_err(|error| self.failed(error))?;
        // Two tables with a row for each session: the rest is small.
        let (fences, sessions) = blocking::both(
            || self.decode_all::<Fence>("fences", &rows.fences),
            || self.decode_all::<SessionRow>("sessions", &rows.sessions),
        );
        let mut snapshot = Snapshot {
            sessions: sessions?,
            fences: fences?,
            ..Snapshot::default()
        };
        for (key, value) in rows.receipts {
            snapshot
                .receipts
                .insert(key, self.decode("receipts", &value)?);
        }
        for (location, value) in rows.blocks {
            let block = self.decode("blocked_lines", &value)?;
            let location = location.parse().map_err(|source| JournalError::Location {
                path: self.path.clone(),
                source,
            })?;
            snapshot.blocks.insert(location, block);
        }
        snapshot.last_numbers = rows.numbers.into_iter().collect();
        snapshot.contacts = rows.contacts.into_iter().collect();
        Ok(snapshot)
    }

    /// The indexes that operators were given; empty in a file of a version without them.
    fn operators(&self) -> Result<Indexes, JournalError> {
        self.try_operators().map_err(|error| self.failed(error))
    }

    fn try_operators(&self) -> Result<Indexes, redb::Error> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(OPERATORS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Indexes::new()),
            table => table?,
        };
        let mut indexes = Indexes::new();
        for row in table.iter()? {
            let (name, index) = row?;
            indexes.insert(name.value().to_owned(), index.value());
        }
        Ok(indexes)
    }

    fn failed(&self, error: redb::Error) -> JournalError {
        JournalError::Database {
            path: self.path.clone(),
            source: Box::new(error),
        }
    }

    fn decode_all<T: codec::Row>(
        &self,
        table: &'static str,
        rows: &[((u16, u128), Vec<u8>)],
    ) -> Result<HashMap<SessionRef, T>, JournalError> {
        let rows = rows.iter();
        rows.map(|(key, value)| Ok((session_ref(*key), self.decode(table, value)?)))
            .collect()
    }

    fn decode<T: codec::Row>(&self, table: &'static str, bytes: &[u8]) -> Result<T, JournalError> {
        codec::decode(bytes).map_err(|source| JournalError::Row {
            path: self.path.clone(),
            table,
            source,
        })
    }

    fn try_read(&self) -> Result<Rows, redb::Error> {
        let transaction = self.database.begin_read()?;
        let mut rows = Rows::default();
        for row in transaction.open_table(SESSIONS)?.iter()? {
            let (key, value) = row?;
            rows.sessions.push((key.value(), value.value().to_vec()));
        }
        for row in transaction.open_table(FENCES)?.iter()? {
            let (key, value) = row?;
            rows.fences.push((key.value(), value.value().to_vec()));
        }
        for row in transaction.open_table(RECEIPTS)?.iter()? {
            let (key, value) = row?;
            rows.receipts.push((key.value(), value.value().to_vec()));
        }
        for row in transaction.open_table(NUMBERS)?.iter()? {
            let (key, value) = row?;
            rows.numbers.push((key.value(), value.value()));
        }
        match transaction.open_table(CONTACTS) {
            // Written by a version without them.
            Err(TableError::TableDoesNotExist(_)) => {}
            table => {
                for row in table?.iter()? {
                    let (key, value) = row?;
                    rows.contacts.push((key.value(), value.value()));
                }
            }
        }
        match transaction.open_table(BLOCKS) {
            // Written by a version without them.
            Err(TableError::TableDoesNotExist(_)) => {}
            table => {
                for row in table?.iter()? {
                    let (key, value) = row?;
                    let (key, value) = (key.value().to_owned(), value.value().to_vec());
                    rows.blocks.push((key, value));
                }
            }
        }
        Ok(rows)
    }
}

/// Rows as they lie in the file.
#[derive(Default)]
struct Rows {
    sessions: Vec<((u16, u128), Vec<u8>)>,
    fences: Vec<((u16, u128), Vec<u8>)>,
    receipts: Vec<((u16, u64), Vec<u8>)>,
    numbers: Vec<(u16, u64)>,
    contacts: Vec<(u16, i64)>,
    blocks: Vec<(String, Vec<u8>)>,
}

fn session_key(session: SessionRef) -> (u16, u128) {
    (session.operator, session.session.as_u128())
}

fn session_ref((operator, session): (u16, u128)) -> SessionRef {
    SessionRef {
        operator,
        session: Uuid::from_u128(session),
    }
}
