//! `database`: works on the database itself, by the server's configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use doorstep_daemon::dry_run::DryRun;
use doorstep_daemon::exit::{self, Exit};
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::refuse;
use doorstep_server::config::Config;
use doorstep_server::keys;
use doorstep_server::serve;
use doorstep_server::store::transfer::{self, Summary, TransferError};
use doorstep_server::store::{AuditLog, Database};
use serde::Serialize;

use super::{ConfigFile, client};

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Bring the schema up to date, as a start of the server does; makes the database where there is
    /// none
    Migrate {
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Write all rows to one file, as of one moment, whether or not the server runs. Numbers and keys
    /// stay sealed in it
    Export {
        /// Must not exist yet
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Put all rows of an export into an empty database, SQLite or PostgreSQL, or none of them. The
    /// server that uses it needs the keys of the one that was exported
    Import {
        file: PathBuf,
        #[command(flatten)]
        dry_run: DryRun,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Copy a SQLite database while the server runs
    Backup {
        /// Must not exist yet
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Migrated {
    database: String,
    /// Schema version; 0: the database was new.
    from: i64,
    to: i64,
}

/// By an export or an import.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Moved {
    database: String,
    file: PathBuf,
    /// Schema version.
    schema: i64,
    /// By table.
    rows: BTreeMap<String, u64>,
    sha256: String,
    /// Whether this server's key has sealed the log's head; only of an import.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_head_proven: Option<bool>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Copied {
    database: String,
    file: PathBuf,
    /// Schema version.
    schema: i64,
    bytes: u64,
}

pub fn database(action: Action, output: Output) -> Result<()> {
    match action {
        Action::Migrate { config, dry_run } => {
            let config = Config::load(&config.config)?;
            client::block_on(migrate(&config, dry_run, output))
        }
        Action::Export { file, config } => {
            let config = Config::load(&config.config)?;
            client::block_on(export(&config, &file, output))
        }
        Action::Import {
            file,
            config,
            dry_run,
        } => {
            let config = Config::load(&config.config)?;
            client::block_on(import(&config, &file, dry_run, output))
        }
        Action::Backup { file, config } => backup(&Config::load(&config.config)?, &file, output),
    }
}

/// That no server uses the file meanwhile. Servers on PostgreSQL are kept out by its own locks.
fn alone(config: &Config) -> Result<Option<File>> {
    match config.database {
        Database::Sqlite(_) => serve::lock_data_dir(config).map(Some),
        Database::Postgres(_) => Ok(None),
    }
}

/// What is sound and does not fit is refused; all else has failed.
fn failed(error: TransferError) -> anyhow::Error {
    match &error {
        TransferError::Format { .. }
        | TransferError::FileSchema { .. }
        | TransferError::Operator { .. }
        | TransferError::NotEmpty { .. }
        | TransferError::Behind { .. }
        | TransferError::OnlySqlite { .. }
        | TransferError::Exists(_) => exit::because(Exit::Refused, error),
        TransferError::Store(_)
        | TransferError::Write(_)
        | TransferError::Read { .. }
        | TransferError::Form { .. }
        | TransferError::NoExport
        | TransferError::CutOff { .. }
        | TransferError::Changed
        | TransferError::File { .. }
        | TransferError::Unsound(_) => error.into(),
    }
}

async fn migrate(config: &Config, dry_run: DryRun, output: Output) -> Result<()> {
    let _alone = alone(config)?;
    let migrated = transfer::migrate(&config.database, dry_run.into())
        .await
        .map_err(failed)?;
    dry_run.tell();
    match output {
        Output::Json => output::json(&dry_run.with(Migrated {
            database: config.database.to_string(),
            from: migrated.from,
            to: migrated.to,
        })),
        Output::Table => output::print(&format!(
            "{}: {}\n",
            config.database,
            match (migrated.from, migrated.to) {
                (0, to) => format!("new, with schema version {to}"),
                (from, to) if from == to => format!("has schema version {to} already"),
                (from, to) => format!("from schema version {from} to {to}"),
            }
        )),
    }
}

async fn export(config: &Config, file: &Path, output: Output) -> Result<()> {
    if file.exists() {
        refuse!("{} is there already; it is not overwritten", file.display());
    }
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    // Readable by its owner only, and without its name until it is whole.
    let mut unfinished = tempfile::Builder::new()
        .prefix(".doorstep-export-")
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let mut out = BufWriter::with_capacity(256 * 1024, unfinished.as_file_mut());
    let summary = transfer::export(&config.database, &config.operator, &mut out)
        .await
        .map_err(failed)?;
    out.flush()
        .with_context(|| format!("cannot write {}", file.display()))?;
    drop(out);
    unfinished
        .as_file()
        .sync_all()
        .with_context(|| format!("cannot write {}", file.display()))?;
    unfinished
        .persist_noclobber(file)
        .map_err(|error| error.error)
        .with_context(|| format!("cannot write {}", file.display()))?;
    show(config, file, &summary, None, DryRun::default(), output)
}

async fn import(config: &Config, file: &Path, dry_run: DryRun, output: Output) -> Result<()> {
    let _alone = alone(config)?;
    let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let input = BufReader::with_capacity(256 * 1024, input);
    let summary = transfer::import(&config.database, &config.operator, input, dry_run.into())
        .await
        .map_err(failed)
        .with_context(|| file.display().to_string())?;
    dry_run.tell();
    if dry_run.dry_run {
        return show(config, file, &summary, None, dry_run, output);
    }
    let proven = audit(config).await;
    if let Err(error) = &proven {
        eprintln!(
            "note: the audit log cannot be proven here: {error:#}; the keys folder must be the one \
             of the server that was exported"
        );
    }
    show(
        config,
        file,
        &summary,
        Some(proven.is_ok()),
        dry_run,
        output,
    )
}

/// Whether the log's head is one that this server's key has sealed.
async fn audit(config: &Config) -> Result<()> {
    let key = keys::audit_key(config)?;
    let log = AuditLog::open(&config.database, &key).await?;
    Ok(key.check(&log.head())?)
}

fn show(
    config: &Config,
    file: &Path,
    summary: &Summary,
    proven: Option<bool>,
    dry_run: DryRun,
    output: Output,
) -> Result<()> {
    let rows: u64 = summary.rows.values().sum();
    if output == Output::Json {
        return output::json(&dry_run.with(Moved {
            database: config.database.to_string(),
            file: file.to_owned(),
            schema: summary.schema,
            rows: summary.rows.clone(),
            sha256: summary.sha256.clone(),
            audit_head_proven: proven,
        }));
    }
    let tables: Vec<_> = summary
        .rows
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(table, count)| format!("{table} {count}"))
        .collect();
    output::print(&output::fields(&[
        ("database", config.database.to_string()),
        ("file", file.display().to_string()),
        ("schema version", summary.schema.to_string()),
        ("rows", rows.to_string()),
        ("of them", tables.join(", ")),
        ("SHA-256", summary.sha256.clone()),
    ]))
}

fn backup(config: &Config, file: &Path, output: Output) -> Result<()> {
    let made = transfer::backup(&config.database, file).map_err(failed)?;
    match output {
        Output::Json => output::json(&Copied {
            database: config.database.to_string(),
            file: file.to_owned(),
            schema: made.schema,
            bytes: made.bytes,
        }),
        Output::Table => output::print(&output::fields(&[
            ("database", config.database.to_string()),
            ("file", file.display().to_string()),
            ("schema version", made.schema.to_string()),
            ("bytes", made.bytes.to_string()),
        ])),
    }
}
