//! One server: dialled, told what the gateway holds, followed, dialled again.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use doorstep_daemon::blocking;
use doorstep_daemon::network::Network;
use doorstep_gateway_common::OperatorIndex;
use doorstep_proto::v1::gateway_control_client::GatewayControlClient;
use doorstep_proto::v1::gateway_message::Body;
use rand::Rng as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::ServerStates;
use super::backoff::{Backoff, Class};
use super::convert::{self, Incoming};
use crate::clock;
use crate::config::{Address, Operator, Server};
use crate::engine::message::{Instruction, Report};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// A vanished server is noticed within twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a gateway that stops waits until the server has read what it was sent.
const DRAIN: Duration = Duration::from_secs(2);
/// What a server says that shuts down in order.
const DIAL_AGAIN: &str = "dial again";
const WINDOW_BYTES: u32 = 1 << 20;

/// What a client tells the daemon; for one operator in this order, again and again.
#[derive(Debug)]
pub enum StreamEvent {
    Up {
        operator: OperatorIndex,
        link: StreamLink,
    },
    Instruction {
        operator: OperatorIndex,
        instruction: Instruction,
    },
    Down {
        operator: OperatorIndex,
    },
}

/// The daemon's end of a stream.
#[derive(Clone, Debug)]
pub struct StreamLink {
    reports: mpsc::Sender<Report>,
    broken: CancellationToken,
}

impl StreamLink {
    /// Sends a report. A server that does not keep up is cut off: its next stream begins with all
    /// that counts.
    pub fn send(&self, report: Report) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.reports.try_send(report) {
            self.broken.cancel();
        }
    }
}

/// Says what is wrong with an operator's uplink; nothing where nothing is known to be.
pub type UplinkProblem = Arc<dyn Fn() -> String + Send + Sync>;

/// The client of one operator's server. `E` is what the daemon is fed with.
pub struct Client<E> {
    pub gateway_id: String,
    pub operator: Operator,
    /// Reports that may wait for the server.
    pub capacity: usize,
    pub events: mpsc::Sender<E>,
    pub states: ServerStates,
    /// That the server is in.
    pub network: Network,
    pub uplink: UplinkProblem,
}

#[derive(Debug, Error)]
pub(super) enum StreamError {
    #[error("cannot read {}: {source}", file.display())]
    File {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {what}; it must be PEM, as `doorstep-gateway enroll` and `doorstep-server pki issue` write it", file.display())]
    Pem { file: PathBuf, what: String },
    #[error("{}", chain(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("the server answers {:?}: {}", .0.code(), .0.message())]
    Status(#[from] Box<Status>),
    #[error("the server has not answered for {} s", .0.as_secs())]
    Silent(Duration),
    #[error(
        "the server is that of operator '{0}', not of '{1}'; correct the url or the name of the \
         [[operator]] in the configuration"
    )]
    Operator(String, String),
    #[error("the server sends instructions before it has said which operator's it is")]
    Unwelcomed,
    #[error("the server has ended the stream")]
    Ended,
    #[error("the server does not read what it is sent")]
    Behind,
    #[error("the daemon does not listen any more")]
    Abandoned,
    #[error("the gateway stops")]
    Stopped,
}

impl StreamError {
    /// When the server asks to be dialled again.
    fn hint(&self) -> Option<std::time::Duration> {
        match self {
            Self::Status(status) if status.code() == Code::ResourceExhausted => {
                status.get_details_retry_info()?.retry_delay
            }
            _ => None,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::File { .. } | Self::Pem { .. } | Self::Operator(..) | Self::Unwelcomed => {
                Class::Refused
            }
            Self::Status(status) => match status.code() {
                Code::Unavailable if status.message().contains(DIAL_AGAIN) => Class::Draining,
                Code::ResourceExhausted => Class::Overloaded,
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::Unimplemented
                | Code::FailedPrecondition => Class::Refused,
                _ => transport_class(status.as_ref()),
            },
            Self::Transport(error) => transport_class(error),
            Self::Silent(_) => Class::Unreachable,
            Self::Ended | Self::Behind | Self::Abandoned | Self::Stopped => Class::Ended,
        }
    }
}

/// TLS tells what is wrong with certificates, ours or theirs, as data that is not valid.
fn transport_class(error: &(dyn StdError + 'static)) -> Class {
    let mut source = Some(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidData) {
            return Class::Refused;
        }
        source = error.source();
    }
    Class::Unreachable
}

impl<E: From<StreamEvent> + Send + 'static> Client<E> {
    /// Keeps a stream to the server until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let span = info_span!("server", operator = self.operator.name);
        let addresses = self.operator.server.addresses().count();
        let work = async {
            let mut backoff = Backoff::default();
            let mut said = None;
            loop {
                let dialled = self.address(&backoff);
                let url = &dialled.url;
                let error = self.stream(&dialled, &mut backoff, &stop).await;
                if stop.is_cancelled() {
                    return;
                }
                if backoff.is_fresh() {
                    said = None;
                }
                let random = rand::rng().random_range(0.0..=1.0);
                let pause = backoff.next(error.class(), addresses, random);
                // An overloaded server knows best when to come again.
                let pause = pause.saturating_add(error.hint().unwrap_or_default());
                let pause_ms = pause.as_millis() as u64;
                let text = Some(error.to_string());
                // What goes on for hours is said once.
                if text == said {
                    debug!(url, %error, pause_ms, "still no stream to the server");
                } else {
                    warn!(url, %error, pause_ms, "no stream to the server; dialling on");
                    said.clone_from(&text);
                }
                self.states
                    .update(self.operator.index, false, text, clock::unix_ms());
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        };
        work.instrument(span).await;
        self.states
            .update(self.operator.index, false, None, clock::unix_ms());
    }

    fn address(&self, backoff: &Backoff) -> Address {
        let mut addresses = self.operator.server.addresses();
        let address = addresses.nth(backoff.address());
        address.unwrap_or_else(|| self.operator.server.address.clone())
    }

    /// One stream, from dialling to its end.
    async fn stream(
        &self,
        address: &Address,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> StreamError {
        let dialled = tokio::select! {
            () = stop.cancelled() => return StreamError::Stopped,
            dialled = self.dial(address) => dialled,
        };
        let channel = match dialled {
            Ok(channel) => channel,
            Err(error) => return error,
        };
        let operator = self.operator.index;
        let (reports, outgoing) = mpsc::channel(self.capacity);
        let broken = CancellationToken::new();
        let link = StreamLink {
            reports,
            broken: broken.clone(),
        };
        let up = StreamEvent::Up { operator, link };
        if self.events.send(up.into()).await.is_err() {
            return StreamError::Abandoned;
        }
        let error = tokio::select! {
            () = broken.cancelled() => StreamError::Behind,
            Err(error) = self.follow(channel, outgoing, backoff, stop) => error,
        };
        let down = StreamEvent::Down { operator };
        match self.events.send(down.into()).await {
            Ok(()) => error,
            Err(_) => StreamError::Abandoned,
        }
    }

    async fn dial(&self, address: &Address) -> Result<Channel, StreamError> {
        let endpoint = endpoint(&self.operator.server, address).await?;
        Ok(self.network.connect(&endpoint).await?)
    }

    /// Passes messages on, both ways, until something ends it.
    async fn follow(
        &self,
        channel: Channel,
        outgoing: mpsc::Receiver<Report>,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Result<std::convert::Infallible, StreamError> {
        let (gateway_id, uplink) = (self.gateway_id.clone(), Arc::clone(&self.uplink));
        let requests = ReceiverStream::new(outgoing).map(move |report| {
            let mut message = convert::outgoing(&gateway_id, report);
            if let Some(Body::Accounting(accounting)) = &mut message.body {
                accounting.uplink_problem = uplink();
            }
            message
        });
        let mut client = GatewayControlClient::new(channel);
        let answer = tokio::select! {
            () = stop.cancelled() => return Err(StreamError::Stopped),
            answer = timeout(WELCOME_TIMEOUT, client.control(requests)) => answer,
        };
        let mut incoming = answer
            .map_err(|_| StreamError::Silent(WELCOME_TIMEOUT))?
            .map_err(Box::new)?
            .into_inner();
        let mut welcomed = false;
        loop {
            let next = async {
                let next = incoming.message();
                if welcomed {
                    return Ok(next.await);
                }
                let welcome = timeout(WELCOME_TIMEOUT, next).await;
                welcome.map_err(|_| StreamError::Silent(WELCOME_TIMEOUT))
            };
            let message = tokio::select! {
                () = stop.cancelled() => {
                    drain(&mut incoming).await;
                    return Err(StreamError::Stopped);
                }
                message = next => message?,
            };
            match convert::incoming(message.map_err(Box::new)?.ok_or(StreamError::Ended)?) {
                // Not even a server of the right authority speaks for another operator.
                Ok(Incoming::Welcome { operator }) if operator != self.operator.name => {
                    let ours = self.operator.name.clone();
                    return Err(StreamError::Operator(convert::echo(&operator), ours));
                }
                Ok(Incoming::Welcome { operator }) => {
                    welcomed = true;
                    backoff.reset();
                    info!(server = operator, "stream to the server is up");
                    let index = self.operator.index;
                    self.states.update(index, true, None, clock::unix_ms());
                }
                Ok(Incoming::Instruction(_)) if !welcomed => return Err(StreamError::Unwelcomed),
                Ok(Incoming::Instruction(instruction)) => {
                    let operator = self.operator.index;
                    let event = StreamEvent::Instruction {
                        operator,
                        instruction,
                    };
                    let sent = self.events.send(event.into()).await;
                    sent.map_err(|_| StreamError::Abandoned)?;
                }
                Err(error) => warn!(%error, "message from the server ignored"),
            }
        }
    }
}

/// Waits until the server has ended its side too: it does so once it has read to the end of ours,
/// which comes when the loop has sent its last report. What it says meanwhile it says again to the
/// next stream.
async fn drain(incoming: &mut tonic::Streaming<doorstep_proto::v1::ServerMessage>) {
    let ended = async { while let Ok(Some(_)) = incoming.message().await {} };
    if timeout(DRAIN, ended).await.is_err() {
        debug!("the server has not ended its side of the stream");
    }
}

/// Reads certificates and key, anew for each stream so that renewed ones need no restart.
pub(super) async fn endpoint(server: &Server, address: &Address) -> Result<Endpoint, StreamError> {
    let (ca, cert, key) = (
        certificates(&server.ca).await?,
        certificates(&server.cert).await?,
        read(&server.key).await?,
    );
    PrivateKeyDer::from_pem_slice(&key).map_err(|error| pem(&server.key, error))?;
    let tls = ClientTlsConfig::new()
        .domain_name(&address.server_name)
        .ca_certificate(Certificate::from_pem(ca))
        .identity(Identity::from_pem(cert, key));
    let endpoint = Endpoint::from_shared(address.url.clone())?
        .tls_config(tls)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    Ok(endpoint)
}

/// Whether certificates and key can be read and used; an error's text otherwise.
pub async fn check_credentials(server: &Server) -> Result<(), String> {
    match endpoint(server, &server.address).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the server can be reached at an address, speaks TLS, and shows the certificate that it
/// should.
pub async fn check_server(server: &Server, address: &Address) -> Result<(), String> {
    let attempt = async { Ok(endpoint(server, address).await?.connect().await?) };
    match attempt.await {
        Ok(_) => Ok(()),
        Err(error) => Err(StreamError::to_string(&error)),
    }
}

/// Reads certificates: at least one.
async fn certificates(file: &Path) -> Result<Vec<u8>, StreamError> {
    let text = read(file).await?;
    match CertificateDer::pem_slice_iter(&text).next() {
        Some(Ok(_)) => Ok(text),
        Some(Err(error)) => Err(pem(file, error)),
        None => Err(pem(file, "no certificate in it")),
    }
}

fn pem(file: &Path, what: impl ToString) -> StreamError {
    StreamError::Pem {
        file: file.to_owned(),
        what: what.to_string(),
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, StreamError> {
    let path = file.to_owned();
    let read = blocking::run(move || std::fs::read(path)).await;
    read.unwrap_or_else(|crashed| Err(std::io::Error::other(crashed)))
        .map_err(|source| StreamError::File {
            file: file.to_owned(),
            source,
        })
}

/// An error with all its causes; transport errors say nothing by themselves.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
