//! The administration socket: a Unix socket that only its owner may use, removed at the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

/// How long an answer under way may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Listens at a path, for this user only. A socket that nobody answers on is taken over; its
    /// folder is made if need be.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        remove_stale(path)?;
        // Bound under another name and moved, so that nobody can connect before the mode is set.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        // Left by a process of the same number that was killed here; absent otherwise.
        let _ = fs::remove_file(&temporary);
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("cannot bind the administration socket {}", path.display()))?;
        let placed = fs::set_permissions(&temporary, Permissions::from_mode(0o600))
            .and_then(|()| identity(&temporary))
            .and_then(|identity| fs::rename(&temporary, path).map(|()| identity));
        match placed {
            Ok(identity) => Ok(Self {
                listener,
                file: SocketFile {
                    path: path.to_owned(),
                    identity,
                },
            }),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error).with_context(|| {
                    format!("cannot place the administration socket {}", path.display())
                })
            }
        }
    }

    /// Answers until told to stop, then lets answers under way end, for a moment.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, file } = self;
        let server = router.serve_with_incoming_shutdown(
            UnixListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
        let patience = async {
            stop.cancelled().await;
            // Who comes now finds no socket, rather than one that answers nobody.
            drop(file);
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            served = server => served.context("the administration socket failed"),
            () = patience => Ok(()),
        }
    }
}

/// Whether a daemon answers at a path.
#[must_use]
pub fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Removes a bound socket's file, unless another daemon's socket has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Gone meanwhile is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode: the file itself, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// A socket that refuses connections is left from a crash; anything else is not ours to remove.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("cannot look at {}", path.display()))?,
    };
    if !metadata.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket; move it away, or configure another admin_socket",
            path.display()
        );
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another daemon answers on {}; stop it, or configure another admin_socket",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("cannot remove the stale socket {}", path.display())),
        Err(error) => Err(error).with_context(|| {
            format!(
                "cannot tell whether a daemon answers on {}; configure another admin_socket",
                path.display()
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tonic::service::Routes;
    use tonic::transport::Server;

    use super::*;

    fn router() -> Router {
        Server::builder().add_routes(Routes::default())
    }

    fn failure(path: &Path) -> String {
        format!("{:#}", AdminSocket::bind(path).unwrap_err())
    }

    #[tokio::test]
    async fn only_its_owner_may_use_it_and_it_goes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/here/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(answers(&path));
        let beside = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(beside, 1, "no temporary name is left");
        drop(socket);
        assert!(!path.exists());
        assert!(!answers(&path));
    }

    #[tokio::test]
    async fn what_a_crash_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        // A process that another test starts holds a copy of the listener until it runs its program.
        let patience = Instant::now() + Duration::from_secs(10);
        while answers(&path) {
            assert!(Instant::now() < patience, "nobody listens any more");
            std::thread::sleep(Duration::from_millis(1));
        }
        let _socket = AdminSocket::bind(&path).unwrap();
        assert!(answers(&path));
    }

    #[tokio::test]
    async fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        fs::write(&path, "letter").unwrap();
        let error = failure(&path);
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "letter");
        fs::remove_file(&path).unwrap();

        let socket = AdminSocket::bind(&path).unwrap();
        let error = failure(&path);
        assert!(error.contains("another daemon answers on"), "{error}");
        assert!(answers(&path));

        // Somebody moved it away and another took the place: the first leaves that one alone.
        fs::rename(&path, folder.path().join("old.sock")).unwrap();
        let other = AdminSocket::bind(&path).unwrap();
        drop(socket);
        assert!(answers(&path));
        drop(other);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_bound_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("a".repeat(120));
        let error = failure(&long);
        assert!(error.contains(&long.display().to_string()), "{error}");
        fs::write(folder.path().join("file"), "").unwrap();
        let error = failure(&folder.path().join("file/admin.sock"));
        assert!(error.contains("cannot make the folder"), "{error}");
    }

    #[tokio::test]
    async fn serves_until_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let stop = CancellationToken::new();
        let socket = AdminSocket::bind(&path).unwrap();
        let serving = tokio::spawn(socket.serve(router(), stop.clone()));
        // A client that never ends does not hold the daemon up.
        let _idle = tokio::net::UnixStream::connect(&path).await.unwrap();
        assert!(!serving.is_finished());
        stop.cancel();
        let ended = tokio::time::timeout(LAST_ANSWERS * 3, serving).await;
        ended.expect("ends in time").unwrap().unwrap();
        assert!(!path.exists());
    }
}
