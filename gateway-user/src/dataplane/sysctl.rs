//! Kernel settings of this network namespace.

use std::path::PathBuf;
use std::{fs, io};

/// A setting's file; `name` with slashes, since port names may have dots.
fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

/// The value, or none if this kernel has no such setting.
pub(super) fn get(name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(path(name)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(path(name), value)
}
