//! One PostgreSQL for all tests of a program.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Postgres, Settings};

static SHARED: OnceLock<Mutex<Option<Postgres>>> = OnceLock::new();

/// Makes an empty database in a PostgreSQL that lives as long as this process, and tells its URL.
/// One that is there already stays as it is.
///
/// # Panics
/// If PostgreSQL cannot be started, or does not take the name.
pub fn shared(database: &str) -> String {
    let shared = SHARED.get_or_init(|| {
        let settings = Settings {
            fsync: false,
            more: vec!["shared_buffers=32MB".to_owned()],
        };
        let started = match Postgres::start(settings) {
            Ok(started) => started,
            Err(error) => panic!("{error:#}"),
        };
        // SAFETY: a function without arguments that touches nothing but this static. Statics are
        // not dropped at exit; this one has a folder and a process.
        unsafe {
            libc::atexit(end);
        }
        Mutex::new(Some(started))
    });
    let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(postgres) = &*shared else {
        panic!("the program is ending");
    };
    let known = format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'");
    let made = postgres.sql("postgres", &known).and_then(|count| {
        if count.trim() == "0" {
            postgres.create_database(database)
        } else {
            Ok(postgres.url(database))
        }
    });
    match made {
        Ok(url) => url,
        Err(error) => panic!("{error:#}"),
    }
}

extern "C" fn end() {
    if let Some(shared) = SHARED.get() {
        drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
