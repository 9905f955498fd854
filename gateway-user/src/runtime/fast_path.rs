//! The thread that works on the fast path, so that waiting for the kernel holds nothing else up.

use std::error::Error as StdError;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use doorstep_gateway_common::{LineKey, LineValue, OperatorIndex, Reason, Slot};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::Input;
use crate::dataplane::{Attachment, Dataplane, DataplaneError, MapUse, Object};
use crate::engine::Event;
use crate::engine::row::SessionRef;
use crate::plan::{Plan, Tables};
use crate::session::{Counters, SessionEntry};

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
    fn counters(&self, slot: Slot) -> Result<Counters, Self::Error>;
    fn reasons(&self) -> Result<Vec<(Reason, u64)>, Self::Error>;
    fn map_use(&self) -> Result<Vec<MapUse>, Self::Error>;
    fn upgrade(&mut self, object: &Object) -> Result<Vec<Attachment>, Self::Error>;
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

    fn counters(&self, slot: Slot) -> Result<Counters, DataplaneError> {
        self.counters(slot)
    }

    fn reasons(&self) -> Result<Vec<(Reason, u64)>, DataplaneError> {
        self.reasons()
    }

    fn map_use(&self) -> Result<Vec<MapUse>, DataplaneError> {
        self.map_use()
    }

    fn upgrade(&mut self, object: &Object) -> Result<Vec<Attachment>, DataplaneError> {
        self.upgrade(object)
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
    /// The counters of these slots, for people; none where they cannot be read.
    Show(Vec<Slot>, oneshot::Sender<Vec<Option<Counters>>>),
    Inspect(oneshot::Sender<Result<Inspection, String>>),
    Upgrade(Object, oneshot::Sender<Result<Vec<Attachment>, String>>),
}

/// What the data plane says of itself.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub reasons: Vec<(Reason, u64)>,
    pub maps: Vec<MapUse>,
}

/// Starts the thread. It ends when the sender is dropped.
pub(super) fn spawn<F: FastPath>(
    fast_path: F,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<(Sender<Command>, JoinHandle<()>)> {
    let (sender, commands) = channel();
    let thread = std::thread::Builder::new()
        .name("fast-path".into())
        .spawn(move || work(fast_path, &commands, &inputs))?;
    Ok((sender, thread))
}

fn work<F: FastPath>(mut fast_path: F, commands: &Receiver<Command>, inputs: &mpsc::Sender<Input>) {
    let mut lines = Ok(());
    while let Ok(command) = commands.recv() {
        let event = match command {
            Command::Open {
                session,
                entry,
                displaced,
            } => Event::Opened {
                session,
                generation: entry.generation,
                result: fast_path
                    .apply(&displaced)
                    .and_then(|()| fast_path.open_session(&entry))
                    .map_err(|e| e.to_string()),
            },
            Command::Remove { operator, plan } => Event::Removed {
                operator,
                result: fast_path.apply(&plan).map_err(|e| e.to_string()),
            },
            Command::Change { session, entry } => Event::Changed {
                session,
                generation: entry.generation,
                result: fast_path.change_session(&entry).map_err(|e| e.to_string()),
            },
            Command::Close { session, entry } => Event::Closed {
                session,
                generation: entry.generation,
                result: fast_path.close_session(&entry).map_err(|e| e.to_string()),
            },
            Command::OpenLease { line, entries } => Event::LeaseOpened {
                line,
                result: entries
                    .iter()
                    .try_for_each(|entry| fast_path.open_session(entry))
                    .map_err(|e| e.to_string()),
            },
            Command::CloseLease { line, entries } => Event::LeaseClosed {
                line,
                result: fast_path
                    .apply(&Tables::of(&entries).removal())
                    .map_err(|e| e.to_string()),
            },
            Command::ReadCounters { operator, slots } => {
                let read = |&(session, generation, slot): &(Uuid, u64, Slot)| {
                    let counters = fast_path.counters(slot).ok()?;
                    Some((session, generation, counters))
                };
                Event::CountersRead {
                    operator,
                    readings: slots.iter().filter_map(read).collect(),
                }
            }
            Command::SetLine { key, value } => {
                if let Err(error) = fast_path.set_line(key, value) {
                    error!(?key, %error, "cannot change the line");
                    lines = Err(error.to_string());
                }
                continue;
            }
            Command::Tell(reply) => {
                let _ = reply.send(std::mem::replace(&mut lines, Ok(())));
                continue;
            }
            Command::Show(slots, reply) => {
                let read = |slot: &Slot| fast_path.counters(*slot).ok();
                // Whoever asked may have gone away.
                let _ = reply.send(slots.iter().map(read).collect());
                continue;
            }
            Command::Inspect(reply) => {
                let _ = reply.send(inspect(&fast_path).map_err(|error| error.to_string()));
                continue;
            }
            Command::Upgrade(object, reply) => {
                let done = fast_path.upgrade(&object);
                match &done {
                    Ok(programs) => info!(?object, ?programs, "upgraded"),
                    Err(error) => warn!(?object, %error, "no upgrade"),
                }
                let _ = reply.send(done.map_err(|error| error.to_string()));
                continue;
            }
        };
        if inputs.blocking_send(Input::Event(event)).is_err() {
            return;
        }
    }
}

fn inspect<F: FastPath>(fast_path: &F) -> Result<Inspection, F::Error> {
    Ok(Inspection {
        reasons: fast_path.reasons()?,
        maps: fast_path.map_use()?,
    })
}
