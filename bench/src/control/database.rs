//! The databases that the server is measured on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use doorstep_test_postgres::{Postgres, Settings};
use doorstep_tests::lab::cleanup::Guard;
use serde::Serialize;

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// One of a server's own, removed with it.
pub struct Database {
    /// As the key `database` of the configuration has it; none: the server's own file.
    pub url: Option<String>,
    postgres: Option<Running>,
}

struct Running {
    postgres: Arc<Mutex<Option<Postgres>>>,
    _guard: Guard,
}

const NAME: &str = "bench";

impl Database {
    /// `settings` are PostgreSQL's, like `shared_buffers=1GB`.
    pub fn start(kind: Kind, settings: &[String]) -> Result<Self> {
        if kind == Kind::Sqlite {
            return Ok(Self {
                url: None,
                postgres: None,
            });
        }
        let postgres = Postgres::start(Settings {
            fsync: true,
            more: settings.to_vec(),
        })?;
        let url = postgres.create_database(NAME)?;
        let postgres = Arc::new(Mutex::new(Some(postgres)));
        let ended = Arc::clone(&postgres);
        let guard = Guard::new(move || drop(lock(&ended).take()));
        Ok(Self {
            url: Some(url),
            postgres: Some(Running {
                postgres,
                _guard: guard,
            }),
        })
    }

    /// Has PostgreSQL do now what it would begin some minutes after a million rows have come, in the middle
    /// of a measurement: count and tidy up the tables, and write all pages to the disk.
    pub fn settle(&self) -> Result<()> {
        let Some(running) = &self.postgres else {
            return Ok(());
        };
        let postgres = lock(&running.postgres);
        let postgres = postgres.as_ref().context("PostgreSQL has ended")?;
        for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
            postgres.sql(NAME, statement)?;
        }
        Ok(())
    }
}

fn lock(postgres: &Mutex<Option<Postgres>>) -> MutexGuard<'_, Option<Postgres>> {
    postgres.lock().unwrap_or_else(PoisonError::into_inner)
}
