//! Where maps and links are pinned.
//!
//! Everything below `<pin_path>/v*/links` is the gateway's; of what lies beside it, only what has
//! one of its names. Nothing else is ever removed.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{MapInfo, MapType};
use doorstep_gateway_common::names::{SCHEMA_VERSION, map};
use nix::sys::statfs;
use tracing::warn;

use super::{DataplaneError, attach};

/// The pin path of this version: `<pin_path>/vN/{maps,links}`.
#[derive(Clone)]
pub(super) struct Pins {
    root: PathBuf,
    version: PathBuf,
}

impl Pins {
    pub(super) fn new(root: &Path) -> Self {
        Self::of_version(root, SCHEMA_VERSION)
    }

    fn of_version(root: &Path, version: u32) -> Self {
        Self {
            root: root.to_owned(),
            version: root.join(format!("v{version}")),
        }
    }

    /// The pins of earlier versions that are left, the oldest first.
    pub(super) fn former(&self) -> Result<Vec<(u32, Self)>, DataplaneError> {
        let mut versions: Vec<u32> = entries(&self.root)?.iter().filter_map(version).collect();
        versions.sort_unstable();
        let former = versions.into_iter().filter(|it| *it < SCHEMA_VERSION);
        Ok(former
            .map(|version| (version, Self::of_version(&self.root, version)))
            .collect())
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.version.join("maps").join(name)
    }

    /// By the port's index, not its name: links stay with the device when a name moves on, and a
    /// BPF file system refuses dots.
    pub(super) fn link(&self, hook: &str, ifindex: u32) -> PathBuf {
        self.version.join("links").join(format!("{hook}-{ifindex}"))
    }

    /// The pin here with the name of another version's.
    pub(super) fn link_like(&self, other: &Path) -> Option<PathBuf> {
        Some(self.version.join("links").join(other.file_name()?))
    }

    /// Every link that is pinned, and every mark of a filter.
    pub(super) fn links(&self) -> Result<Vec<PathBuf>, DataplaneError> {
        Ok(entries(&self.version.join("links"))?
            .iter()
            .map(DirEntry::path)
            .collect())
    }

    /// Makes the folders, on a BPF file system or not at all; and not beside those of a version
    /// that is not known here.
    pub(super) fn prepare(&self) -> Result<(), DataplaneError> {
        self.check()?;
        let newer = entries(&self.root)?;
        let newer = newer
            .iter()
            .find(|entry| version(entry) > Some(SCHEMA_VERSION));
        if let Some(newer) = newer {
            return Err(DataplaneError::NewerPins { path: newer.path() });
        }
        for folder in ["maps", "links"] {
            let path = self.version.join(folder);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// Refuses a path that is not the gateway's own folder on a BPF file system.
    fn check(&self) -> Result<(), DataplaneError> {
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
        if existing == self.root {
            let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev());
            let own = device(&self.root).map_err(failed(&self.root))?;
            let above = device(&self.root.join("..")).map_err(failed(&self.root))?;
            if own != above {
                return Err(DataplaneError::PinPath {
                    path: self.root.clone(),
                });
            }
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

    /// What [`Pins::remove`] removes.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, DataplaneError> {
        if !self.root.exists() {
            return Ok(Vec::new());
        }
        self.check()?;
        let mut all = Vec::new();
        for version in entries(&self.root)?.iter().filter_map(version) {
            let pins = Self::of_version(&self.root, version);
            all.extend(pins.links()?);
            let maps = map::PINNED.iter().chain(&map::FORMER);
            all.extend(maps.map(|name| pins.map(name)).filter(|pin| pin.exists()));
        }
        Ok(all)
    }

    /// Takes the programs off and removes the pins, of every version. What is not the gateway's
    /// stays, and with it the folders that it is in.
    pub(super) fn remove(&self) -> Result<(), DataplaneError> {
        if !self.root.exists() {
            return Ok(());
        }
        self.check()?;
        for version in entries(&self.root)?.iter().filter_map(version) {
            Self::of_version(&self.root, version).remove_version()?;
        }
        remove_empty(&self.root)
    }

    /// Takes the programs off and removes the pins, of this version alone.
    pub(super) fn remove_version(&self) -> Result<(), DataplaneError> {
        for link in self.links()? {
            attach::take_off(&link)?;
        }
        for name in map::PINNED.iter().chain(&map::FORMER) {
            remove_pin(&self.map(name))?;
        }
        for folder in ["links", "maps"] {
            remove_empty(&self.version.join(folder))?;
        }
        remove_empty(&self.version)
    }
}

/// The number of a version's folder, if it is one.
fn version(entry: &DirEntry) -> Option<u32> {
    let name = entry.file_name();
    let number = name.to_str()?.strip_prefix('v')?;
    // Not `v02`, which is not where that version's pins are.
    number
        .parse()
        .ok()
        .filter(|version: &u32| version.to_string() == number)
}

/// What is in a folder; nothing if there is none.
fn entries(folder: &Path) -> Result<Vec<DirEntry>, DataplaneError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed(folder)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(folder)(error)),
    }
}

pub(super) fn remove_pin(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

/// Removes a folder unless something is in it.
fn remove_empty(folder: &Path) -> Result<(), DataplaneError> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            warn!(path = %folder.display(), "left: it holds what is not the gateway's");
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder)(error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> DataplaneError {
    let path = path.to_owned();
    move |source| DataplaneError::Io { path, source }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_folder_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("doorstep");
        let files = ["notes", "v1/maps/UPSTREAM_V4", "v1/links/xdp-native-1"];
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("a parent")).expect("made");
            fs::write(file, "mine").expect("written");
        }
        let pins = Pins::new(&root);
        for refused in [pins.remove(), pins.prepare()] {
            assert!(
                matches!(refused, Err(DataplaneError::NotBpffs { .. })),
                "{refused:?}"
            );
        }
        for file in files {
            assert!(root.join(file).exists(), "{file}");
        }
    }

    #[test]
    fn nothing_pinned_is_nothing_to_remove() {
        let folder = tempfile::tempdir().expect("a folder");
        Pins::new(&folder.path().join("doorstep"))
            .remove()
            .expect("nothing to do");
    }

    #[test]
    fn the_root_is_refused() {
        Pins::new(Path::new("/")).remove().expect_err("refused");
    }
}
