//! Where Debian has PostgreSQL's programs: not on the path, but beside each other by version.

use std::path::PathBuf;

use anyhow::{Result, bail};

const VERSIONS: &str = "/usr/lib/postgresql";

/// The path of `initdb`, `postgres` or `psql`, of the newest version there is.
pub fn program(name: &str) -> Result<PathBuf> {
    let newest = std::fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let program = entry.path().join("bin").join(name);
            program.exists().then_some((version, program))
        })
        .max();
    match newest {
        Some((_, program)) => Ok(program),
        None => bail!(
            "there is no {name} below {VERSIONS}: install PostgreSQL with `cargo xtask setup`, or \
             the Debian package postgresql"
        ),
    }
}
