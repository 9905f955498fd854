//! Where maps and links are pinned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use doorstep_gateway_common::names::SCHEMA_VERSION;
use nix::sys::statfs;

use super::DataplaneError;

/// The pin path of this version: `<pin_path>/v1/{maps,links}`.
pub(super) struct Pins {
    root: PathBuf,
    version: PathBuf,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            version: root.join(format!("v{SCHEMA_VERSION}")),
        }
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.version.join("maps").join(name)
    }

    pub(super) fn link(&self, program: &str, port: &str) -> PathBuf {
        // A BPF file system refuses names with dots, which port names may have.
        self.version
            .join("links")
            .join(format!("{program}-{}", port.replace('.', "_")))
    }

    /// Makes the folders, on a BPF file system or not at all.
    pub(super) fn prepare(&self) -> Result<(), DataplaneError> {
        let existing = self
            .root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        let is_bpffs = statfs::statfs(existing)
            .is_ok_and(|stat| stat.filesystem_type() == statfs::BPF_FS_MAGIC);
        if !is_bpffs {
            return Err(DataplaneError::NotBpffs {
                path: self.root.clone(),
                mount: self.root.parent().unwrap_or(&self.root).to_owned(),
            });
        }
        for folder in ["maps", "links"] {
            let path = self.version.join(folder);
            fs::create_dir_all(&path).map_err(|source| DataplaneError::Io { path, source })?;
        }
        Ok(())
    }

    /// Refuses a pinned map that is not what this version's programs work with.
    pub(super) fn check_map(&self, name: &str, wanted: MapShape) -> Result<(), DataplaneError> {
        let path = self.map(name);
        if !path.exists() {
            return Ok(());
        }
        let info = MapInfo::from_pin(&path).map_err(|source| DataplaneError::Io {
            path: path.clone(),
            source: io::Error::other(source),
        })?;
        let found = MapShape {
            kind: info.map_type().unwrap_or(MapType::Unspecified),
            key_bytes: info.key_size(),
            value_bytes: info.value_size(),
            max_entries: info.max_entries(),
        };
        if found == wanted {
            return Ok(());
        }
        let (found, wanted) = (found.to_string(), wanted.to_string());
        Err(DataplaneError::PinnedMap {
            path,
            found,
            wanted,
        })
    }

    /// Removes every pin of every version.
    pub(super) fn remove_all(&self) -> Result<(), DataplaneError> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataplaneError::Io {
                path: self.root.clone(),
                source: error,
            }),
            _ => Ok(()),
        }
    }
}

/// What the kernel knows of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MapShape {
    pub(super) kind: MapType,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) max_entries: u32,
}

impl std::fmt::Display for MapShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            key_bytes,
            value_bytes,
            max_entries,
        } = self;
        write!(
            f,
            "{kind:?} of {max_entries} entries ({key_bytes} → {value_bytes} bytes)"
        )
    }
}
