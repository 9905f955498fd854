//! What tests of several modules use: certificates, and a server that does as the test says.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use doorstep_pki::identity::NewKey;
use doorstep_pki::lifetime::Validity;
use doorstep_pki::token::Token;
use doorstep_proto::v1;
use doorstep_proto::v1::enrollment_server::{Enrollment, EnrollmentServer};
use doorstep_proto::v1::gateway_control_server::{GatewayControl, GatewayControlServer};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa,
    KeyPair,
};
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
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
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
            // With its authority's, as the real server's.
            let chain = format!("{}{}", certificate.pem(), authority.pem());
            fs::write(path("pem"), chain).expect("writes");
            fs::write(path("key"), key.serialize_pem()).expect("writes");
        }
        Self {
            folder,
            authority: Arc::new(authority),
        }
    }

    /// Puts a gateway's certificate of this life into one file with its key.
    pub fn issue(&self, gateway: &str, life: Validity) {
        let key = NewKey::generate().expect("a key");
        let request = key.request(gateway).expect("a valid name");
        let certificate = certify(&self.authority, &request, Some(life));
        let file = self.folder().join(format!("{gateway}.pem"));
        fs::write(file, &*key.file(&certificate)).expect("writes");
    }

    pub fn authority_pem(&self) -> String {
        self.authority.pem()
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
            .client_ca_root(Certificate::from_pem(pki.read("ca.pem")))
            .client_auth_optional(true);
        let stop = CancellationToken::new();
        let server = Server::builder()
            .tls_config(tls)
            .expect("valid certificates")
            .add_service(GatewayControlServer::new(Script { streams: sender }))
            .add_service(EnrollmentServer::new(Clerk(pki.authority.clone())))
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

fn certify(
    authority: &CertifiedIssuer<'static, KeyPair>,
    request: &[u8],
    life: Option<Validity>,
) -> String {
    let mut request =
        CertificateSigningRequestParams::from_der(&request.into()).expect("a request");
    if let Some(life) = life {
        let time = |ms: i64| {
            time::OffsetDateTime::from_unix_timestamp(ms / 1000).expect("a time of this age")
        };
        request.params.not_before = time(life.from_ms);
        request.params.not_after = time(life.until_ms);
    }
    request.signed_by(authority).expect("signs").pem()
}

/// Certifies whatever is asked for, for years.
struct Clerk(Arc<CertifiedIssuer<'static, KeyPair>>);

impl Clerk {
    fn issue(&self, request: &[u8]) -> Response<v1::IssuedCertificate> {
        Response::new(v1::IssuedCertificate {
            certificate_pem: certify(&self.0, request, None),
            authorities_pem: self.0.pem(),
        })
    }
}

#[tonic::async_trait]
impl Enrollment for Clerk {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::IssuedCertificate>, Status> {
        let request = request.into_inner();
        Token::parse(&request.token).map_err(|_| Status::invalid_argument("token"))?;
        Ok(self.issue(&request.request))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::IssuedCertificate>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        Ok(self.issue(&request.into_inner().request))
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
