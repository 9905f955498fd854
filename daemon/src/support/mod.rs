//! `support-bundle`: what somebody who helps needs to know of a daemon, in one file that may be sent away.
//!
//! ```text
//! doorstep-server-support/
//!   manifest.json   version, time, what is there, what is not and why, how much was not told
//!   host.json       kernel, distribution, settings
//!   config.json     the configuration's keys that are known to be harmless
//!   status.json …   what the daemon says of itself
//!   metrics.json    what Prometheus would be told
//!   log.json        events of the log
//! ```
//!
//! Told is only what an allow-list names ([`Shape`]): numbers, states, names, addresses of the network's own
//! side. There is no phone or ID-card number, no key, token or sealed id among them, no address of a
//! subscriber, and no free text, which may quote any of these. Before the file is written, all of it is
//! looked through once more ([`check`]).

mod archive;
mod check;
mod host;
mod log;
mod metrics;
mod shape;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use shape::{Picking, Shape, WITHHELD};

use crate::metrics::Family;

/// Files of this size and less may be keys.
const KEY_FILE: u64 = 64 * 1024;

/// The arguments that all daemons' commands have.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The file that is made: a gzipped tar archive
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A log in lines of JSON, instead of the system's journal
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How many of the log's last lines are looked at
    #[arg(long, value_name = "N", default_value_t = 5000)]
    pub log_lines: usize,
    /// Tell the locations of homes, too: who reads it learns where subscribers live
    #[arg(long)]
    pub locations: bool,
}

/// What is gathered.
pub struct Bundle {
    daemon: &'static str,
    version: &'static str,
    files: Vec<(String, Value)>,
    lacking: Map<String, Value>,
    picking: Picking,
    secrets: check::Secrets,
}

/// What was written.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Written {
    pub file: PathBuf,
    /// Names of the files in it.
    pub files: Vec<String>,
    /// What is not in it, each with the reason.
    pub lacking: Vec<String>,
    /// Values that have not the form that they should have.
    pub withheld: u64,
    /// Keys that are not told.
    pub left_out: u64,
}

impl Bundle {
    /// Of a daemon, such as `doorstep-server`, of a version.
    #[must_use]
    pub fn new(daemon: &'static str, version: &'static str, options: &Options) -> Bundle {
        let mut picking = Picking {
            locations: options.locations,
            ..Picking::default()
        };
        let host = host::facts(&mut picking);
        Bundle {
            daemon,
            version,
            files: vec![("host.json".to_owned(), host)],
            lacking: Map::new(),
            picking,
            secrets: check::Secrets::default(),
        }
    }

    /// A file of what an allow-list takes of a value.
    pub fn add(&mut self, file: &str, shape: &Shape, value: &Value) {
        let picked = shape.pick(value, &mut self.picking);
        self.files.push((file.to_owned(), picked));
    }

    /// Says why a file is not there. The reason is told, so it must not quote anything.
    pub fn lacks(&mut self, file: &str, why: &'static str) {
        self.lacking.insert(file.to_owned(), why.into());
    }

    /// The daemon's answer as a file, or that there is none.
    pub fn answer<T: Serialize>(&mut self, file: &str, shape: &Shape, answer: Result<T>) {
        let value = answer.and_then(|answer| Ok(serde_json::to_value(answer)?));
        match value {
            Ok(value) => self.add(file, shape, &value),
            Err(_) => self.lacks(file, "the daemon does not answer"),
        }
    }

    /// The configuration, by its own keys, whether or not it is good. Returns it as it is.
    pub fn configuration(&mut self, path: &Path, shape: &Shape) -> Value {
        let file = "config.json";
        let Ok(text) = fs::read_to_string(path) else {
            self.lacks(
                file,
                "the configuration cannot be read; --config names another file",
            );
            return Value::Null;
        };
        match toml::from_str::<Value>(&text) {
            Ok(value) => {
                self.add(file, shape, &value);
                value
            }
            Err(_) => {
                self.lacks(file, "the configuration is not TOML");
                Value::Null
            }
        }
    }

    /// What is in a folder, by names and sizes.
    pub fn folder(&mut self, file: &str, path: &Path) {
        let told = host::folder(path, &mut self.picking);
        match told {
            Value::Null => self.lacks(file, "the folder cannot be read"),
            told => self.files.push((file.to_owned(), told)),
        }
    }

    /// The content of these files, or of the files in these folders, must not be in the bundle.
    pub fn secret_files(&mut self, paths: &[PathBuf]) {
        for path in paths {
            let within = fs::read_dir(path).into_iter().flatten().flatten();
            let files = within.map(|entry| entry.path()).chain([path.clone()]);
            for file in files {
                let small =
                    fs::metadata(&file).is_ok_and(|it| it.is_file() && it.len() <= KEY_FILE);
                if let (true, Ok(content)) = (small, fs::read(&file)) {
                    self.secrets.add_file(&content);
                }
            }
        }
    }

    /// A text that must not be in the bundle.
    pub fn secret(&mut self, secret: &str) {
        self.secrets.add(secret.as_bytes());
    }

    /// The log's events; `own` are the crates whose messages are literals.
    pub fn log(&mut self, options: &Options, own: &[&str]) {
        let lines = match &options.log {
            Some(file) => log::of_file(file, options.log_lines),
            None => log::of_journal(self.daemon, options.log_lines),
        };
        match lines {
            Ok(lines) => {
                let log = log::read(&lines, own, &mut self.picking);
                let told = json!({
                    "lines": lines.len(),
                    "without_structure": log.without_structure,
                    "events": log.events,
                });
                self.files.push(("log.json".to_owned(), told));
            }
            Err(why) => self.lacks("log.json", why),
        }
    }

    /// The samples that a scrape gets where the configuration has `[metrics]`.
    pub async fn metrics(&mut self, configuration: &Value, families: &[&Family]) {
        let file = "metrics.json";
        let listen = configuration["metrics"]["listen"].as_str();
        let Some(listen) = listen.and_then(|listen| listen.parse::<SocketAddr>().ok()) else {
            return self.lacks(file, "the configuration has no [metrics]");
        };
        match metrics::scrape(listen).await {
            Ok(text) => {
                let samples = metrics::samples(&text, families, &mut self.picking);
                self.files.push((file.to_owned(), samples));
            }
            Err(_) => self.lacks(file, "the daemon does not answer scrapes"),
        }
    }

    /// Looks through all of it and writes the archive.
    ///
    /// # Errors
    ///
    /// If something is found that must not leave this host, or the file cannot be written.
    pub fn write(self, options: &Options) -> Result<Written> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        let created_ns = i128::try_from(created.unwrap_or_default().as_nanos())?;
        let names: Vec<String> = self.files.iter().map(|(name, _)| name.clone()).collect();
        let manifest = json!({
            "daemon": self.daemon,
            "version": self.version,
            "created": shape::moment(created_ns),
            "files": names,
            "lacking": self.lacking,
            "locations": options.locations,
            "withheld": self.picking.withheld,
            "left_out": self.picking.left_out,
        });
        let mut files = vec![("manifest.json".to_owned(), manifest)];
        files.extend(self.files);
        let mut contents = Vec::new();
        for (name, value) in files {
            if let Some(place) = check::find(&value, &self.secrets, options.locations) {
                bail!(
                    "{name} would have what may be a secret or somebody's number, in {place}; nothing was \
                     written. Please report it; what the commands of {} say can be sent by hand meanwhile",
                    self.daemon
                );
            }
            contents.push((name, serde_json::to_vec_pretty(&value)?));
        }
        archive::write(&options.out, &format!("{}-support", self.daemon), &contents)?;
        let lacking = self.lacking.iter();
        Ok(Written {
            file: options.out.clone(),
            files: contents.into_iter().map(|(name, _)| name).collect(),
            lacking: lacking
                .map(|(file, why)| format!("{file}: {}", why.as_str().unwrap_or_default()))
                .collect(),
            withheld: self.picking.withheld,
            left_out: self.picking.left_out,
        })
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.file.display(), self.files.join(", "))?;
        for lacking in &self.lacking {
            writeln!(f, "not in it: {lacking}")?;
        }
        writeln!(
            f,
            "{} keys are not told, {} values neither; look through it before you send it",
            self.left_out, self.withheld
        )
    }
}

#[cfg(test)]
mod tests;
