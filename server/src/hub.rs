//! Who must look again: connected gateways and open Watch streams.
//!
//! Of what this server has committed the hub carries the rows themselves; of what others have
//! changed, only that something has changed, and whoever is woken reads the rows. Either way
//! nothing is told that is not durable.

mod silence;
pub mod traffic;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::session::{Session, State};
use crate::store::{Committed, Hint, SessionRow, StepRow};
pub use silence::{Liveness, Said, Silence};
use traffic::Traffic;

/// Steps kept for a Watch that is slow; behind more it reads the table.
const STEPS_KEPT: usize = 8;
/// Ends of ways that are kept for who follows them.
const ENDS_KEPT: usize = 4096;

#[derive(Debug)]
pub struct Hub {
    gateways: Mutex<HashMap<String, Arc<Link>>>,
    watches: Mutex<HashMap<Uuid, broadcast::Sender<News>>>,
    watch_places: Arc<Semaphore>,
    max_watches: usize,
    /// What goes through the gateways that report here.
    pub traffic: Traffic,
    /// Counts whatever people may look at.
    changes: watch::Sender<u64>,
    /// Hears what sessions have come to.
    ends: Mutex<Option<mpsc::Sender<Arc<StepRow>>>>,
}

/// What a Watch hears.
#[derive(Clone, Debug)]
pub enum News {
    Step(Arc<StepRow>),
    /// Another server has changed the session.
    Look,
}

/// What a gateway's stream hears about a session.
pub type Fresh = Option<Arc<SessionRow>>;

/// One gateway's stream, as the rest of the server sees it.
#[derive(Debug)]
pub struct Link {
    /// Without a row: it must be read.
    dirty: Mutex<BTreeMap<Uuid, Fresh>>,
    notify: Notify,
    /// Cancelled when a newer stream of the same gateway takes over.
    pub replaced: CancellationToken,
    /// Cancelled when it can no longer be written down that the gateway is in contact.
    pub unrecorded: CancellationToken,
    pub since_ms: i64,
    pub peer: String,
    pub software_version: String,
    /// Number of the latest receipt of this stream; 0: none.
    pub last_receipt: AtomicU64,
    /// What is wrong with the operator's uplink there; nothing where nothing is known to be.
    uplink_problem: Mutex<String>,
    /// Which of its sessions' terminals are silent.
    pub silence: Silence,
}

/// No code panics while it holds one of these locks, and their data is plain.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Takes the gateway's word.
    pub fn say_of_uplink(&self, problem: String) {
        *lock(&self.uplink_problem) = problem;
    }

    pub fn uplink_problem(&self) -> String {
        lock(&self.uplink_problem).clone()
    }

    /// Waits until sessions have changed and takes them.
    pub async fn changed(&self) -> BTreeMap<Uuid, Fresh> {
        loop {
            let ids = std::mem::take(&mut *lock(&self.dirty));
            if !ids.is_empty() {
                return ids;
            }
            self.notify.notified().await;
        }
    }

    fn mark(&self, session: Uuid, row: Fresh) {
        lock(&self.dirty).insert(session, row);
        self.notify.notify_one();
    }
}

/// Keeps a gateway connected until it is dropped.
#[derive(Debug)]
pub struct Registration {
    hub: Arc<Hub>,
    gateway: String,
    pub link: Arc<Link>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut gateways = lock(&self.hub.gateways);
        if gateways
            .get(&self.gateway)
            .is_some_and(|link| Arc::ptr_eq(link, &self.link))
        {
            gateways.remove(&self.gateway);
        }
        drop(gateways);
        self.hub.note_change();
    }
}

/// One open Watch.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    session: Uuid,
    receiver: Option<broadcast::Receiver<News>>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// Waits for the session's next news, or one that has come since the last call.
    pub async fn news(&mut self) -> News {
        match &mut self.receiver {
            // The sender lives in the hub for as long as this receiver does.
            Some(receiver) => receiver.recv().await.unwrap_or(News::Look),
            None => News::Look,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.receiver = None;
        let mut watches = lock(&self.hub.watches);
        if watches
            .get(&self.session)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            watches.remove(&self.session);
        }
    }
}

impl Hub {
    pub fn new(max_watches: usize) -> Arc<Self> {
        let max_watches = max_watches.min(Semaphore::MAX_PERMITS);
        Arc::new(Hub {
            gateways: Mutex::default(),
            watches: Mutex::default(),
            watch_places: Arc::new(Semaphore::new(max_watches)),
            max_watches,
            traffic: Traffic::default(),
            changes: watch::Sender::new(0),
            ends: Mutex::default(),
        })
    }

    /// A gateway has a stream from now on; an older one of the same gateway ends.
    pub fn register(
        self: &Arc<Self>,
        gateway: &str,
        since_ms: i64,
        peer: String,
        software_version: String,
    ) -> Registration {
        let link = Arc::new(Link {
            dirty: Mutex::default(),
            notify: Notify::new(),
            replaced: CancellationToken::new(),
            unrecorded: CancellationToken::new(),
            since_ms,
            peer,
            software_version,
            last_receipt: AtomicU64::new(0),
            uplink_problem: Mutex::default(),
            silence: Silence::default(),
        });
        let former = lock(&self.gateways).insert(gateway.to_owned(), Arc::clone(&link));
        if let Some(former) = former {
            former.replaced.cancel();
        }
        self.note_change();
        Registration {
            hub: Arc::clone(self),
            gateway: gateway.to_owned(),
            link,
        }
    }

    pub fn link(&self, gateway: &str) -> Option<Arc<Link>> {
        lock(&self.gateways).get(gateway).cloned()
    }

    /// Every gateway that has a stream here.
    pub fn links(&self) -> Vec<(String, Arc<Link>)> {
        let links = lock(&self.gateways);
        let links = links.iter();
        links
            .map(|(id, link)| (id.clone(), Arc::clone(link)))
            .collect()
    }

    pub fn gateways_connected(&self) -> usize {
        lock(&self.gateways).len()
    }

    /// Whether an established session's terminal is heard, if its gateway reports to this server.
    pub fn liveness(&self, session: &Session) -> Liveness {
        match self.link(&session.connection.gateway) {
            Some(link) if session.state == State::Established => {
                link.silence.of(session.id, session.generation)
            }
            _ => Liveness::Unknown,
        }
    }

    /// Whether a session's line is blocked, by the word of its gateway.
    pub fn is_blocked(&self, session: &Session) -> bool {
        let link = self.link(&session.connection.gateway);
        link.is_some_and(|link| link.silence.is_blocked(session.id, session.generation))
    }

    /// How many sessions' terminals are silent, of the gateways that report here.
    pub fn silent(&self) -> usize {
        let links = lock(&self.gateways);
        links.values().map(|link| link.silence.count()).sum()
    }

    /// Steps that have brought a session to an end of its way, from now on; the former listener hears
    /// no more. What it is too slow for it does not hear.
    pub fn follow_ends(&self) -> mpsc::Receiver<Arc<StepRow>> {
        let (sender, ends) = mpsc::channel(ENDS_KEPT);
        *lock(&self.ends) = Some(sender);
        ends
    }

    fn tell_ends(&self, steps: &[Arc<StepRow>]) {
        if let Some(sender) = &*lock(&self.ends) {
            for step in steps.iter().filter(|step| step.state.is_settled()) {
                let _ = sender.try_send(Arc::clone(step));
            }
        }
    }

    /// Tells everybody here what this server has made durable.
    pub fn committed(&self, committed: &Committed) {
        for row in &committed.instruct {
            if let Some(link) = self.link(&row.session.connection.gateway) {
                link.mark(row.session.id, Some(Arc::clone(row)));
            }
        }
        self.tell_ends(&committed.steps);
        for step in &committed.steps {
            tracing::debug!(
                session = %step.session,
                generation = step.generation,
                state = %step.state,
                gateway = step.gateway,
                "session changed"
            );
        }
        if !committed.steps.is_empty() {
            self.note_change();
            let watches = lock(&self.watches);
            for step in &committed.steps {
                if let Some(sender) = watches.get(&step.session) {
                    let _ = sender.send(News::Step(Arc::clone(step)));
                }
            }
        }
    }

    /// What another server has changed; the rows must be read.
    pub fn hear(&self, hint: Hint) {
        match hint {
            Hint::Gateway(gateway, session) => self.wake_gateway(&gateway, session),
            Hint::Steps(session) => {
                self.note_change();
                if let Some(sender) = lock(&self.watches).get(&session) {
                    let _ = sender.send(News::Look);
                }
            }
        }
    }

    /// Something has changed that people may look at.
    pub fn note_change(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears of changes, without what has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A row asks something of a gateway; what, must be read.
    pub fn wake_gateway(&self, gateway: &str, session: Uuid) {
        if let Some(link) = self.link(gateway) {
            link.mark(session, None);
        }
    }

    /// `None` when too many streams are open already.
    pub fn watch(self: &Arc<Self>, session: Uuid) -> Option<Watch> {
        let place = Arc::clone(&self.watch_places).try_acquire_owned().ok()?;
        let receiver = lock(&self.watches)
            .entry(session)
            .or_insert_with(|| broadcast::channel(STEPS_KEPT).0)
            .subscribe();
        Some(Watch {
            hub: Arc::clone(self),
            session,
            receiver: Some(receiver),
            _place: place,
        })
    }

    pub fn watches_open(&self) -> usize {
        self.max_watches - self.watch_places.available_permits()
    }
}
