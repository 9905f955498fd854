//! Which links are in force, where the configuration file alone does not say so: on disk, so that a
//! daemon that is killed goes on with them, and with the wait for their confirmation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::config::LinkConfig;
use crate::links::journal::{Durability, replace};

/// Links that come back unless the present ones are confirmed in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// What comes back.
    pub former: LinkConfig,
    /// When, in milliseconds of Unix time.
    pub until_unix_ms: i64,
    /// How long it was to be waited, in milliseconds: no clock that is set makes it longer.
    pub within_ms: u32,
}

/// What `apply` has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// In force.
    pub links: LinkConfig,
    /// What the daemon's own configuration file said at that time, if it could be read: a file that
    /// says something else now was written later, and counts.
    pub file: Option<LinkConfig>,
    /// Whether they wait for a confirmation.
    pub pending: Option<Pending>,
}

impl Applied {
    /// Whether a daemon that starts with its configuration file does the same without this record.
    #[must_use]
    pub fn is_the_file(&self) -> bool {
        self.pending.is_none() && self.file.as_ref() == Some(&self.links)
    }

    /// What is in force for a daemon that starts, and what it waits for.
    #[must_use]
    pub fn resume(record: Option<Self>, file: LinkConfig) -> Self {
        let of_file = |file: LinkConfig| Self {
            links: file.clone(),
            file: Some(file),
            pending: None,
        };
        match record {
            Some(record) if record.pending.is_some() => record,
            Some(record) if record.file.as_ref() == Some(&file) => record,
            _ => of_file(file),
        }
    }

    /// Tells the log where the configuration file is not what is in force.
    pub(crate) fn tell(&self) {
        if self.pending.is_some() {
            info!("the links that were applied last wait for `doorstep-terminal confirm`");
        } else if !self.is_the_file() {
            info!(
                "the links in force are those that were applied last, not the configuration's; \
                 `doorstep-terminal apply` takes those up"
            );
        }
    }
}

/// The file in which it is kept.
#[derive(Debug)]
pub struct AppliedStore {
    path: PathBuf,
}

impl AppliedStore {
    /// A store in `state_dir`, which is there.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("applied.json"),
        }
    }

    /// What is kept. A file that cannot be read is told of, and counts as none: the links of the
    /// configuration file are better than no daemon.
    #[must_use]
    pub fn load(&self) -> Option<Applied> {
        let read = fs::read(&self.path);
        let record = match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        };
        let path = self.path.display();
        match record {
            Ok(record) => Some(record),
            Err(error) => {
                warn!(%path, %error, "what was applied last is not known; the configuration counts");
                None
            }
        }
    }

    /// Replaces what is kept; nothing is kept of what the configuration file says anyway.
    pub fn save(&self, applied: &Applied) -> io::Result<()> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        };
        if applied.is_the_file() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(error)),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec_pretty(applied).map_err(io::Error::other)?;
        replace(&self.path, &bytes, Durability::Power).map_err(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Wan, WanTags};

    fn links(port: &str) -> LinkConfig {
        LinkConfig {
            wan: Wan {
                ports: vec![port.into()],
                tags: WanTags::Auto,
                route_metric: 52,
                garden: true,
            },
            home: None,
        }
    }

    fn applied(now: &str, file: &str, former: Option<&str>) -> Applied {
        Applied {
            links: links(now),
            file: Some(links(file)),
            pending: former.map(|former| Pending {
                former: links(former),
                until_unix_ms: 9,
                within_ms: 60_000,
            }),
        }
    }

    #[test]
    fn a_file_that_was_written_later_counts() {
        let cases = [
            ("nothing was applied", None, "b", "b"),
            ("another file", Some(applied("a", "b", None)), "b", "a"),
            ("changed since", Some(applied("a", "b", None)), "c", "c"),
            (
                "changed, but waiting",
                Some(applied("a", "b", Some("b"))),
                "c",
                "a",
            ),
        ];
        for (name, record, file, expected) in cases {
            let waits = record
                .as_ref()
                .is_some_and(|record| record.pending.is_some());
            let resumed = Applied::resume(record, links(file));
            assert_eq!(resumed.links, links(expected), "{name}");
            assert_eq!(resumed.pending.is_some(), waits, "{name}");
        }
    }

    #[test]
    fn what_the_file_says_anyway_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = AppliedStore::new(folder.path());
        assert_eq!(store.load(), None);
        let waiting = applied("a", "b", Some("b"));
        store.save(&waiting).unwrap();
        assert_eq!(store.load(), Some(waiting));
        store.save(&applied("b", "b", None)).unwrap();
        assert_eq!(store.load(), None);
        std::fs::write(folder.path().join("applied.json"), "{").unwrap();
        assert_eq!(store.load(), None, "told of, and not a reason to stop");
    }
}
