//! All simulated gateways: each dials the server with a certificate and a connection of its own,
//! and dials again when it has to, as the real one does.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use doorstep_gateway::control::backoff::{Backoff, Class};
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_control_client::GatewayControlClient;
use doorstep_proto::v1::server_message::Body as Down;
use doorstep_server::keys;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use tonic::transport::{ClientTlsConfig, Endpoint, Identity};

use super::gateway::Gateway;
use super::layout::Layout;
use super::ledger::Ledger;
use super::server::Server;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Every gateway of the operator.
pub struct Fleet {
    members: Vec<Arc<Member>>,
    tasks: Vec<JoinHandle<()>>,
    pub ledger: Arc<Ledger>,
    pub counts: Arc<Counts>,
}

/// What all gateways together have seen.
#[derive(Debug, Default)]
pub struct Counts {
    /// Streams that are past Synced.
    synced: AtomicU64,
    /// Instructions that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Instructions that were refused.
    pub refused: AtomicU64,
    /// Instructions between Welcome and Synced.
    pub resynchronised: AtomicU64,
    /// Streams that could not be opened, or ended.
    pub ended: AtomicU64,
    /// Why the last one ended that the server did not want.
    unwanted: Mutex<Option<String>>,
}

struct Member {
    url: String,
    tls: ClientTlsConfig,
    identity: Identity,
    gateway: Mutex<Gateway>,
    counts: Arc<Counts>,
}

impl Fleet {
    /// Issues all certificates; nobody dials yet.
    pub fn new(layout: Layout, server: &Server) -> Result<Self> {
        let authority = keys::signing_authority(&server.config)?;
        let life = server.config.certificates.gateway;
        let tls = server.tls()?;
        let ledger = Arc::new(Ledger::default());
        let counts = Arc::new(Counts::default());
        let members = (0..layout.gateways)
            .map(|number| {
                let name = Layout::name(number);
                let issued = authority.issue_with_key(&name, life)?;
                Ok(Arc::new(Member {
                    url: server.url(),
                    tls: tls.clone(),
                    identity: Identity::from_pem(&issued.cert_pem, issued.key_pem.as_bytes()),
                    gateway: Mutex::new(Gateway::new(number, name, Arc::clone(&ledger))),
                    counts: Arc::clone(&counts),
                }))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            members,
            tasks: Vec::new(),
            ledger,
            counts,
        })
    }

    /// All dial at once, and go on for ever.
    pub fn dial(&mut self) {
        self.tasks = self
            .members
            .iter()
            .map(|member| tokio::spawn(Arc::clone(member).run()))
            .collect();
    }

    /// Waits until every gateway has Synced.
    pub async fn all_synced(&self, patience: Duration) -> Result<()> {
        self.until_synced(self.members.len() as u64, patience).await
    }

    /// Waits until every gateway knows that its stream has ended.
    pub async fn none_synced(&self, patience: Duration) -> Result<()> {
        self.until_synced(0, patience).await
    }

    async fn until_synced(&self, wanted: u64, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let synced = self.counts.synced.load(Ordering::Acquire);
            if synced == wanted {
                return Ok(());
            }
            if Instant::now() > end {
                let why = lock(&self.counts.unwanted).clone();
                bail!(
                    "{synced} gateways have Synced after {} s, not {wanted}; the last refusal: {}",
                    patience.as_secs(),
                    why.as_deref().unwrap_or("none")
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }

    pub fn gateway(&self, number: u32) -> Result<MutexGuard<'_, Gateway>> {
        let member = self.members.get(number as usize);
        Ok(lock(&member.context("there is no such gateway")?.gateway))
    }

    /// All gateways, one after the other.
    pub fn gateways(&self) -> impl Iterator<Item = MutexGuard<'_, Gateway>> {
        self.members.iter().map(|member| lock(&member.gateway))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    async fn run(self: Arc<Self>) {
        let mut backoff = Backoff::default();
        loop {
            let class = self.stream(&mut backoff).await;
            self.counts.ended.fetch_add(1, Ordering::Relaxed);
            let pause = backoff.next(class, 1, rand::random());
            sleep(pause).await;
        }
    }

    /// One stream, from dialling to its end, and of what kind its end was.
    async fn stream(&self, backoff: &mut Backoff) -> Class {
        match self.follow(backoff).await {
            Ok(()) => Class::Ended,
            Err(End::Transport) => Class::Unreachable,
            Err(End::Status(status)) => match status.code() {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::Unimplemented
                | Code::FailedPrecondition => {
                    *lock(&self.counts.unwanted) = Some(status.message().to_owned());
                    Class::Refused
                }
                _ => Class::Unreachable,
            },
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> Result<(), End> {
        let channel = Endpoint::from_shared(self.url.clone())?
            .tls_config(self.tls.clone().identity(self.identity.clone()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect()
            .await?;
        let (out, outgoing) = mpsc::unbounded_channel();
        let send = |bodies: Vec<pb::gateway_message::Body>| {
            for body in bodies {
                // The stream's end is noticed by reading.
                let _ = out.send(pb::GatewayMessage { body: Some(body) });
            }
        };
        send(lock(&self.gateway).open());
        let mut client = GatewayControlClient::new(channel);
        let opened = client.control(UnboundedReceiverStream::new(outgoing));
        let mut incoming = timeout(CONNECT_TIMEOUT, opened)
            .await
            .map_err(|_| End::Transport)??
            .into_inner();
        let synced = Synced::new(&self.counts);
        while let Some(message) = incoming.message().await? {
            let Some(body) = message.body else { continue };
            match body {
                Down::Welcome(_) => backoff.reset(),
                Down::Synced(_) => synced.reached(),
                Down::ReceiptAck(_) => {}
                _ if !synced.is_reached() => {
                    self.counts.resynchronised.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            let answers = lock(&self.gateway).on(body);
            self.count(&answers);
            send(answers);
        }
        Ok(())
    }

    fn count(&self, answers: &[pb::gateway_message::Body]) {
        for answer in answers {
            let count = match answer {
                pb::gateway_message::Body::Ack(_) => &self.counts.acknowledged,
                pb::gateway_message::Body::Nack(_) => &self.counts.refused,
                _ => continue,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why there is no stream.
enum End {
    Transport,
    Status(Box<tonic::Status>),
}

impl From<tonic::transport::Error> for End {
    fn from(_: tonic::transport::Error) -> Self {
        Self::Transport
    }
}

impl From<tonic::Status> for End {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Counts a stream among those that are past Synced, for as long as it is.
struct Synced<'a> {
    counts: &'a Counts,
    reached: AtomicBool,
}

impl<'a> Synced<'a> {
    fn new(counts: &'a Counts) -> Self {
        Self {
            counts,
            reached: AtomicBool::new(false),
        }
    }

    fn reached(&self) {
        if !self.reached.swap(true, Ordering::AcqRel) {
            self.counts.synced.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }
}

impl Drop for Synced<'_> {
    fn drop(&mut self) {
        if self.is_reached() {
            self.counts.synced.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
