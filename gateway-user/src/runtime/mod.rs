//! One engine, fed by everything that happens, one event after another.

mod fast_path;
mod inbox;
mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use doorstep_gateway_common::OperatorIndex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::control::{StreamEvent, StreamLink};
use crate::engine::row::Write;
use crate::engine::{Action, Engine, Event, Recovered, Recovery, Settings};
use crate::journal::Journal;
use crate::plan::Plan;
use fast_path::Command;
pub use fast_path::{FastPath, Inspection};
pub use inbox::{Feeds, Frame, FrameSender};
use inbox::{Inbox, inbox};
pub use query::{GardenShown, LineSet, Query, SessionShown};

/// Pause before a commit that failed is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(1);

/// Everything that the loop is fed with.
#[derive(Debug)]
pub enum Input {
    Stream(StreamEvent),
    Event(Event),
    Query(Query),
}

/// An action, and for a report the stream that it goes to.
type Bound = (Action, Option<StreamLink>);

impl From<StreamEvent> for Input {
    fn from(event: StreamEvent) -> Self {
        Self::Stream(event)
    }
}

/// Sends frames out of the access ports.
pub type Transmit = Box<dyn Fn(u32, &[u8]) -> io::Result<()> + Send + Sync>;

/// The engine with all that carries out what it decides.
pub struct Runtime {
    engine: Engine,
    journal: Arc<Journal>,
    fast_path: std::sync::mpsc::Sender<Command>,
    thread: JoinHandle<()>,
    transmit: Transmit,
    links: HashMap<OperatorIndex, StreamLink>,
    /// Asked for before the loop began.
    first: Vec<Action>,
    /// Who is to be told once what was decided is in the fast path.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    inbox: Inbox,
}

/// Recovers from the journal and makes the fast path equal to it.
pub fn recover<F: FastPath>(
    settings: Settings,
    journal: &Journal,
    fast_path: &mut F,
    port: &dyn Fn(&str) -> Option<u32>,
) -> anyhow::Result<Recovered> {
    let snapshot = journal.load()?;
    let actual = fast_path.tables()?;
    fast_path.set_lines(&settings.inventory.map_rows(&snapshot.blocks), &actual)?;
    let recovered = Engine::recover(Recovery {
        settings,
        snapshot,
        actual: &actual,
        port,
        rng: StdRng::from_os_rng(),
        now: clock::now(),
    });
    let plan = Plan::diff(&recovered.tables, &actual);
    info!(
        sessions = recovered.sessions,
        changes = plan.changes.len(),
        "fast path reconciled with the journal"
    );
    fast_path.apply(&plan)?;
    Ok(recovered)
}

impl Runtime {
    /// Goes on with what was recovered on this fast path.
    pub fn start<F: FastPath>(
        recovered: Recovered,
        journal: Journal,
        fast_path: F,
        transmit: Transmit,
    ) -> anyhow::Result<(Self, Feeds)> {
        let Recovered {
            engine,
            actions: first,
            ..
        } = recovered;
        let (feeds, inbox) = inbox();
        let (commands, thread) = fast_path::spawn(fast_path, feeds.inputs.clone())
            .context("cannot start the thread of the fast path")?;
        let runtime = Self {
            engine,
            journal: Arc::new(journal),
            fast_path: commands,
            thread,
            transmit,
            links: HashMap::new(),
            first,
            waiting: Vec::new(),
            inbox,
        };
        Ok((runtime, feeds))
    }

    /// Works until told to stop. What has been decided by then is carried out.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let first = std::mem::take(&mut self.first);
        let first = first.into_iter().map(|action| (action, None)).collect();
        let mut result = self.carry_out(first, &stop).await;
        while result.is_ok() {
            let deadline = self.engine.next_deadline();
            let inputs = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                inputs = self.inbox.next() => inputs,
                () = until(deadline) => Some(vec![Input::Event(Event::Tick)]),
            };
            let Some(inputs) = inputs else { break };
            let mut actions = Vec::new();
            for input in inputs {
                self.take(input, &mut actions);
            }
            result = self.carry_out(actions, &stop).await;
        }
        // The thread finishes what it was given; its answers have nobody to go to.
        drop(self.inbox);
        drop(self.fast_path);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow!("the thread of the fast path has panicked"))?;
        result
    }

    /// Has the engine decide on one input. A report belongs to the stream that is up now, even if
    /// another one is by the time that it is sent.
    fn take(&mut self, input: Input, actions: &mut Vec<Bound>) {
        let event = match input {
            Input::Event(event) => event,
            Input::Stream(StreamEvent::Up { operator, link }) => {
                self.links.insert(operator, link);
                Event::StreamUp { operator }
            }
            Input::Stream(StreamEvent::Down { operator }) => {
                self.links.remove(&operator);
                Event::StreamDown { operator }
            }
            Input::Stream(StreamEvent::Instruction {
                operator,
                instruction,
            }) => Event::Instruction {
                operator,
                instruction,
            },
            Input::Query(Query::SetBlocked {
                location,
                blocked,
                reply,
            }) => {
                let decided = self.engine.set_blocked(&location, blocked, clock::now());
                let answer = decided.map(|(line, decided)| {
                    actions.extend(decided.into_iter().map(|action| (action, None)));
                    let (sender, done) = oneshot::channel();
                    self.waiting.push(sender);
                    (line, done)
                });
                // Whoever asked may have gone away.
                let _ = reply.send(answer);
                return;
            }
            Input::Query(query) => return self.answer(query),
        };
        for action in self.engine.handle(event, clock::now()) {
            let link = match &action {
                Action::Report { operator, .. } => self.links.get(operator).cloned(),
                _ => None,
            };
            actions.push((action, link));
        }
    }

    /// First makes durable what is to be, then does the rest in order.
    async fn carry_out(
        &mut self,
        actions: Vec<Bound>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut writes = Vec::new();
        let mut effects = Vec::new();
        for (action, link) in actions {
            match action {
                Action::Persist(write) => writes.push(write),
                effect => effects.push((effect, link)),
            }
        }
        self.commit(writes, stop).await?;
        for (effect, link) in effects {
            self.perform(effect, link)?;
        }
        for waiting in self.waiting.drain(..) {
            let ended = |_| anyhow!("the thread of the fast path has ended");
            self.fast_path.send(Command::Tell(waiting)).map_err(ended)?;
        }
        Ok(())
    }

    /// Tries until it is done: without it nothing may be promised to anyone. The fast path forwards
    /// meanwhile.
    async fn commit(&self, writes: Vec<Write>, stop: &CancellationToken) -> anyhow::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let writes = Arc::new(writes);
        loop {
            let (journal, batch) = (self.journal.clone(), writes.clone());
            let done = tokio::task::spawn_blocking(move || journal.commit(&batch)).await?;
            let Err(failure) = done else { return Ok(()) };
            error!(error = %failure, "cannot write the journal; trying again");
            tokio::select! {
                () = stop.cancelled() => return Err(failure.into()),
                () = sleep(COMMIT_RETRY) => {}
            }
        }
    }

    fn perform(&self, action: Action, link: Option<StreamLink>) -> anyhow::Result<()> {
        let command = match action {
            Action::Persist(_) => unreachable!("persisted before"),
            Action::Transmit { ifindex, frame } => {
                if let Err(error) = (self.transmit)(ifindex, &frame) {
                    warn!(ifindex, %error, "cannot send a frame to a line");
                }
                return Ok(());
            }
            Action::Report { report, .. } => {
                if let Some(link) = link {
                    link.send(report);
                }
                return Ok(());
            }
            Action::Open {
                session,
                entry,
                displaced,
            } => Command::Open {
                session,
                entry,
                displaced,
            },
            Action::SetLine { key, value } => Command::SetLine { key, value },
            Action::Change { session, entry } => Command::Change { session, entry },
            Action::Close { session, entry } => Command::Close { session, entry },
            Action::Remove { operator, plan } => Command::Remove { operator, plan },
            Action::OpenLease { line, entries } => Command::OpenLease { line, entries },
            Action::CloseLease { line, entries } => Command::CloseLease { line, entries },
            Action::ReadCounters { operator, slots } => Command::ReadCounters { operator, slots },
        };
        self.fast_path
            .send(command)
            .map_err(|_| anyhow!("the thread of the fast path has ended"))
    }
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}
