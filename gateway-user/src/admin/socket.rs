//! The unix socket of the admin service.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use doorstep_proto::v1::gateway_admin_server::GatewayAdminServer;
use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::Admin;

/// How long an answer under way may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The socket; removed on drop.
pub struct AdminSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl AdminSocket {
    /// Listens at a path, for this user only. A socket that nobody listens on is taken over.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        if UnixStream::connect(path).is_ok() {
            bail!(
                "{}: another daemon listens there; stop it, or set another admin_socket",
                path.display()
            );
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => bail!(
                "{}: exists and is not a socket; set another admin_socket",
                path.display()
            ),
            Ok(_) => fs::remove_file(path)
                .with_context(|| format!("cannot remove the old socket {}", path.display()))?,
            Err(_) => {}
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.with_context(|| format!("cannot listen on {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            listener: Some(listener),
        })
    }

    /// Answers until told to stop.
    pub async fn serve(mut self, admin: Admin, stop: CancellationToken) -> anyhow::Result<()> {
        let listener = self.listener.take().context("served once")?;
        let server = Server::builder()
            .add_service(GatewayAdminServer::new(admin))
            .serve_with_incoming_shutdown(
                UnixListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        let stopped = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            served = server => served.context("the admin socket has failed"),
            () = stopped => Ok(()),
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}
