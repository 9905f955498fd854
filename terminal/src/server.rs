//! The operator's server, as the terminal sees it.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorstep_daemon::network::Network;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_client::AccessClient;
use rand::Rng as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::config;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A registration may wait for the operator to send a message to a phone.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A client of the server: one connection, made anew whenever the terminal's links change.
#[derive(Debug, Clone)]
pub struct Server {
    endpoint: Endpoint,
    network: Network,
    channel: Arc<Mutex<Channel>>,
    renewed: Arc<watch::Sender<u64>>,
}

/// The server cannot be reached with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The CA certificate cannot be read.
    #[error("CA certificate {path}: {source}; it is named by `ca` in [server]")]
    Ca {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error("{path}: no CA certificate in it (PEM); it is named by `ca` in [server]")]
    NoCa {
        /// The file.
        path: std::path::PathBuf,
    },
    /// URL or certificate are not usable.
    #[error("server {url}: {source}")]
    Endpoint {
        /// The URL.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

impl Server {
    /// Reads the certificate; connects when it is first asked.
    pub fn new(config: &config::Server) -> Result<Self, ServerError> {
        Self::over(Network::default(), config)
    }

    /// The same over another network than the system's.
    pub fn over(network: Network, config: &config::Server) -> Result<Self, ServerError> {
        let ca = fs::read(&config.ca).map_err(|source| ServerError::Ca {
            path: config.ca.clone(),
            source,
        })?;
        if !matches!(CertificateDer::pem_slice_iter(&ca).next(), Some(Ok(_))) {
            return Err(ServerError::NoCa {
                path: config.ca.clone(),
            });
        }
        let failed = |source| ServerError::Endpoint {
            url: config.url.clone(),
            source,
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(name) = &config.server_name {
            tls = tls.domain_name(name.clone());
        }
        let endpoint = Endpoint::from_shared(config.url.clone())
            .map_err(failed)?
            .tls_config(tls)
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = Arc::new(Mutex::new(network.connect_lazy(&endpoint)));
        Ok(Self {
            endpoint,
            network,
            channel,
            renewed: Arc::new(watch::Sender::new(0)),
        })
    }

    fn client(&self) -> AccessClient<Channel> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        AccessClient::new(channel.clone())
    }

    /// Leaves the connection behind: its addresses and routes may be gone, which it would notice
    /// only after [`KEEPALIVE_INTERVAL`].
    pub fn renew(&self) {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        *channel = self.network.connect_lazy(&self.endpoint);
        drop(channel);
        self.renewed.send_modify(|epoch| *epoch += 1);
    }

    /// Registers. Repeated only if the server says that it was too busy to do anything: any other
    /// answer may have been lost after it took effect.
    pub async fn register(
        &self,
        request: pb::RegisterRequest,
    ) -> Result<pb::RegisterResponse, Status> {
        let deadline = Instant::now() + REGISTER_TIMEOUT;
        loop {
            let request = request.clone();
            let call = async { self.client().register(request).await };
            match timed(REGISTER_TIMEOUT, call).await {
                Err(status) => match hinted(&status) {
                    Some(pause) if Instant::now() + pause < deadline => sleep(pause).await,
                    _ => return Err(status),
                },
                answer => return answer,
            }
        }
    }

    /// Asks for access, until the server answers or `deadline` passes. The request's id makes a
    /// repetition harmless.
    pub async fn request_access(
        &self,
        request: pb::RequestAccessRequest,
        deadline: Instant,
    ) -> Result<pb::RequestAccessResponse, Status> {
        self.repeat(deadline, || {
            let request = request.clone();
            async move { self.client().request_access(request).await }
        })
        .await
    }

    /// What there is to choose from; asked until the server answers or `deadline` passes.
    pub async fn plans(
        &self,
        request: pb::PlansRequest,
        deadline: Instant,
    ) -> Result<pb::PlansResponse, Status> {
        self.repeat(deadline, || {
            let request = request.clone();
            async move { self.client().plans(request).await }
        })
        .await
    }

    /// Ends a session, until the server answers or `deadline` passes.
    pub async fn release(
        &self,
        request: pb::ReleaseRequest,
        deadline: Instant,
    ) -> Result<pb::ReleaseResponse, Status> {
        self.repeat(deadline, || {
            let request = request.clone();
            async move { self.client().release(request).await }
        })
        .await
    }

    async fn repeat<T, F>(&self, deadline: Instant, call: impl Fn() -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut renewed = self.renewed.subscribe();
            let result = tokio::select! {
                result = timed(CALL_TIMEOUT, call()) => result,
                // Asked over links that are gone: ask again over the new ones.
                Ok(()) = renewed.changed() => continue,
            };
            match result {
                Err(status) if is_transient(&status) => {
                    let wait = wait(&status, pause);
                    if Instant::now() + wait.max(pause) >= deadline {
                        return Err(status);
                    }
                    sleep(wait).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Follows a session's states for ever, over any number of connections; returns once it is
    /// released.
    pub async fn follow(&self, request: pb::WatchRequest, mut tell: impl FnMut(Update) + Send) {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut renewed = self.renewed.subscribe();
            let outcome = tokio::select! {
                outcome = self.follow_once(request.clone(), &mut tell) => outcome,
                Ok(()) = renewed.changed() => {
                    pause = FIRST_PAUSE;
                    continue;
                }
            };
            let wait = match outcome {
                Followed::Released => return,
                Followed::Lost { status, worked } => {
                    tell(Update::Lost(describe(&status)));
                    if worked {
                        pause = FIRST_PAUSE;
                    }
                    wait(&status, pause)
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                _ = renewed.changed() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn follow_once(
        &self,
        request: pb::WatchRequest,
        tell: &mut (impl FnMut(Update) + Send),
    ) -> Followed {
        let call = async { self.client().watch(request).await };
        let mut stream = match timed(CALL_TIMEOUT, call).await {
            Ok(stream) => stream,
            Err(status) => {
                return Followed::Lost {
                    status,
                    worked: false,
                };
            }
        };
        tell(Update::Connected);
        loop {
            match stream.message().await {
                Ok(Some(status)) => {
                    let released = status.state() == pb::SessionState::Released;
                    tell(Update::Status(status));
                    if released {
                        return Followed::Released;
                    }
                }
                Ok(None) => {
                    let status = Status::unavailable("the server closed the stream");
                    return Followed::Lost {
                        status,
                        worked: true,
                    };
                }
                Err(status) => {
                    return Followed::Lost {
                        status,
                        worked: true,
                    };
                }
            }
        }
    }
}

enum Followed {
    Released,
    Lost { status: Status, worked: bool },
}

/// What following a session tells.
#[derive(Debug)]
pub enum Update {
    /// The stream is open.
    Connected,
    /// A state.
    Status(pb::SessionStatus),
    /// The stream has ended, and why; it is opened again.
    Lost(String),
}

async fn timed<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(limit, call).await {
        Ok(result) => result.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

/// Full jitter: anything up to the pause.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// When a busy server asks to come again; `None` if this is not what it says.
fn hinted(status: &Status) -> Option<Duration> {
    if status.code() != Code::ResourceExhausted {
        return None;
    }
    status.get_details_retry_info()?.retry_delay
}

/// How long to wait before asking again: as the server says, or else anything up to the pause.
fn wait(status: &Status, pause: Duration) -> Duration {
    let wait = jittered(pause);
    hinted(status).map_or(wait, |hint| hint.saturating_add(wait))
}

/// Whether the server may answer otherwise later. A limit that no time heals comes without a hint.
pub(crate) fn is_transient(status: &Status) -> bool {
    let transient = [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Unknown,
    ];
    transient.contains(&status.code()) || hinted(status).is_some()
}

/// The code that tells a client of this daemon's what became of its request: what the server has no time for
/// now is no refusal.
pub(crate) fn code(status: &Status) -> Code {
    match hinted(status) {
        Some(_) => Code::Unavailable,
        None => status.code(),
    }
}

/// Whether this is the server's word, and not the lack of one.
pub(crate) fn has_answered<T>(answer: &Result<T, Status>) -> bool {
    answer
        .as_ref()
        .err()
        .is_none_or(|status| !is_transient(status))
}

/// What the server answered, or why it did not, with the causes below it.
#[must_use]
pub fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if text.is_empty() {
        text = status.code().description().to_owned();
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_busy_server_says_when_to_come_again_and_a_full_one_does_not() {
        let hint = Duration::from_secs(3);
        let busy = Status::with_error_details(
            Code::ResourceExhausted,
            "busy",
            ErrorDetails::with_retry_info(Some(hint)),
        );
        assert!(is_transient(&busy));
        for _ in 0..20 {
            let wait = wait(&busy, Duration::from_secs(1));
            assert!((hint..=Duration::from_secs(4)).contains(&wait), "{wait:?}");
        }
        let full = Status::resource_exhausted("8 sessions, which is the limit");
        assert!(!is_transient(&full));
        let away = Status::unavailable("away");
        assert!(is_transient(&away));
        assert!(wait(&away, Duration::from_secs(1)) <= Duration::from_secs(1));
    }
}
