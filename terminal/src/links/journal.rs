//! What is ours, on disk: so that a restarted daemon can go on, or undo it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Owned;

/// Written before each change. It names the boot and the network namespace that it is about:
/// in another one, nothing is ours.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    place: Place,
    owned: Vec<Owned>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    boot_id: String,
    netns: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    place: Place,
    owned: Vec<Owned>,
}

/// The journal cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("journal of links {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a journal.
    #[error(
        "journal of links {path}: {source}; it was written by another version or damaged: undo the \
         terminal's links by hand (or restart the machine), then remove the file"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Journal {
    /// Opens the journal in `state_dir`; an absent one is empty.
    pub fn open(state_dir: &Path) -> Result<Self, JournalError> {
        let path = state_dir.join("links.json");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        let boot = Path::new("/proc/sys/kernel/random/boot_id");
        let netns = Path::new("/proc/thread-self/ns/net");
        let place = Place {
            boot_id: fs::read_to_string(boot)
                .map_err(io(boot))?
                .trim()
                .to_owned(),
            netns: fs::metadata(netns).map_err(io(netns))?.ino(),
        };
        let owned = match fs::read(&path) {
            Ok(bytes) => {
                let content: Content =
                    serde_json::from_slice(&bytes).map_err(|source| JournalError::Content {
                        path: path.clone(),
                        source,
                    })?;
                if content.place == place {
                    content.owned
                } else {
                    Vec::new()
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(JournalError::Io { path, source }),
        };
        Ok(Self { path, place, owned })
    }

    /// What is ours.
    #[must_use]
    pub fn owned(&self) -> &[Owned] {
        &self.owned
    }

    /// Records that this is ours now. It need not survive a power cut (nor do the links), hence
    /// no flush to the disk.
    pub fn record(&mut self, owned: Vec<Owned>) -> Result<(), JournalError> {
        if owned == self.owned && self.path.exists() {
            return Ok(());
        }
        self.owned = owned;
        let content = Content {
            place: self.place.clone(),
            owned: self.owned.clone(),
        };
        let bytes =
            serde_json::to_vec_pretty(&content).map_err(|source| JournalError::Content {
                path: self.path.clone(),
                source,
            })?;
        replace(&self.path, &bytes, Durability::Process).map_err(|source| JournalError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// What a file must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of the process.
    Process,
    /// A power cut.
    Power,
}

/// Replaces a file in one step; only its owner may read it.
pub(crate) fn replace(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    if durability == Durability::Power {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if durability == Durability::Power => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
