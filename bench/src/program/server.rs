//! An operator's server that has nothing to do but to tell one gateway all its bindings.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use doorstep_proto::v1::gateway_control_server::{GatewayControl, GatewayControlServer};
use doorstep_proto::v1::gateway_message::Body as Up;
use doorstep_proto::v1::server_message::Body as Down;
use doorstep_proto::v1::{Connect, GatewayMessage, ServerMessage, Synced, Welcome};
use nix::time::ClockId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// Names in the certificates.
pub const SERVER: &str = "bench";
pub const GATEWAY: &str = "bench";

/// Messages that wait for the connection.
const QUEUE: usize = 1024;
/// HTTP/2 windows, as the project's server has them.
const WINDOW_BYTES: u32 = 1 << 20;

/// Writes an authority's certificate, and certificates of a server and a gateway with their keys:
/// `ca.pem`, `server.{pem,key}`, `gateway.{pem,key}`.
pub fn certificates(folder: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    for (name, file) in [(SERVER, "server"), (GATEWAY, "gateway")] {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let certificate = params.signed_by(&key, &authority)?;
        fs::write(folder.join(file).with_extension("pem"), certificate.pem())?;
        fs::write(folder.join(file).with_extension("key"), key.serialize_pem())?;
    }
    Ok(())
}

/// From the first Connect to the last Ack.
#[derive(Clone, Copy, Debug)]
pub struct Programmed {
    pub took: Duration,
    /// What this process computed meanwhile, on all CPUs.
    pub cpu: Duration,
    /// The part of it that was the server's.
    pub server_cpu: Duration,
}

/// What became of one stream, or why not everything was acknowledged.
type Outcome = Result<Programmed, String>;

/// Serves one gateway, in a thread of its own, whose work can be told from the gateway's.
pub struct Programmer {
    pub address: SocketAddr,
    established: Arc<AtomicU32>,
    outcomes: mpsc::Receiver<Outcome>,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Programmer {
    /// In the network namespace of the calling thread.
    pub fn start(folder: &Path, connects: Vec<Connect>) -> Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let read = |file: &str| {
            let path = folder.join(file);
            fs::read(&path).with_context(|| path.display().to_string())
        };
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(read("server.pem")?, read("server.key")?))
            .client_ca_root(Certificate::from_pem(read("ca.pem")?));
        let (sender, outcomes) = mpsc::channel(1);
        let established = Arc::default();
        let service = Service {
            connects: Arc::new(connects),
            outcomes: sender,
            established: Arc::clone(&established),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("server".into())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(serve(listener, tls, service, stopped))
            })?;
        Ok(Self {
            address,
            established,
            outcomes,
            stop,
            thread: Some(thread),
        })
    }

    /// Waits for a gateway, and until it has acknowledged everything.
    pub async fn programmed(&mut self) -> Result<Programmed> {
        let outcome = self.outcomes.recv().await.context("the server has ended")?;
        outcome.map_err(|why| anyhow!(why))
    }

    /// Sessions of which the gateway has reported that they forward.
    pub fn established(&self) -> u32 {
        self.established.load(Ordering::Relaxed)
    }
}

impl Drop for Programmer {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Why it failed is known already: nobody was told anything.
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: std::net::TcpListener,
    tls: ServerTlsConfig,
    service: Service,
    stop: CancellationToken,
) -> Result<()> {
    let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
    let server = Server::builder()
        .tls_config(tls)?
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .add_service(GatewayControlServer::new(service))
        .serve_with_incoming(incoming);
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        served = server => Ok(served?),
    }
}

struct Service {
    connects: Arc<Vec<Connect>>,
    outcomes: mpsc::Sender<Outcome>,
    established: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl GatewayControl for Service {
    type ControlStream = Pin<Box<dyn Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn control(
        &self,
        request: Request<Streaming<GatewayMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let (sender, messages) = mpsc::channel(QUEUE);
        let (connects, outcomes) = (self.connects.clone(), self.outcomes.clone());
        let established = self.established.clone();
        tokio::spawn(async move {
            let mut incoming = request.into_inner();
            let outcome = program(&mut incoming, &sender, connects).await;
            // Whoever measures may have given up.
            let _ = outcomes.send(outcome).await;
            // The stream stays up, and is read, for as long as the gateway wants it.
            while let Ok(body) = next(&mut incoming).await {
                if matches!(body, Up::Established(_)) {
                    established.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

async fn program(
    incoming: &mut Streaming<GatewayMessage>,
    outgoing: &mpsc::Sender<Result<ServerMessage, Status>>,
    connects: Arc<Vec<Connect>>,
) -> Outcome {
    match next(incoming).await? {
        Up::Hello(hello) if hello.held.is_empty() => {}
        other => return Err(format!("not the Hello of an empty gateway: {other:?}")),
    }
    let start = Instant::now();
    let (cpu, server_cpu) = (process_cpu(), thread_cpu());
    let expected = connects.len();
    let bodies = outgoing.clone();
    let sent = tokio::spawn(async move {
        let operator = SERVER.to_owned();
        let welcome = std::iter::once(Down::Welcome(Welcome { operator }));
        let connects = connects.iter().cloned().map(Down::Connect);
        for body in welcome.chain(connects).chain([Down::Synced(Synced {})]) {
            let message = ServerMessage { body: Some(body) };
            if bodies.send(Ok(message)).await.is_err() {
                return;
            }
        }
    });
    let mut acknowledged = 0;
    while acknowledged < expected {
        match next(incoming).await? {
            Up::Ack(_) => acknowledged += 1,
            Up::Nack(nack) => return Err(format!("refused: {nack:?}")),
            _ => {}
        }
    }
    let programmed = Programmed {
        took: start.elapsed(),
        cpu: process_cpu() - cpu,
        server_cpu: thread_cpu() - server_cpu,
    };
    sent.await.map_err(|error| error.to_string())?;
    Ok(programmed)
}

async fn next(incoming: &mut Streaming<GatewayMessage>) -> Result<Up, String> {
    let message = incoming
        .message()
        .await
        .map_err(|error| error.to_string())?;
    message
        .and_then(|message| message.body)
        .ok_or_else(|| "the gateway has ended the stream".to_owned())
}

/// What this process has computed, in user space and in the kernel.
pub fn process_cpu() -> Duration {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn thread_cpu() -> Duration {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

fn read(clock: ClockId) -> Duration {
    // Both clocks are always there.
    clock.now().map(Duration::from).unwrap_or_default()
}
