//! One engine, fed by everything that happens, one event after another.

mod fast_path;
mod inbox;
mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use doorstep_daemon::blocking;
use doorstep_daemon::traces::{Span, Trace, Traces};
use doorstep_gateway_common::OperatorIndex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::control::{StreamEvent, StreamLink};
use crate::engine::row::Write;
use crate::engine::{Action, Engine, Event, Recovered, Recovery, Settings, Traced};
use crate::journal::Journal;
use crate::metrics::JournalMeasures;
use crate::plan::Plan;
use fast_path::{Command, Worker};
pub use fast_path::{FastPath, Inspection};
pub use inbox::{Feeds, Frame, FrameSender};
use inbox::{Inbox, inbox};
pub use query::{GardenShown, LineSet, MapsRead, Measured, Query, SessionShown};

/// Inputs that are decided on while a commit is under way.
const BATCH: usize = 8192;
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

/// What was decided and shares one commit.
#[derive(Default)]
struct Batch {
    /// On so many inputs.
    inputs: usize,
    writes: Vec<Write>,
    /// To be carried out in order, once the writes are durable.
    effects: Vec<Bound>,
    /// Who is to be told after that.
    waiting: Vec<Waiting>,
}

/// Told once what was decided is in the fast path, or why not.
type Waiting = oneshot::Sender<Result<(), String>>;

/// Ends when the batch is durable.
type Committing = Pin<Box<dyn Future<Output = anyhow::Result<Batch>> + Send>>;

impl Batch {
    fn take(&mut self, actions: impl Iterator<Item = Bound>) {
        for (action, link) in actions {
            match action {
                Action::Persist(write) => self.writes.push(write),
                effect => self.effects.push((effect, link)),
            }
        }
    }
}

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
    fast_path: mpsc::UnboundedSender<Command>,
    worker: Worker,
    transmit: Transmit,
    links: HashMap<OperatorIndex, StreamLink>,
    /// Asked for before the loop began.
    first: Vec<Action>,
    inbox: Inbox,
    measures: JournalMeasures,
    traces: Traces,
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
    let (inventory, blocks) = (settings.inventory.clone(), snapshot.blocks.clone());
    // The kernel takes its time for the lines; what the sessions need can be worked out meanwhile.
    let (lines, (recovered, plan)) = blocking::both(
        || fast_path.set_lines(&inventory.map_rows(&blocks), &actual),
        || {
            let recovered = Engine::recover(Recovery {
                settings,
                snapshot,
                actual: &actual,
                port,
                rng: StdRng::from_os_rng(),
                now: clock::now(),
            });
            let plan = Plan::diff(&recovered.tables, &actual);
            (recovered, plan)
        },
    );
    lines?;
    info!(
        sessions = recovered.sessions,
        changes = plan.changes.len(),
        "fast path reconciled with the journal"
    );
    fast_path.apply(&plan)?;
    fast_path.forget_strangers(&recovered.tables);
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
        let (commands, worker) = fast_path::spawn(fast_path, feeds.inputs.clone())
            .context("cannot start the thread of the fast path")?;
        let runtime = Self {
            engine,
            journal: Arc::new(journal),
            fast_path: commands,
            worker,
            transmit,
            links: HashMap::new(),
            first,
            inbox,
            measures: JournalMeasures::default(),
            traces: Traces::default(),
        };
        Ok((runtime, feeds))
    }

    /// Tells this collector of traces.
    #[must_use]
    pub fn told_to(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// What is observed of the journal, now and later.
    pub fn journal_measures(&self) -> JournalMeasures {
        self.measures.clone()
    }

    /// Works until told to stop. What has been decided by then is carried out.
    ///
    /// While the journal takes in one batch the engine decides on the next, which then holds all
    /// that came meanwhile.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let first = std::mem::take(&mut self.first);
        let mut decided = Batch {
            inputs: 1,
            ..Batch::default()
        };
        decided.take(first.into_iter().map(|action| (action, None)));
        let mut committing: Option<Committing> = None;
        let result = loop {
            if committing.is_none() && decided.inputs > 0 {
                committing = Some(self.commit(std::mem::take(&mut decided), &stop));
            }
            let room = decided.inputs < BATCH;
            let deadline = self.engine.next_deadline().filter(|_| room);
            let inputs = tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                done = under_way(&mut committing) => {
                    committing = None;
                    match done.and_then(|batch| self.carry_out(batch)) {
                        Ok(()) => continue,
                        Err(error) => break Err(error),
                    }
                }
                inputs = self.inbox.next(), if room => inputs,
                () = until(deadline) => Some(vec![Input::Event(Event::Tick)]),
            };
            let Some(inputs) = inputs else { break Ok(()) };
            decided.inputs += inputs.len();
            for input in inputs {
                self.take(input, &mut decided);
            }
        };
        let result = match result {
            Ok(()) => self.finish(committing, decided, &stop).await,
            failed => failed,
        };
        // It finishes what it was given; its answers have nobody to go to.
        drop(self.inbox);
        drop(self.fast_path);
        self.worker.ended().await?;
        result
    }

    /// Carries out what has been decided.
    async fn finish(
        &mut self,
        committing: Option<Committing>,
        decided: Batch,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        if let Some(committing) = committing {
            let batch = committing.await?;
            self.carry_out(batch)?;
        }
        let batch = self.commit(decided, stop).await?;
        self.carry_out(batch)
    }

    /// Has the engine decide on one input. A report belongs to the stream that is up now, even if
    /// another one is by the time that it is sent.
    fn take(&mut self, input: Input, decided: &mut Batch) {
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
                let set = self.engine.set_blocked(&location, blocked, clock::now());
                let answer = set.map(|(line, actions)| {
                    decided.take(actions.into_iter().map(|action| (action, None)));
                    let (sender, done) = oneshot::channel();
                    decided.waiting.push(sender);
                    (line, done)
                });
                // Whoever asked may have gone away.
                let _ = reply.send(answer);
                return;
            }
            Input::Query(query) => return self.answer(query),
        };
        let actions = self.engine.handle(event, clock::now());
        decided.take(actions.into_iter().map(|action| {
            let link = match &action {
                Action::Report { operator, .. } => self.links.get(operator).cloned(),
                _ => None,
            };
            (action, link)
        }));
    }

    /// Does the rest of a batch, in order, whose changes are durable.
    fn carry_out(&self, batch: Batch) -> anyhow::Result<()> {
        for (effect, link) in batch.effects {
            self.perform(effect, link)?;
        }
        for waiting in batch.waiting {
            let ended = |_| anyhow!("the thread of the fast path has ended");
            self.fast_path.send(Command::Tell(waiting)).map_err(ended)?;
        }
        Ok(())
    }

    /// Makes the changes of a batch durable and gives it back without them. Tries until it is done:
    /// without it nothing may be promised to anyone. The fast path forwards meanwhile.
    fn commit(&self, mut batch: Batch, stop: &CancellationToken) -> Committing {
        let writes = Arc::new(std::mem::take(&mut batch.writes));
        let (journal, stop) = (self.journal.clone(), stop.clone());
        let measures = self.measures.clone();
        Box::pin(async move {
            while !writes.is_empty() {
                let (journal, writes) = (journal.clone(), writes.clone());
                let (count, began) = (writes.len(), Instant::now());
                let done = blocking::run(move || journal.commit(&writes)).await?;
                measures.committed(count, began.elapsed());
                let Err(failure) = done else { break };
                error!(error = %failure, "cannot write the journal; trying again");
                tokio::select! {
                    () = stop.cancelled() => return Err(failure.into()),
                    () = sleep(COMMIT_RETRY) => {}
                }
            }
            Ok(batch)
        })
    }

    fn tell(&self, traced: Traced) {
        let trace = Trace {
            session: traced.session,
            generation: traced.generation,
        };
        let attributes = vec![("doorstep.operator", traced.operator)];
        let spans = Span::passage("gateway", traced.what, &traced.steps, attributes);
        self.traces.tell(trace, spans);
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
            Action::Trace(traced) => {
                self.tell(traced);
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
            Action::ExpectProbes { slot, line, key } => Command::ExpectProbes { slot, line, key },
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

async fn under_way(committing: &mut Option<Committing>) -> anyhow::Result<Batch> {
    match committing {
        Some(committing) => committing.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => std::future::pending().await,
    }
}
