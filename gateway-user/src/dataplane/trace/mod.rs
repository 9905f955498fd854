//! Following packets: from filters to what the programs tell.
//!
//! Nothing of this runs while nobody follows any: the ports then have programs without the code.

mod rows;
mod task;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use doorstep_gateway_common::names::map::TRACE;
use doorstep_gateway_common::trace::{MAX_FILTERS, TraceEvent, TraceFilter};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::DataplaneError;
use super::pins::Pins;
use super::ring::Ring;
use super::running::Running;

pub use task::Tracing;

/// What a packet was, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub at: SystemTime,
    pub event: TraceEvent,
}

/// What whoever follows packets is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Packet(Box<Packet>),
    /// So many more could not be told of.
    Lost(u64),
}

/// Packets that are followed until this is dropped.
pub struct Trace {
    told: mpsc::Receiver<Told>,
}

impl Trace {
    /// What is told next; none when the daemon stops.
    pub async fn next(&mut self) -> Option<Told> {
        self.told.recv().await
    }
}

#[derive(Debug, Error)]
pub enum TraceError {
    #[error("{MAX_FILTERS} traces are running already; end one first")]
    TooMany,
    #[error("the daemon is stopping")]
    Stopping,
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
}

/// Has packets followed.
#[derive(Clone)]
pub struct Tracer {
    requests: mpsc::Sender<Request>,
    count: Arc<AtomicU32>,
}

struct Request {
    filter: TraceFilter,
    reply: oneshot::Sender<Result<Trace, TraceError>>,
}

impl Tracer {
    /// Follows the packets that fit from now on. The first one who follows any waits for the kernel
    /// to verify the programs.
    pub async fn follow(&self, filter: TraceFilter) -> Result<Trace, TraceError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.requests.send(Request { filter, reply }).await;
        sent.map_err(|_| TraceError::Stopping)?;
        answer.await.map_err(|_| TraceError::Stopping)?
    }

    /// One whose task has ended.
    #[cfg(test)]
    pub(crate) fn ended() -> Self {
        Self {
            requests: mpsc::channel(1).0,
            count: Arc::default(),
        }
    }

    /// How many traces run. Where it is none, the ports have the plain programs.
    pub fn running(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Takes the ring over. What an earlier daemon left there is nobody's any more.
pub(super) fn open(
    pins: &Pins,
    running: Arc<Mutex<Running>>,
) -> Result<(Tracer, Tracing), DataplaneError> {
    let (requests, inbox) = mpsc::channel(1);
    let count = Arc::default();
    let tracing = Tracing::new(
        running,
        Ring::open(pins, TRACE)?,
        rows::Rows::open(pins)?,
        inbox,
        Arc::clone(&count),
    );
    Ok((Tracer { requests, count }, tracing))
}
