//! The thread that works on the fast path, so that waiting for the kernel holds nothing else up. In a
//! simulation, which has no other threads, a task.

use std::error::Error as StdError;
use std::thread;

use anyhow::anyhow;
use doorstep_daemon::blocking;
use doorstep_daemon::dry_run::Run;
use doorstep_establish::ProbeKey;
use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason, Slot};
use tokio::sync::{mpsc, oneshot};
use tokio::task;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Input;
use super::query::MapsRead;
use crate::dataplane::{Attachment, Dataplane, DataplaneError, MapUse, Object};
use crate::engine::Event;
use crate::engine::row::SessionRef;
use crate::plan::{Plan, Tables};
use crate::session::{Counters, Reading, SessionEntry};

/// What the daemon needs of the data plane; what it means is told at [`Dataplane`].
pub trait FastPath: Send + 'static {
    type Error: StdError + Send + Sync + 'static;

    fn set_lines(
        &mut self,
        lines: &[(LineKey, LineValue)],
        open: &Tables,
    ) -> Result<(), Self::Error>;
    fn set_line(&mut self, key: LineKey, value: LineValue) -> Result<(), Self::Error>;
    fn tables(&self) -> Result<Tables, Self::Error>;
    fn apply(&mut self, plan: &Plan) -> Result<(), Self::Error>;
    fn open_session(&mut self, entry: &SessionEntry) -> Result<(), Self::Error>;
    fn change_session(&mut self, entry: &SessionEntry) -> Result<(), Self::Error>;
    fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, Self::Error>;
    fn expect_probes(&mut self, slot: Slot, line: &LineKey, key: &ProbeKey);
    fn forget_strangers(&mut self, held: &Tables);
    fn counters(&self, slot: Slot) -> Result<Counters, Self::Error>;
    fn reading(&self, slot: Slot) -> Result<Reading, Self::Error>;
    fn silent(&self) -> u64;
    fn reasons(&self) -> Result<Vec<(Reason, u64)>, Self::Error>;
    fn map_use(&self) -> Result<Vec<MapUse>, Self::Error>;
    fn upgrade(&mut self, object: &Object, run: Run) -> Result<Vec<Attachment>, Self::Error>;
}

impl FastPath for Dataplane {
    type Error = DataplaneError;

    fn set_lines(
        &mut self,
        lines: &[(LineKey, LineValue)],
        open: &Tables,
    ) -> Result<(), DataplaneError> {
        self.set_lines(lines, open)
    }

    fn set_line(&mut self, key: LineKey, value: LineValue) -> Result<(), DataplaneError> {
        self.set_line(key, value)
    }

    fn tables(&self) -> Result<Tables, DataplaneError> {
        self.tables()
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        self.apply(plan)
    }

    fn open_session(&mut self, entry: &SessionEntry) -> Result<(), DataplaneError> {
        self.open_session(entry)
    }

    fn change_session(&mut self, entry: &SessionEntry) -> Result<(), DataplaneError> {
        self.change_session(entry)
    }

    fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, DataplaneError> {
        self.close_session(entry)
    }

    fn expect_probes(&mut self, slot: Slot, line: &LineKey, key: &ProbeKey) {
        self.expect_probes(slot, line, key);
    }

    fn forget_strangers(&mut self, held: &Tables) {
        self.forget_strangers(held);
    }

    fn counters(&self, slot: Slot) -> Result<Counters, DataplaneError> {
        self.counters(slot)
    }

    fn reading(&self, slot: Slot) -> Result<Reading, DataplaneError> {
        self.reading(slot)
    }

    fn silent(&self) -> u64 {
        self.silent()
    }

    fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        self.reasons()
    }

    fn map_use(&self) -> Result<Vec<MapUse>, DataplaneError> {
        self.map_use()
    }

    fn upgrade(&mut self, object: &Object, run: Run) -> Result<Vec<Attachment>, DataplaneError> {
        self.upgrade(object, run)
    }
}

pub(super) enum Command {
    Open {
        session: SessionRef,
        entry: SessionEntry,
        displaced: Plan,
    },
    SetLine {
        key: LineKey,
        value: LineValue,
    },
    ExpectProbes {
        slot: Slot,
        line: LineKey,
        key: ProbeKey,
    },
    /// Says when all before it is done.
    Alive(oneshot::Sender<()>),
    /// Says when all before it is done, and what of the lines could not be.
    Tell(oneshot::Sender<Result<(), String>>),
    Change {
        session: SessionRef,
        entry: SessionEntry,
    },
    Close {
        session: SessionRef,
        entry: SessionEntry,
    },
    Remove {
        operator: OperatorIndex,
        plan: Plan,
    },
    OpenLease {
        line: LineKey,
        entries: Vec<SessionEntry>,
    },
    CloseLease {
        line: LineKey,
        entries: Vec<SessionEntry>,
    },
    ReadCounters {
        operator: OperatorIndex,
        slots: Vec<(Uuid, u64, Slot)>,
    },
    /// What is known of these slots, for people; none where it cannot be read.
    Show(Vec<Slot>, oneshot::Sender<Vec<Option<Reading>>>),
    Inspect(oneshot::Sender<Result<Inspection, String>>),
    /// As much of that as costs nothing.
    ReadMaps(oneshot::Sender<Result<MapsRead, String>>),
    Upgrade(
        Object,
        Run,
        oneshot::Sender<Result<Vec<Attachment>, String>>,
    ),
}

/// What the data plane says of itself.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub reasons: Vec<(Reason, u64)>,
    pub maps: Vec<MapUse>,
    /// Terminals that have asked and do not ask any more.
    pub silent: u64,
}

/// Who works on the fast path.
pub(super) enum Worker {
    Thread(thread::JoinHandle<()>),
    Task(task::JoinHandle<()>),
}

/// Starts it. It ends when the sender is dropped.
pub(super) fn spawn<F: FastPath>(
    fast_path: F,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<(mpsc::UnboundedSender<Command>, Worker)> {
    let (sender, mut commands) = mpsc::unbounded_channel();
    let mut work = Work {
        fast_path,
        lines: Ok(()),
    };
    if blocking::is_simulated() {
        let task = tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                blocking::pause().await;
                if let Some(event) = work.carry_out(command)
                    && inputs.send(Input::Event(event)).await.is_err()
                {
                    return;
                }
            }
        });
        return Ok((sender, Worker::Task(task)));
    }
    let thread = thread::Builder::new()
        .name("fast-path".into())
        .spawn(move || {
            while let Some(command) = commands.blocking_recv() {
                if let Some(event) = work.carry_out(command)
                    && inputs.blocking_send(Input::Event(event)).is_err()
                {
                    return;
                }
            }
        })?;
    Ok((sender, Worker::Thread(thread)))
}

impl Worker {
    /// Waits until it has done all that it was given.
    pub async fn ended(self) -> anyhow::Result<()> {
        let panicked = || anyhow!("whoever works on the fast path has panicked");
        match self {
            Self::Thread(thread) => {
                let joined = task::spawn_blocking(move || thread.join()).await?;
                joined.map_err(|_| panicked())
            }
            Self::Task(task) => task.await.map_err(|_| panicked()),
        }
    }
}

struct Work<F> {
    fast_path: F,
    /// What of the lines could not be done since somebody was told.
    lines: Result<(), String>,
}

impl<F: FastPath> Work<F> {
    /// Does it; what the engine is to hear of it.
    fn carry_out(&mut self, command: Command) -> Option<Event> {
        let event = match command {
            Command::Open {
                session,
                entry,
                displaced,
            } => Event::Opened {
                session,
                generation: entry.generation,
                result: self
                    .fast_path
                    .apply(&displaced)
                    .and_then(|()| self.fast_path.open_session(&entry))
                    .map_err(|e| e.to_string()),
            },
            Command::Remove { operator, plan } => {
                let result = self.fast_path.apply(&plan);
                let result = result.and_then(|()| self.fast_path.tables());
                let result = result.map(|held| self.fast_path.forget_strangers(&held));
                Event::Removed {
                    operator,
                    result: result.map_err(|e| e.to_string()),
                }
            }
            Command::Change { session, entry } => Event::Changed {
                session,
                generation: entry.generation,
                result: self
                    .fast_path
                    .change_session(&entry)
                    .map_err(|e| e.to_string()),
            },
            Command::Close { session, entry } => Event::Closed {
                session,
                generation: entry.generation,
                result: self
                    .fast_path
                    .close_session(&entry)
                    .map_err(|e| e.to_string()),
            },
            Command::OpenLease { line, entries } => Event::LeaseOpened {
                line,
                result: entries
                    .iter()
                    .try_for_each(|entry| self.fast_path.open_session(entry))
                    .map_err(|e| e.to_string()),
            },
            Command::CloseLease { line, entries } => Event::LeaseClosed {
                line,
                result: self
                    .fast_path
                    .apply(&Tables::of(&entries).removal())
                    .map_err(|e| e.to_string()),
            },
            Command::ReadCounters { operator, slots } => {
                let read = |&(session, generation, slot): &(Uuid, u64, Slot)| {
                    let reading = self.fast_path.reading(slot).ok()?;
                    Some((session, generation, reading))
                };
                Event::CountersRead {
                    operator,
                    readings: slots.iter().filter_map(read).collect(),
                }
            }
            Command::SetLine { key, value } => {
                if let Err(error) = self.fast_path.set_line(key, value) {
                    error!(?key, %error, "cannot change the line");
                    self.lines = Err(error.to_string());
                }
                return None;
            }
            Command::ExpectProbes { slot, line, key } => {
                self.fast_path.expect_probes(slot, &line, &key);
                return None;
            }
            Command::Alive(reply) => {
                let _ = reply.send(());
                return None;
            }
            Command::Tell(reply) => {
                let _ = reply.send(std::mem::replace(&mut self.lines, Ok(())));
                return None;
            }
            Command::Show(slots, reply) => {
                let read = |slot: &Slot| self.fast_path.reading(*slot).ok();
                // Whoever asked may have gone away.
                let _ = reply.send(slots.iter().map(read).collect());
                return None;
            }
            Command::Inspect(reply) => {
                let _ = reply.send(inspect(&self.fast_path).map_err(|error| error.to_string()));
                return None;
            }
            Command::ReadMaps(reply) => {
                let read = read_maps(&self.fast_path).map_err(|error| error.to_string());
                let _ = reply.send(read);
                return None;
            }
            Command::Upgrade(object, run, reply) => {
                let done = self.fast_path.upgrade(&object, run);
                match &done {
                    _ if run.is_dry() => {}
                    Ok(programs) => info!(?object, ?programs, "upgraded"),
                    Err(error) => warn!(?object, %error, "no upgrade"),
                }
                let _ = reply.send(done.map_err(|error| error.to_string()));
                return None;
            }
        };
        Some(event)
    }
}

fn read_maps<F: FastPath>(fast_path: &F) -> Result<MapsRead, F::Error> {
    Ok((fast_path.reasons()?, fast_path.map_use()?))
}

fn inspect<F: FastPath>(fast_path: &F) -> Result<Inspection, F::Error> {
    let (reasons, maps) = read_maps(fast_path)?;
    Ok(Inspection {
        reasons,
        maps,
        silent: fast_path.silent(),
    })
}
