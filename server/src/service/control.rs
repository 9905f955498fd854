//! `GatewayControl`: one stream per gateway.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use doorstep_pki::certificate::Certificate;
use doorstep_proto::PROTOCOL_VERSION;
use doorstep_proto::v1 as pb;
use doorstep_proto::v1::gateway_control_server::GatewayControl;
use doorstep_proto::v1::gateway_message::Body as FromGateway;
use futures::StreamExt as _;
use futures::stream::Map;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::gateway_stream::GatewayStream;
use super::{convert, enrollment};
use crate::config::is_name;
use crate::engine::{Engine, now_ms};
use crate::enroll::{Revocations, Revoked};
use crate::session::instruct::Held;

const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// Messages waiting for the gateway to read them.
const OUTGOING: usize = 256;

pub struct ControlService {
    engine: Arc<Engine>,
    revocations: Revocations,
    shutdown: CancellationToken,
    streams: TaskTracker,
}

impl ControlService {
    pub fn new(
        engine: Arc<Engine>,
        revocations: Revocations,
        shutdown: CancellationToken,
        streams: TaskTracker,
    ) -> Self {
        ControlService {
            engine,
            revocations,
            shutdown,
            streams,
        }
    }
}

#[tonic::async_trait]
impl GatewayControl for ControlService {
    type ControlStream = Messages;

    async fn control(
        &self,
        request: Request<Streaming<pb::GatewayMessage>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        // Before a single byte of the stream is read: only gateways may speak here.
        let shown = enrollment::shown(&request)?;
        // Hello is checked against the certificate, so its name is the gateway's.
        let name = shown.names.first().map_or("", String::as_str);
        self.engine.guard.gateway_stream(name)?;
        let peer = request
            .remote_addr()
            .map(|address| address.to_string())
            .unwrap_or_default();
        let (sender, receiver) = mpsc::channel(OUTGOING);
        let engine = Arc::clone(&self.engine);
        let revocations = self.revocations.clone();
        let shutdown = self.shutdown.clone();
        let inbound = request.into_inner();
        // The answer's headers go out at once; whatever is wrong with Hello comes as the stream's end.
        self.streams.spawn(async move {
            let caller = Caller {
                shown,
                revocations,
                peer,
            };
            if let Err(status) = serve(&engine, caller, inbound, &sender, shutdown).await {
                tracing::warn!(code = ?status.code(), reason = status.message(), "gateway stream ended");
                let _ = sender.send(Err(status)).await;
            }
        });
        let unbox: fn(Outgoing) -> _ = |message| message.map(|message| *message);
        Ok(Response::new(ReceiverStream::new(receiver).map(unbox)))
    }
}

/// A message for a gateway, or why its stream ends. The queue of a silent stream is small thanks to
/// the box.
pub type Outgoing = Result<Box<pb::ServerMessage>, Status>;
type Messages = Map<ReceiverStream<Outgoing>, fn(Outgoing) -> Result<pb::ServerMessage, Status>>;

/// Who has dialled.
struct Caller {
    shown: Certificate,
    revocations: Revocations,
    peer: String,
}

async fn serve(
    engine: &Arc<Engine>,
    Caller {
        shown,
        revocations,
        peer,
    }: Caller,
    mut inbound: Streaming<pb::GatewayMessage>,
    sender: &mpsc::Sender<Outgoing>,
    shutdown: CancellationToken,
) -> Result<(), Status> {
    // What is done once waits on the heap, not in the stream's task, which lasts for months.
    let hello = Box::pin(first_message(&mut inbound, &shutdown)).await?;
    let held = check_hello(engine, &shown.names, &hello)?;
    let gateway = hello.gateway_id;
    let refused = |revoked: Revoked| Status::permission_denied(revoked.to_string());
    revocations
        .check(&gateway, shown.issued_ms)
        .map_err(refused)?;
    let software_version = convert::tidy(&hello.software_version);
    Box::pin(engine.gateway_seen(&gateway, &software_version, &peer, 0))
        .await
        .map_err(|error| convert::status(&error))?;
    // Registered before the rows are read, so that no change falls between.
    let registration =
        engine
            .hub
            .register(&gateway, now_ms(), peer.clone(), software_version.clone());
    let span = tracing::info_span!("gateway", id = gateway);
    let link = &registration.link;
    let stream = GatewayStream {
        engine,
        gateway: &gateway,
        link,
        sender,
    };
    async {
        tracing::info!(
            peer,
            software_version,
            held = held.len(),
            "gateway connected"
        );
        let result = tokio::select! {
            result = stream.push(&held) => result,
            result = stream.read(&mut inbound) => result,
            () = link.replaced.cancelled() => Err(Status::aborted(
                "a newer stream of the same gateway has taken over",
            )),
            () = link.unrecorded.cancelled() => Err(Status::unavailable(
                "the contact cannot be written down; dial again",
            )),
            revoked = revocations.until_refused(&gateway, shown.issued_ms) => Err(refused(revoked)),
            () = shutdown.cancelled() => Err(shutting_down()),
        };
        tracing::info!("gateway disconnected");
        // Seen until now, for `gateways`.
        let last_receipt = link.last_receipt.load(Ordering::Relaxed);
        let seen = engine.gateway_seen(&gateway, &software_version, &peer, last_receipt);
        if let Err(error) = Box::pin(seen).await {
            tracing::warn!(%error, "could not note when the gateway was last seen");
        }
        result
    }
    .instrument(span)
    .await
}

/// The first message, which must be a Hello.
async fn first_message(
    inbound: &mut Streaming<pb::GatewayMessage>,
    shutdown: &CancellationToken,
) -> Result<pb::Hello, Status> {
    let first = tokio::select! {
        first = tokio::time::timeout(HELLO_WITHIN, inbound.message()) => first,
        () = shutdown.cancelled() => return Err(shutting_down()),
    };
    match first {
        Err(_) => Err(Status::deadline_exceeded("no Hello within 10 s")),
        Ok(message) => match message?.and_then(|message| message.body) {
            Some(FromGateway::Hello(hello)) => Ok(hello),
            _ => Err(Status::invalid_argument("the first message must be Hello")),
        },
    }
}

fn shutting_down() -> Status {
    Status::unavailable("the server is shutting down; dial again")
}

fn check_hello(engine: &Engine, names: &[String], hello: &pb::Hello) -> Result<Vec<Held>, Status> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "protocol_version: this server speaks {PROTOCOL_VERSION}, the gateway {}; upgrade the older one",
            hello.protocol_version
        )));
    }
    if !is_name(&hello.gateway_id) {
        return Err(Status::invalid_argument("gateway_id: not a gateway's name"));
    }
    if *names != [hello.gateway_id.as_str()] {
        return Err(Status::permission_denied(format!(
            "gateway_id: the certificate is for {}, not for {}",
            convert::tidy(&names.join(", ")),
            hello.gateway_id
        )));
    }
    if engine.config.gateway(&hello.gateway_id).is_none() {
        return Err(Status::permission_denied(format!(
            "gateway_id: {} is not in this server's configuration",
            hello.gateway_id
        )));
    }
    let mut ids = HashSet::new();
    hello
        .held
        .iter()
        .enumerate()
        .map(|(index, held)| {
            let held = convert::held(held)
                .map_err(|error| Status::invalid_argument(format!("held[{index}].{error}")))?;
            // A receipt that waits and the Connect that came after it are two.
            if ids.insert((held.session, held.generation)) {
                Ok(held)
            } else {
                Err(Status::invalid_argument(format!(
                    "held[{index}].session_id: is there twice"
                )))
            }
        })
        .collect()
}
