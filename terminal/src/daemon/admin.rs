//! The daemon's side of the admin socket.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context as _, bail};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::terminal_admin_server::{TerminalAdmin, TerminalAdminServer};
use futures::Stream;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::events::{Command, Event};

/// Listens at `path`; only its owner may connect.
pub(super) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let at = || format!("admin socket {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(at)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("{}: another daemon answers there; stop it first", at()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(at)?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(at)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(at)?;
    Ok(listener)
}

/// Serves until `stop`.
pub(super) async fn serve(
    socket: UnixListener,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .add_service(TerminalAdminServer::new(Service { events }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(socket), stop.cancelled())
        .await
        .context("admin socket")
}

#[derive(Debug)]
struct Service {
    events: mpsc::Sender<Event>,
}

fn stopping() -> Status {
    Status::unavailable("the daemon is stopping")
}

impl Service {
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command + Send,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.events
            .send(Event::Command(command(reply)))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl TerminalAdmin for Service {
    async fn register(
        &self,
        request: Request<pb::TerminalRegisterRequest>,
    ) -> Result<Response<pb::TerminalRegisterResponse>, Status> {
        let request = request.into_inner();
        let subscriber_id = self
            .ask(|reply| Command::Register { request, reply })
            .await??;
        Ok(Response::new(pb::TerminalRegisterResponse {
            subscriber_id,
        }))
    }

    type RequestStream =
        Pin<Box<dyn Stream<Item = Result<pb::TerminalStep, Status>> + Send + 'static>>;

    async fn request(
        &self,
        request: Request<pb::TerminalServiceRequest>,
    ) -> Result<Response<Self::RequestStream>, Status> {
        let (steps, told) = mpsc::channel(256);
        let command = Command::Request {
            request: request.into_inner(),
            steps,
        };
        self.events
            .send(Event::Command(command))
            .await
            .map_err(|_| stopping())?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn release(
        &self,
        request: Request<pb::TerminalReleaseRequest>,
    ) -> Result<Response<pb::TerminalReleaseResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Command::Release { request, reply })
            .await?
            .map(Response::new)
    }

    async fn status(
        &self,
        _: Request<pb::TerminalStatusRequest>,
    ) -> Result<Response<pb::TerminalStatus>, Status> {
        self.ask(|reply| Command::Status { reply })
            .await
            .map(Response::new)
    }
}
