//! Who must look again: connected gateways and open Watch streams.
//!
//! The hub carries no content, only ids: whoever is woken reads the rows. So nothing is lost when
//! several changes fall together, and nothing that a row does not say is ever sent.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug)]
pub struct Hub {
    gateways: Mutex<HashMap<String, Arc<Link>>>,
    watches: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    watch_places: Arc<Semaphore>,
    max_watches: usize,
}

/// One gateway's stream, as the rest of the server sees it.
#[derive(Debug)]
pub struct Link {
    dirty: Mutex<BTreeSet<Uuid>>,
    notify: Notify,
    /// Cancelled when a newer stream of the same gateway takes over.
    pub replaced: CancellationToken,
    pub since_ms: i64,
    pub peer: String,
    pub software_version: String,
}

/// No code panics while it holds one of these locks, and their data is plain.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Waits until sessions have changed and takes their ids.
    pub async fn changed(&self) -> BTreeSet<Uuid> {
        loop {
            let ids = std::mem::take(&mut *lock(&self.dirty));
            if !ids.is_empty() {
                return ids;
            }
            self.notify.notified().await;
        }
    }

    fn mark(&self, session: Uuid) {
        lock(&self.dirty).insert(session);
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
    }
}

/// One open Watch.
#[derive(Debug)]
pub struct Watch {
    hub: Arc<Hub>,
    session: Uuid,
    receiver: Option<watch::Receiver<()>>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    /// Waits for the session's next change, or one that has happened since the last call.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender lives in the hub for as long as this receiver does.
            let _ = receiver.changed().await;
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
            since_ms,
            peer,
            software_version,
        });
        let former = lock(&self.gateways).insert(gateway.to_owned(), Arc::clone(&link));
        if let Some(former) = former {
            former.replaced.cancel();
        }
        Registration {
            hub: Arc::clone(self),
            gateway: gateway.to_owned(),
            link,
        }
    }

    pub fn link(&self, gateway: &str) -> Option<Arc<Link>> {
        lock(&self.gateways).get(gateway).cloned()
    }

    pub fn gateways_connected(&self) -> usize {
        lock(&self.gateways).len()
    }

    /// A row asks something new of a gateway.
    pub fn wake_gateway(&self, gateway: &str, session: Uuid) {
        if let Some(link) = self.link(gateway) {
            link.mark(session);
        }
    }

    /// A session has a new step.
    pub fn wake_watches(&self, session: Uuid) {
        if let Some(sender) = lock(&self.watches).get(&session) {
            let _ = sender.send(());
        }
    }

    /// `None` when too many streams are open already.
    pub fn watch(self: &Arc<Self>, session: Uuid) -> Option<Watch> {
        let place = Arc::clone(&self.watch_places).try_acquire_owned().ok()?;
        let receiver = lock(&self.watches)
            .entry(session)
            .or_insert_with(|| watch::channel(()).0)
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
