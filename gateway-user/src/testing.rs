//! What tests of several modules use: certificates, and a server that does as the test says.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use doorstep_proto::v1;
use doorstep_proto::v1::gateway_control_server::{GatewayControl, GatewayControlServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(10);

/// An authority with certificates of a server and a gateway, in files.
pub struct Pki {
    folder: TempDir,
}

impl Pki {
    pub fn new(server: &str, gateway: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("signs");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("writes");
        for (name, file) in [(server, "server"), (gateway, gateway)] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a valid name");
            let certificate = params.signed_by(&key, &authority).expect("signs");
            let path = |extension| folder.path().join(format!("{file}.{extension}"));
            fs::write(path("pem"), certificate.pem()).expect("writes");
            fs::write(path("key"), key.serialize_pem()).expect("writes");
        }
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder().join(file)).expect("reads")
    }
}

/// A server whose streams the test holds.
pub struct ScriptedServer {
    pub port: u16,
    streams: mpsc::UnboundedReceiver<Stream>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The server's end of a stream.
pub struct Stream {
    incoming: Streaming<v1::GatewayMessage>,
    outgoing: mpsc::UnboundedSender<Result<v1::ServerMessage, Status>>,
}

impl ScriptedServer {
    pub async fn start(pki: &Pki) -> Self {
        Self::start_at(pki, 0).await
    }

    pub async fn start_at(pki: &Pki, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (sender, streams) = mpsc::unbounded_channel();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(
                pki.read("server.pem"),
                pki.read("server.key"),
            ))
            .client_ca_root(Certificate::from_pem(pki.read("ca.pem")));
        let stop = CancellationToken::new();
        let server = Server::builder()
            .tls_config(tls)
            .expect("valid certificates")
            .add_service(GatewayControlServer::new(Script { streams: sender }))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                served = server => served.expect("serves"),
                () = stopped.cancelled() => {}
            }
        });
        Self {
            port,
            streams,
            stop,
            task,
        }
    }

    /// The next stream that a gateway opens.
    pub async fn stream(&mut self) -> Stream {
        let stream = timeout(PATIENCE, self.streams.recv()).await;
        stream.expect("a stream in time").expect("a server")
    }

    pub fn try_stream(&mut self) -> Option<Stream> {
        self.streams.try_recv().ok()
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("does not panic");
    }
}

impl Stream {
    /// The next message; none at the end.
    pub async fn next(&mut self) -> Option<v1::GatewayMessage> {
        let message = timeout(PATIENCE, self.incoming.message()).await;
        message.expect("a message in time").unwrap_or_default()
    }

    pub fn send(&self, message: v1::ServerMessage) {
        // A gateway that has gone away is what some tests want.
        let _ = self.outgoing.send(Ok(message));
    }

    pub fn refuse(self, code: Code, why: &str) {
        let _ = self.outgoing.send(Err(Status::new(code, why)));
    }
}

struct Script {
    streams: mpsc::UnboundedSender<Stream>,
}

#[tonic::async_trait]
impl GatewayControl for Script {
    type ControlStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

    async fn control(
        &self,
        request: Request<Streaming<v1::GatewayMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (outgoing, messages) = mpsc::unbounded_channel();
        let stream = Stream {
            incoming: request.into_inner(),
            outgoing,
        };
        let sent = self.streams.send(stream);
        sent.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            messages,
        ))))
    }
}
