//! The databases that the server is measured on.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
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
    _postgres: Option<Guard>,
}

impl Database {
    /// `settings` are PostgreSQL's, like `shared_buffers=1GB`.
    pub fn start(kind: Kind, settings: &[String]) -> Result<Self> {
        if kind == Kind::Sqlite {
            return Ok(Self {
                url: None,
                _postgres: None,
            });
        }
        let postgres = Postgres::start(Settings {
            fsync: true,
            more: settings.to_vec(),
        })?;
        let url = postgres.create_database("bench")?;
        let running = Arc::new(Mutex::new(Some(postgres)));
        let guard = Guard::new(move || {
            drop(
                running
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        });
        Ok(Self {
            url: Some(url),
            _postgres: Some(guard),
        })
    }
}
