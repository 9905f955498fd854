//! The former values of what was changed, in the state directory.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::setting::Setting;
use crate::config::Config;
use crate::dataplane::DataplaneError;

/// Names this boot: what was changed before it is gone.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The former values of everything that was changed, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
    boot_id: String,
    former: Vec<Setting>,
}

impl Record {
    fn path(config: &Config) -> PathBuf {
        config.state_dir.join("host.json")
    }

    /// The record of this boot.
    pub(super) fn read(config: &Config) -> Result<Self, DataplaneError> {
        let boot_id = fs::read_to_string(BOOT_ID)
            .unwrap_or_default()
            .trim()
            .to_owned();
        let path = Self::path(config);
        let record = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| DataplaneError::Record { path, source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(source) => return Err(DataplaneError::Io { path, source }),
        };
        let former = if record.boot_id == boot_id {
            record.former
        } else {
            Vec::new()
        };
        Ok(Self { boot_id, former })
    }

    /// Keeps the oldest value of each setting: a later one is ours.
    pub(super) fn remember(&mut self, former: Setting) {
        if !self.former.iter().any(|known| known.is_same_place(&former)) {
            self.former.push(former);
        }
    }

    /// Takes out what is not to be kept, the last changed first.
    pub(super) fn take_unless(&mut self, keep: impl Fn(&Setting) -> bool) -> Vec<Setting> {
        let (kept, mut taken): (Vec<_>, Vec<_>) = self.former.drain(..).partition(keep);
        self.former = kept;
        taken.reverse();
        taken
    }

    /// Returns what could not be undone, in the order of [`Record::take_unless`].
    pub(super) fn put_back(&mut self, settings: Vec<Setting>) {
        self.former.extend(settings.into_iter().rev());
    }

    /// Writes the record, or removes it when there is nothing to put back.
    pub(super) fn write(&self, config: &Config) -> Result<(), DataplaneError> {
        let path = Self::path(config);
        let io = |source| DataplaneError::Io {
            path: path.clone(),
            source,
        };
        if self.former.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
                _ => Ok(()),
            };
        }
        fs::create_dir_all(&config.state_dir).map_err(io)?;
        let text = serde_json::to_vec_pretty(self).map_err(|source| DataplaneError::Record {
            path: path.clone(),
            source,
        })?;
        let new = path.with_extension("json.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io)
    }
}
