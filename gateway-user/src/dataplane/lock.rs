//! One gateway works with a state directory at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::DataplaneError;
use super::pins::failed;

const FILE: &str = "lock";

/// Held while this value lives; the kernel lets go of it when the process ends, however it does.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at once or not at all. The file stays: without a holder it means nothing.
    pub(super) fn take(state_dir: &Path) -> Result<Self, DataplaneError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(failed(state_dir))?;
        let path = state_dir.join(FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataplaneError::Locked { path }),
            Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let held = Lock::take(&state).expect("free");
        assert!(matches!(
            Lock::take(&state),
            Err(DataplaneError::Locked { .. })
        ));
        drop(held);
        Lock::take(&state).expect("free again");
    }
}
