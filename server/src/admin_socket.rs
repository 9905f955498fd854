//! The administration socket: a Unix socket that only its owner may use, removed at the end.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result, bail};
use futures::Stream;
use tokio::net::{UnixListener, UnixStream};

/// A bound socket; its file goes with it.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    pub fn bind(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        remove_stale(path)?;
        // Bound under another name and moved, so that nobody can connect before the mode is set.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let _ = std::fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("cannot bind the administration socket {}", path.display()))?;
        let moved = std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&temporary, path));
        if let Err(error) = moved {
            let _ = std::fs::remove_file(&temporary);
            return Err(error).with_context(|| {
                format!("cannot place the administration socket {}", path.display())
            });
        }
        Ok(AdminSocket {
            listener,
            path: path.to_owned(),
        })
    }

    pub fn incoming(self) -> Incoming {
        Incoming(self)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket that nobody answers is left from a crash; anything else is not ours to remove.
fn remove_stale(path: &Path) -> Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    if !metadata.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket; move it away",
            path.display()
        );
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another server answers on {}; stop it, or configure another admin_socket",
            path.display()
        );
    }
    std::fs::remove_file(path)
        .with_context(|| format!("cannot remove the stale {}", path.display()))
}

/// The connections that arrive.
pub struct Incoming(AdminSocket);

impl Stream for Incoming {
    type Item = std::io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0
            .listener
            .poll_accept(context)
            .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}
