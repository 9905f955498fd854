//! PostgreSQL's programs, without a database of this host's own.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

pub const PACKAGE: &str = "postgresql";

/// Debian keeps its programs by version, off the path.
pub fn is_there() -> bool {
    fs::read_dir("/usr/lib/postgresql").is_ok_and(|versions| {
        versions
            .flatten()
            .any(|version| version.path().join("bin/initdb").is_file())
    })
}

/// Debian's package makes a cluster and starts it, unless told otherwise beforehand.
pub fn without_a_cluster() -> Result<()> {
    let folder = Path::new("/etc/postgresql-common/createcluster.d");
    let file = folder.join("doorstep.conf");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, "create_main_cluster = false\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}
