//! The connection to the daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::terminal_admin_client::TerminalAdminClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A client of the daemon that listens at `socket`.
pub(super) fn connect(socket: &Path) -> anyhow::Result<TerminalAdminClient<Channel>> {
    // Tried once here for an error that names the socket; the channel connects on its own.
    std::os::unix::net::UnixStream::connect(socket).with_context(|| {
        format!(
            "no daemon answers at {}; is `doorstep-terminal run` running?",
            socket.display()
        )
    })?;
    let path: PathBuf = socket.to_owned();
    let channel = Endpoint::from_static("http://daemon").connect_with_connector_lazy(service_fn(
        move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        },
    ));
    Ok(TerminalAdminClient::new(channel))
}

/// What the daemon answered, as an error.
pub(super) fn failed(status: Status) -> anyhow::Error {
    let text = status.message();
    if text.is_empty() {
        anyhow!("the daemon: {}", status.code())
    } else {
        anyhow!("{text}")
    }
}

pub(super) async fn status(socket: &Path) -> anyhow::Result<pb::TerminalStatus> {
    let answer = connect(socket)?.status(pb::TerminalStatusRequest {}).await;
    Ok(answer.map_err(failed)?.into_inner())
}
