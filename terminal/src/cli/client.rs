//! The connection to the daemon.

use std::path::Path;

use doorstep_daemon::client::{self, refused};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::terminal_admin_client::TerminalAdminClient;
use tonic::transport::Channel;

/// A client of the daemon that listens at `socket`.
pub(super) async fn connect(socket: &Path) -> anyhow::Result<TerminalAdminClient<Channel>> {
    let channel = client::connect(socket, "terminal").await?;
    Ok(TerminalAdminClient::new(channel))
}

pub(super) async fn status(socket: &Path) -> anyhow::Result<pb::TerminalStatus> {
    let mut client = connect(socket).await?;
    let answer = client.status(pb::TerminalStatusRequest {}).await;
    Ok(answer.map_err(refused)?.into_inner())
}
