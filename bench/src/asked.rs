//! What every benchmark takes, what it says meanwhile, and where what it has found goes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

#[derive(clap::Args)]
pub struct Asked {
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A first look: less of everything.
    #[arg(long)]
    pub quick: bool,
}

impl Asked {
    /// Writes the report, if it is wanted.
    pub fn write(&self, report: &impl Serialize) -> Result<()> {
        match &self.json {
            Some(path) => write(path, &(serde_json::to_string_pretty(report)? + "\n")),
            None => Ok(()),
        }
    }
}

pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Tells what goes on, and since when.
pub struct Clock(pub Instant);

impl Clock {
    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        println!("{:>6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}
