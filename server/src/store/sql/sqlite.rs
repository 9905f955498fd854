//! SQLite, embedded: a thread that writes, and a few that read beside it. In a simulation, which has
//! no other threads, one connection each.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use doorstep_daemon::blocking;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

use super::checkpoint;
use super::{GIVEN, Row, Statement, Takes, Value};
use crate::store::{Result, StoreError};

const READERS: usize = 4;
/// Prepared statements kept; there are some dozens.
const STATEMENTS: usize = 200;

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// Who does what is asked for.
enum Hands {
    Threads(mpsc::Sender<Task>),
    /// Whoever asks, in place.
    Own(Connection),
}

impl Hands {
    /// False if nobody is there any more.
    fn take(&mut self, task: Task) -> bool {
        match self {
            Hands::Threads(queue) => queue.send(task).is_ok(),
            Hands::Own(connection) => {
                task(connection);
                true
            }
        }
    }
}

pub(in crate::store) struct Sqlite {
    writer: Mutex<Option<Hands>>,
    readers: Mutex<Option<Hands>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// Ends the thread of checkpoints when it is dropped.
    checkpoints: Mutex<Option<mpsc::Sender<()>>>,
}

impl Sqlite {
    /// `prepare` brings the schema up to date before anybody else sees the database.
    pub fn open(
        path: &Path,
        prepare: impl FnOnce(&mut Connection) -> Result<()>,
    ) -> Result<Sqlite> {
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare(&mut writer)?;
        if blocking::is_simulated() {
            let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            return Ok(Self::of(Some(Hands::Own(writer)), Hands::Own(reader)));
        }
        let mut threads = Vec::new();
        let (to_writer, tasks) = mpsc::channel();
        threads.push(spawn("sqlite-writer", writer, Arc::new(Mutex::new(tasks)))?);
        let readers = readers(path, READERS, &mut threads)?;
        let (checkpoints, stop) = mpsc::channel();
        let finisher = to_writer.clone();
        let finish = move || {
            let task: Task = Box::new(|connection| {
                if let Err(error) = checkpoint::once(connection) {
                    tracing::warn!(%error, "the journal cannot be begun anew; it grows");
                }
            });
            // The thread is there as long as this is.
            let _ = finisher.send(task);
        };
        threads.push(checkpoint::start(path, stop, finish)?);
        Ok(Sqlite {
            threads: Mutex::new(threads),
            checkpoints: Mutex::new(Some(checkpoints)),
            ..Self::of(Some(Hands::Threads(to_writer)), Hands::Threads(readers))
        })
    }

    /// One that only reads: what would write finds it closed.
    pub fn look(path: &Path) -> Result<Sqlite> {
        let mut threads = Vec::new();
        let readers = readers(path, 1, &mut threads)?;
        Ok(Sqlite {
            threads: Mutex::new(threads),
            ..Self::of(None, Hands::Threads(readers))
        })
    }

    fn of(writer: Option<Hands>, readers: Hands) -> Sqlite {
        Sqlite {
            writer: Mutex::new(writer),
            readers: Mutex::new(Some(readers)),
            threads: Mutex::default(),
            checkpoints: Mutex::new(None),
        }
    }

    pub async fn read(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        on(&self.readers, move |connection| {
            run(connection, &statements)
        })
        .await
    }

    pub async fn read_to_write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        on(&self.writer, move |connection| run(connection, &statements)).await
    }

    pub async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>> {
        on(&self.writer, move |connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(failed)?;
            let returned = run(&transaction, &statements)?;
            transaction.commit().map_err(failed)?;
            Ok(returned)
        })
        .await
    }

    /// Does what was begun and closes the files.
    pub fn close(&self) {
        lock(&self.checkpoints).take();
        lock(&self.writer).take();
        lock(&self.readers).take();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the database crashed");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has something done and waits for it.
async fn on<T: Send + 'static>(
    hands: &Mutex<Option<Hands>>,
    work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    let task: Task = Box::new(move |connection| {
        let _ = reply.send(work(connection));
    });
    blocking::pause().await;
    let taken = lock(hands).as_mut().is_some_and(|hands| hands.take(task));
    if !taken {
        return Err(StoreError::Closed);
    }
    let answer = answer.await.unwrap_or(Err(StoreError::Closed));
    blocking::pause().await;
    answer
}

fn readers(
    path: &Path,
    count: usize,
    threads: &mut Vec<thread::JoinHandle<()>>,
) -> Result<mpsc::Sender<Task>> {
    let (queue, tasks) = mpsc::channel();
    let tasks = Arc::new(Mutex::new(tasks));
    for _ in 0..count {
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        threads.push(spawn("sqlite-reader", reader, Arc::clone(&tasks))?);
    }
    Ok(queue)
}

fn spawn(
    name: &str,
    mut connection: Connection,
    tasks: Arc<Mutex<mpsc::Receiver<Task>>>,
) -> Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            loop {
                // One waits at a time; the others wait for their turn to wait.
                let task = lock(&tasks).recv();
                match task {
                    Ok(task) => task(&mut connection),
                    Err(mpsc::RecvError) => return,
                }
            }
        })
        .map_err(|error| StoreError::Failed(format!("cannot start a thread: {error}")))
}

pub(super) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let open = |source| StoreError::Sqlite {
        path: PathBuf::from(path),
        source,
    };
    let connection =
        Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(open)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // A statement is planned once, not anew for other values.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(open)?;
    let settings = if mode.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        // Rows all over the table are read where the kernel has them, not copied page by page.
        "PRAGMA busy_timeout = 5000; PRAGMA cache_size = -16384; PRAGMA mmap_size = 2147418112"
    } else {
        // FULL: a committed transaction outlives a power cut. Checkpoints are made by a thread of
        // their own.
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA cache_size = -262144; PRAGMA wal_autocheckpoint = 0"
    };
    connection.execute_batch(settings).map_err(open)?;
    Ok(connection)
}

pub(in crate::store) fn failed(error: rusqlite::Error) -> StoreError {
    let unique = error.sqlite_error().is_some_and(|error| {
        matches!(
            error.extended_code,
            rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE | rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        )
    });
    if unique {
        StoreError::Conflict
    } else {
        StoreError::Failed(error.to_string())
    }
}

fn run(connection: &Connection, statements: &[Statement]) -> Result<Vec<Vec<Row>>> {
    statements
        .iter()
        .map(|statement| {
            let rows = run_one(connection, statement).map_err(failed)?;
            statement.check(rows.len())?;
            Ok(rows)
        })
        .collect()
}

fn run_one(connection: &Connection, statement: &Statement) -> rusqlite::Result<Vec<Row>> {
    let Some(first) = statement.rows.first() else {
        return Ok(Vec::new());
    };
    let mut prepared = connection.prepare_cached(&text(statement, first.len()))?;
    let columns: Arc<[String]> = prepared.column_names().map(str::to_owned).collect();
    let mut returned = Vec::new();
    for row in &statement.rows {
        let mut rows = prepared.query(rusqlite::params_from_iter(row))?;
        while let Some(row) = rows.next()? {
            let values = (0..columns.len())
                .map(|index| row.get_ref(index).map(value))
                .collect::<rusqlite::Result<_>>()?;
            returned.push(Row {
                columns: Arc::clone(&columns),
                values,
            });
        }
    }
    Ok(returned)
}

/// For one row of this many values.
fn text(statement: &Statement, columns: usize) -> String {
    let marks = vec!["?"; columns].join(", ");
    let (before, after) = (statement.before, statement.after);
    match statement.takes {
        Takes::Marks => before.to_owned(),
        Takes::Insert | Takes::InsertAll => format!("{before} VALUES ({marks}) {after}"),
        Takes::Match => format!("{before} = ({marks}) {after}"),
        Takes::Join => {
            let given: Vec<_> = GIVEN[..columns]
                .iter()
                .map(|name| format!("? AS {name}"))
                .collect();
            format!("{before} (SELECT {}) AS given {after}", given.join(", "))
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Value::Int(Some(value)) => ValueRef::Integer(*value),
            Value::Text(Some(value)) => ValueRef::Text(value.as_bytes()),
            Value::Bytes(Some(value)) => ValueRef::Blob(value),
            Value::Int(None) | Value::Text(None) | Value::Bytes(None) => ValueRef::Null,
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(value) => Value::Int(Some(value)),
        ValueRef::Text(value) => Value::Text(Some(String::from_utf8_lossy(value).into_owned())),
        ValueRef::Blob(value) => Value::Bytes(Some(value.to_vec())),
        ValueRef::Null | ValueRef::Real(_) => Value::Bytes(None),
    }
}
