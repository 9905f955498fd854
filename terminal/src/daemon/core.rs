//! The event loop: one event at a time, all state in one place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use doorstep_daemon::traces::Traces;
use doorstep_establish::frame::Envelope;
use doorstep_establish::{Body, Mac, frame, seal};
use doorstep_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::app::doors::Doors;
use super::ears::Ears;
use super::events::Event;
use super::metrics::Counts;
use super::rooms::Rooms;
use super::session::Session;
use crate::config::{Home, LinkConfig, Wan};
use crate::links::desired::{Active, desired};
use crate::links::reconcile::{ApplyError, Links};
use crate::links::{self, Item};
use crate::packet::Port;
use crate::server::Server;
use crate::state::{Credentials, OpenRequest, SavedSession, State, Store};

pub(super) mod apply;
mod commands;
mod exchange;
mod garden;
mod liveness;
pub(super) mod operators;
mod plans;
mod requests;
mod rooms;
mod switch;

use apply::Declared;
use exchange::Held;
use garden::Garden;
use operators::{Clients, Operator, known};

/// Changes of links come in bursts.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two looks at the kernel for changes of others.
const LOOK_EVERY: Duration = Duration::from_millis(300);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What goes on beside the event loop, on its word.
pub(super) struct Outside {
    pub ears: Ears,
    pub rooms: Rooms,
    pub doors: Doors,
    pub counts: Arc<Counts>,
    pub traces: Traces,
}

pub(super) struct Core {
    wan: Wan,
    home: Option<Home>,
    declared: Declared,
    ears: Ears,
    rooms: Rooms,
    doors: Doors,
    operators: BTreeMap<String, Operator>,
    store: Store,
    last_sealed: Option<String>,
    /// Asked of the server, and not answered yet.
    requests: Vec<OpenRequest>,
    /// The one that was given up last without an answer.
    unanswered: Option<OpenRequest>,
    links: Links,
    garden: Garden,
    events: mpsc::Sender<Event>,
    sessions: BTreeMap<Uuid, Session>,
    ports: BTreeMap<String, OpenPort>,
    closed_ports: BTreeMap<String, String>,
    /// Datagrams that no key fits yet: they may be faster than the server's answer.
    held: VecDeque<Held>,
    relink_at: Option<Instant>,
    retry_pause: Duration,
    /// As which the links were made last, and when.
    applied: Option<(Vec<Item>, Instant)>,
    repairs: Repairs,
    counts: Arc<Counts>,
    traces: Traces,
}

/// How often links were found otherwise than this terminal had made them.
#[derive(Debug, Default)]
struct Repairs {
    count: u64,
    last_unix_ms: i64,
}

struct OpenPort {
    port: Arc<Port>,
    mac: Mac,
}

impl Core {
    pub(super) fn new(
        declared: Declared,
        clients: Clients,
        store: Store,
        state: State,
        links: Links,
        Outside {
            ears,
            rooms,
            doors,
            counts,
            traces,
        }: Outside,
    ) -> Self {
        let LinkConfig { wan, home } = declared.applied.links.clone();
        let mut core = Self {
            wan,
            home,
            declared,
            operators: known(clients, state.operators),
            store,
            last_sealed: state.last_sealed,
            requests: state.requests,
            unanswered: None,
            links,
            garden: Garden::default(),
            events: ears.events.clone(),
            ears,
            rooms,
            doors,
            sessions: BTreeMap::new(),
            ports: BTreeMap::new(),
            closed_ports: BTreeMap::new(),
            held: VecDeque::new(),
            relink_at: None,
            retry_pause: FIRST_RETRY,
            applied: None,
            repairs: Repairs::default(),
            counts,
            traces,
        };
        for saved in state.sessions {
            core.add_session(saved);
        }
        core
    }

    /// Adopts or restores the links of the sessions that a former daemon had, and asks again what it
    /// got no answer to.
    pub(super) async fn start(&mut self) {
        self.relink().await;
        self.hear();
        self.ask_again();
        self.succeed_formers();
    }

    pub(super) async fn run(&mut self, mut inbox: mpsc::Receiver<Event>, stop: CancellationToken) {
        loop {
            let timer = self.next_timer();
            let wait = async {
                match timer {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                event = inbox.recv() => match event {
                    Some(event) => self.on_event(event).await,
                    None => return,
                },
                () = wait => {}
            }
            self.on_time().await;
        }
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            // Of a port that has left the configuration meanwhile.
            Event::PortOpen { name, .. } | Event::PortClosed { name, .. }
                if !self.wan.ports.contains(&name) => {}
            Event::PortOpen { name, port, mac } => {
                self.closed_ports.remove(&name);
                for session in self.sessions.values_mut() {
                    if session
                        .saved
                        .line
                        .as_ref()
                        .is_some_and(|line| line.port == name)
                    {
                        session.restore(mac);
                    }
                }
                self.ports.insert(name, OpenPort { port, mac });
                self.garden.ask_soon();
            }
            Event::PortClosed { name, detail } => {
                self.ports.remove(&name);
                self.garden.leave(&name);
                self.closed_ports.insert(name, detail);
            }
            Event::Frame { port, frame } => self.on_frame(&port, &frame).await,
            Event::LinksChanged => {
                let settled = self.look_again();
                // The cable may lead elsewhere now.
                self.garden.ask_by(settled);
            }
            Event::Disturbed => {
                self.look_again();
            }
            Event::Registered {
                operator,
                answer,
                reply,
            } => {
                let _ = reply.send(self.on_registered(&operator, answer));
            }
            Event::Plans {
                operator,
                answer,
                reply,
            } => {
                let _ = reply.send(self.on_plans(operator, answer));
            }
            Event::Access {
                request,
                answer,
                listener,
            } => self.on_access(request, answer, listener).await,
            Event::Followed { session, update } => self.on_followed(session, update).await,
            Event::Release {
                session,
                answer,
                reply,
                no_wait,
            } => {
                self.on_release(session, answer, reply, no_wait).await;
            }
            Event::Command(command) => self.on_command(command).await,
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let sessions = self.sessions.values().flat_map(|session| {
            let listeners = session
                .listeners
                .iter()
                .map(super::steps::Listener::deadline);
            let releases = session
                .release_replies
                .iter()
                .map(|(deadline, _)| *deadline);
            let responder = session.responder.next_deadline().map(Instant::from_std);
            listeners.chain(releases).chain(responder)
        });
        let garden = self.garden_timer();
        let own = self.relink_at.into_iter().chain(garden);
        let own = own.chain(self.declared.until);
        sessions.chain(own).chain(self.liveness_timer()).min()
    }

    async fn on_time(&mut self) {
        let now = Instant::now();
        if self.relink_at.is_some_and(|at| at <= now) {
            self.relink().await;
        }
        self.watch_confirmation(now).await;
        self.expire(now);
        self.visit_garden(now).await;
        self.ask_gateways(now).await;
        let replacing = self.sessions.iter();
        let replacing = replacing.filter(|(_, session)| session.saved.replaces.is_some());
        for id in replacing.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.name_former(id);
        }
        let due: Vec<(Uuid, Body)> = self
            .sessions
            .iter_mut()
            .filter_map(|(id, session)| {
                let body = session.responder.poll(now.into_std(), &mut rand::rng())?;
                Some((*id, body))
            })
            .collect();
        for (session, body) in due {
            self.send(session, &body).await;
        }
    }

    /// Sends to the gateway that the session's establishment is with.
    async fn send(&self, id: Uuid, body: &Body) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        let Some(establishment) = session.responder.establishment() else {
            return;
        };
        let Some(line) = &session.saved.line else {
            return;
        };
        let Some(open) = self.ports.get(&line.port) else {
            return;
        };
        let tags = self.wan.tags.resolve(establishment.tags);
        let envelope = Envelope::to_gateway(open.mac, establishment.gateway_mac, tags);
        self.send_frame(&line.port, &open.port, envelope, &session.saved, body)
            .await;
    }

    async fn send_frame(
        &self,
        name: &str,
        port: &Port,
        envelope: Envelope,
        saved: &SavedSession,
        body: &Body,
    ) {
        let datagram = seal(&saved.key, saved.session_id, body);
        if let Err(error) = port.send(&frame::build(&envelope, &datagram)).await {
            // Repeated anyway; a port that is gone is opened again by its listener.
            debug!(port = name, %error, "cannot send to the gateway");
        }
    }

    fn actives(&self) -> Vec<Active> {
        self.actives_by(&self.wan)
    }

    fn actives_by(&self, wan: &Wan) -> Vec<Active> {
        let mut sessions: Vec<&Session> = self.sessions.values().collect();
        sessions.sort_by_key(|session| session.age());
        sessions
            .iter()
            .filter_map(|session| session.active(wan))
            .collect()
    }

    fn desired(&self) -> Vec<Item> {
        self.desired_by(&self.wan, self.home.as_ref())
    }

    /// What should be there if the configuration were this one.
    fn desired_by(&self, wan: &Wan, home: Option<&Home>) -> Vec<Item> {
        let sessions = self.actives_by(wan);
        let mut items = desired(wan, home, &sessions, &self.chosen(home));
        // Of what excludes each other the first counts: the sessions'.
        if self.needs_garden()
            && let Some(visit) = self.garden.visit()
        {
            items.extend(links::garden::desired(wan, visit));
        }
        items
    }

    /// Makes the links as the sessions want them.
    async fn apply(&mut self) -> Result<(), ApplyError> {
        let items = self.desired();
        let changes = self.links.apply(&items).await?;
        if changes > 0 {
            self.renew_connections();
            if self
                .applied
                .as_ref()
                .is_some_and(|(last, _)| *last == items)
            {
                self.repairs.count += 1;
                self.repairs.last_unix_ms = unix_ms();
                warn!(changes, "links were not as they had been made: repaired");
            }
        }
        self.applied = Some((items, Instant::now()));
        self.serve_rooms();
        Ok(())
    }

    /// The kernel tells of changes; when they are looked at.
    fn look_again(&mut self) -> Instant {
        let settled = Instant::now() + SETTLE;
        let last = self.applied.as_ref().map(|(_, at)| *at + LOOK_EVERY);
        let at = last.map_or(settled, |least| settled.max(least));
        *self.relink_at.get_or_insert(at)
    }

    /// The same where nobody waits for it: a failure is tried again.
    async fn relink(&mut self) {
        self.relink_at = None;
        match self.apply().await {
            Ok(()) => self.retry_pause = FIRST_RETRY,
            Err(error) => {
                warn!(%error, retry_ms = self.retry_pause.as_millis(), "links are not as they should be");
                self.relink_at = Some(Instant::now() + self.retry_pause);
                self.retry_pause = (self.retry_pause * 2).min(LONGEST_RETRY);
            }
        }
    }

    fn save(&self) {
        let state = State {
            operators: self
                .operators
                .iter()
                .filter_map(|(name, operator)| Some((name.clone(), operator.credentials.clone()?)))
                .collect(),
            credentials: None,
            sessions: self
                .sessions
                .values()
                .map(|session| session.saved.clone())
                .collect(),
            last_sealed: self.last_sealed.clone(),
            requests: self.requests.clone(),
        };
        if let Err(error) = self.store.save(&state) {
            error!(%error, "a restarted daemon would not know the present state");
        }
    }

    fn add_session(&mut self, saved: SavedSession) {
        let id = saved.session_id;
        let operator = self.operators.get(&saved.operator);
        let account = operator.map(|operator| operator.account(&saved.operator));
        let session = match account {
            Some(Ok((server, credentials))) => {
                Session::new(saved, Some(self.follow(id, server, credentials)))
            }
            // The line and its gateway go on without.
            _ => Session::new(saved, None),
        };
        self.sessions.insert(id, session);
    }

    fn follow(
        &self,
        id: Uuid,
        server: Server,
        credentials: pb::Credentials,
    ) -> AbortOnDropHandle<()> {
        let request = pb::WatchRequest {
            credentials: Some(credentials),
            session_id: id.to_string(),
        };
        let events = self.events.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            let (updates, mut told) = mpsc::unbounded_channel();
            let follow = server.follow(request, move |update| {
                let _ = updates.send(update);
            });
            let pass_on = async {
                while let Some(update) = told.recv().await {
                    if events
                        .send(Event::Followed {
                            session: id,
                            update,
                        })
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            };
            tokio::join!(follow, pass_on);
        }))
    }

    /// The smallest number that no session has.
    fn free_slot(&self) -> u32 {
        (0..)
            .find(|slot| self.sessions.values().all(|s| s.saved.slot != *slot))
            .unwrap_or(0)
    }

    /// The session has ended at the server: nothing of it stays.
    async fn forget(&mut self, id: Uuid, detail: &str) {
        let Some(mut session) = self.sessions.remove(&id) else {
            return;
        };
        for other in self.sessions.values_mut() {
            other.saved.replaces.take_if(|former| *former == id);
        }
        self.relink().await;
        self.save();
        info!(session = %id, "session released");
        session.finish(&self.wan, super::steps::name::RELEASED, detail);
        for (_, reply) in session.release_replies {
            let response = pb::TerminalReleaseResponse {
                session_id: id.to_string(),
                released: true,
            };
            let _ = reply.send(Ok(response));
        }
    }
}

fn to_proto(credentials: &Credentials) -> pb::Credentials {
    pb::Credentials {
        subscriber_id: credentials.subscriber_id.clone(),
        secret: credentials.secret.0.to_vec(),
    }
}

pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
