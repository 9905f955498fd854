//! A terminal's host: the real client of the server, and the real exchange on the lines.
//!
//! It hears all of its subscriber's homes, as if there were one of its kind in each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use doorstep_establish::frame::{self, Envelope};
use doorstep_establish::{Decision, Direction, Mac, Phase, Responder, SessionKey, open, seal};
use doorstep_proto::v1 as pb;
use doorstep_terminal::config;
use doorstep_terminal::server::{Server, Update};
use tokio::time::{Instant, sleep, sleep_until};
use turmoil::net::UdpSocket;
use uuid::Uuid;

use super::homes::{Home, LINES_PORT, terminal_name};
use super::observer::Observer;
use super::scenario::Wish;
use super::{server, wire};

/// How long a request is asked for again and again: longer than anything stays broken.
const PATIENCE: Duration = Duration::from_secs(300);
const FRAME_LEN: usize = 2048;

/// What a terminal knows of one of its sessions.
struct Session {
    key: SessionKey,
    responder: Responder,
    /// Where its gateway is, and what goes around an answer.
    reply: Option<(SocketAddr, Envelope)>,
    /// What the server has said last.
    said: Option<(u64, pb::SessionState)>,
}

/// At the operator.
struct Account {
    server: Server,
    credentials: pb::Credentials,
}

/// How a terminal sees a session.
#[derive(Debug)]
pub struct View {
    pub generation: u64,
    pub online: bool,
    pub said: Option<(u64, pb::SessionState)>,
}

#[derive(Clone)]
pub struct Terminal {
    number: usize,
    name: String,
    ca: PathBuf,
    /// The location ids of its homes.
    seals: Vec<String>,
    wishes: Vec<(Duration, Wish)>,
    sessions: Arc<Mutex<BTreeMap<Uuid, Session>>>,
    content: Arc<AtomicBool>,
    observer: Observer,
}

impl Terminal {
    pub fn new(
        number: usize,
        own: &server::Server,
        wishes: Vec<(Duration, Wish)>,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let homes = Home::all().filter(|home| home.terminal == number);
        let seals = homes.map(|home| own.seal(home));
        Ok(Terminal {
            number,
            name: terminal_name(number),
            ca: own.ca(),
            seals: seals.collect::<anyhow::Result<_>>()?,
            wishes,
            sessions: Arc::default(),
            content: Arc::default(),
            observer,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether all its requests have ended.
    pub fn is_content(&self) -> bool {
        self.content.load(Ordering::Relaxed)
    }

    pub fn views(&self) -> BTreeMap<Uuid, View> {
        let sessions = self.sessions();
        let views = sessions.iter().map(|(id, session)| {
            let view = View {
                generation: session.responder.generation(),
                online: session.responder.phase() == Phase::Established,
                said: session.said,
            };
            (*id, view)
        });
        views.collect()
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<Uuid, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str) {
        self.observer.note(&self.name, what);
    }

    pub async fn run(self) -> turmoil::Result {
        let socket = UdpSocket::bind(("0.0.0.0", LINES_PORT)).await?;
        tokio::spawn(self.clone().hear(socket));
        let server = connect(&self.ca)?;
        let credentials = self.register(&server).await;
        let account = Account {
            server,
            credentials,
        };
        for (pause, wish) in self.wishes.clone() {
            sleep(pause).await;
            self.wish(&account, wish).await;
        }
        self.note("wishes for nothing more");
        self.content.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    /// Under another number each time: an answer that is lost may have been a yes.
    async fn register(&self, server: &Server) -> pb::Credentials {
        for attempt in 0.. {
            let phone = format!("138{:04}{attempt:04}", self.number);
            let request = pb::RegisterRequest {
                phone,
                ..pb::RegisterRequest::default()
            };
            match server.register(request).await {
                Ok(answer) => {
                    if let Some(credentials) = answer.credentials {
                        self.note("is registered");
                        return credentials;
                    }
                }
                Err(status) => self.note(&format!("is not registered: {}", status.message())),
            }
            sleep(Duration::from_millis(200)).await;
        }
        unreachable!("numbers do not run out")
    }

    async fn wish(&self, account: &Account, wish: Wish) {
        // One that the server has told is released is nobody's any more.
        let live: Vec<_> = self
            .views()
            .into_iter()
            .filter(|(_, view)| !matches!(view.said, Some((_, pb::SessionState::Released))))
            .map(|(id, _)| id)
            .collect();
        let nth = |session: usize| live.get(session % live.len().max(1)).copied();
        match wish {
            Wish::Connect { home } => {
                let kind = pb::AccessKind::Connect;
                self.request(account, kind, None, home).await;
            }
            Wish::Additional { home } => {
                let kind = pb::AccessKind::Additional;
                self.request(account, kind, None, home).await;
            }
            Wish::Move { session, home } => {
                let session = nth(session);
                let kind = match session {
                    Some(_) => pb::AccessKind::Move,
                    None => pb::AccessKind::Connect,
                };
                self.request(account, kind, session, home).await;
            }
            Wish::Release { session } => {
                if let Some(session) = nth(session) {
                    self.release(account, session).await;
                }
            }
        }
    }

    async fn request(
        &self,
        account: &Account,
        kind: pb::AccessKind,
        session: Option<Uuid>,
        home: usize,
    ) {
        let what = match session {
            Some(session) => format!("{kind:?} {} to home {home}", self.observer.name(session)),
            None => format!("{kind:?} at home {home}"),
        };
        self.observer.asks(&self.name, &what);
        let request = pb::RequestAccessRequest {
            credentials: Some(account.credentials.clone()),
            kind: kind.into(),
            sealed_location_id: self.seals[home].clone(),
            session_id: session
                .map(|session| session.to_string())
                .unwrap_or_default(),
            request_id: Uuid::now_v7().to_string(),
            plan: String::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        let answer = match account.server.request_access(request, deadline).await {
            Ok(answer) => answer,
            Err(status) => return self.refused(&what, &status, deadline),
        };
        let session = answer.session_id.parse::<Uuid>();
        let key = SessionKey::from_slice(&answer.session_key);
        let (Ok(session), Ok(key)) = (session, key) else {
            return self.observer.violation(format!("{answer:?} is no answer"));
        };
        let generation = answer.generation;
        let text = format!("is granted, generation {generation}");
        self.observer.note_of(&self.name, session, &text);
        let known = match self.sessions().get_mut(&session) {
            Some(known) => {
                if generation >= known.responder.generation() {
                    known.key = key;
                    known.responder.raise_generation(generation);
                }
                return;
            }
            None => Session {
                key,
                responder: Responder::new(session, generation),
                reply: None,
                said: None,
            },
        };
        self.sessions().insert(session, known);
        let watch = pb::WatchRequest {
            credentials: Some(account.credentials.clone()),
            session_id: answer.session_id,
        };
        let (own, client) = (self.clone(), account.server.clone());
        tokio::spawn(async move {
            client
                .follow(watch, |update| own.hears(session, update))
                .await;
        });
    }

    async fn release(&self, account: &Account, session: Uuid) {
        let what = format!("Release {}", self.observer.name(session));
        self.observer.asks(&self.name, &what);
        let request = pb::ReleaseRequest {
            credentials: Some(account.credentials.clone()),
            session_id: session.to_string(),
        };
        let deadline = Instant::now() + PATIENCE;
        match account.server.release(request, deadline).await {
            Ok(_) => self.note(&format!("is told: {what} is under way")),
            Err(status) => self.refused(&what, &status, deadline),
        }
    }

    fn refused(&self, what: &str, status: &tonic::Status, deadline: Instant) {
        let (code, why) = (status.code(), status.message());
        self.note(&format!("is refused: {what}: {code:?}, {why}"));
        if Instant::now() + PATIENCE / 10 > deadline {
            let name = &self.name;
            self.observer
                .violation(format!("{name}: {what} never ends: {why}"));
        } else if why.is_empty() {
            let name = &self.name;
            self.observer
                .violation(format!("{name}: {what} is refused without a reason"));
        }
    }

    /// What the server says of a session.
    fn hears(&self, id: Uuid, update: Update) {
        let status = match update {
            Update::Status(status) => status,
            Update::Connected => return self.observer.note_of(&self.name, id, "is followed"),
            Update::Lost(why) => {
                let text = format!("is not followed: {why}");
                return self.observer.note_of(&self.name, id, &text);
            }
        };
        let (generation, state) = (status.generation, status.state());
        let text = format!("is {state:?}, generation {generation}: {}", status.detail);
        self.observer.note_of(&self.name, id, &text);
        if let Some(session) = self.sessions().get_mut(&id) {
            if session.said.is_some_and(|(before, _)| before > generation) {
                self.observer
                    .violation(format!("of {id} the server tells {text}"));
            }
            session.said = Some((generation, state));
            if state == pb::SessionState::Released {
                session.responder.end();
            }
        }
    }

    /// Frames of its lines, and its own when they are due.
    async fn hear(self, socket: UdpSocket) {
        let mut buffer = [0; FRAME_LEN];
        loop {
            let due = self.due();
            let frame = tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => received,
                () = until(due) => {
                    self.repeat(&socket);
                    continue;
                }
            };
            match frame {
                Ok((len, gateway)) => self.answer(&socket, gateway, &buffer[..len]),
                Err(_) => return,
            }
        }
    }

    fn due(&self) -> Option<std::time::Instant> {
        let sessions = self.sessions();
        let deadlines = sessions.values().map(|own| own.responder.next_deadline());
        deadlines.flatten().min()
    }

    fn repeat(&self, socket: &UdpSocket) {
        let now = Instant::now().into_std();
        for (id, session) in &mut *self.sessions() {
            if let Some(body) = session.responder.poll(now, &mut rand::rng()) {
                session.send(socket, *id, &body);
            }
        }
    }

    fn answer(&self, socket: &UdpSocket, gateway: SocketAddr, bytes: &[u8]) {
        let Ok(parsed) = frame::parse(bytes) else {
            return self
                .observer
                .violation("a frame that nobody can read".to_owned());
        };
        let mut sessions = self.sessions();
        let key = |id| sessions.get(&id).map(|session| session.key.clone());
        // Of a key that is not known yet, or not any more: the gateway asks again.
        let Ok((id, body)) = open(parsed.payload, Direction::FromGateway, key) else {
            return;
        };
        let Some(session) = sessions.get_mut(&id) else {
            return;
        };
        let from = parsed.envelope;
        let mac = Mac([2, 0, 0, 0, 1, self.number as u8]);
        let decision = session.responder.on_body(&body, from.src_mac, from.tags);
        let answer = match decision {
            Decision::BringUp(establishment) => {
                session.reply = Some((gateway, Envelope::to_gateway(mac, from.src_mac, from.tags)));
                let now = Instant::now().into_std();
                session.responder.brought_up(establishment.nonce, mac, now);
                session.responder.poll(now, &mut rand::rng())
            }
            Decision::Answer(body) => Some(body),
            Decision::Established => {
                let text = format!("is online, generation {}", session.responder.generation());
                self.observer.note_of(&self.name, id, &text);
                None
            }
            Decision::TearDown => {
                self.observer.note_of(&self.name, id, "is offline");
                None
            }
            Decision::Nothing(_) => None,
        };
        if let Some(body) = answer {
            session.send(socket, id, &body);
        }
    }
}

impl Session {
    fn send(&self, socket: &UdpSocket, id: Uuid, body: &doorstep_establish::Body) {
        if let Some((gateway, envelope)) = &self.reply {
            let frame = frame::build(envelope, &seal(&self.key, id, body));
            // Lost like a frame on a line: it is repeated.
            let _ = socket.try_send_to(&frame, *gateway);
        }
    }
}

fn connect(ca: &Path) -> anyhow::Result<Server> {
    let config = config::Server {
        url: server::url(),
        ca: ca.to_owned(),
        server_name: Some("north-net".to_owned()),
    };
    Ok(Server::over(wire::network(), &config)?)
}

async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => sleep_until(Instant::from_std(due)).await,
        None => std::future::pending().await,
    }
}
