//! The server dies after every single step, and the next one goes on from the table.

use std::sync::Arc;

use doorstep_daemon::dry_run::Run;
use doorstep_server::config::Config;
use doorstep_server::engine::{AccessKind, AccessRequest, Engine, GatewayEvent, Wanted};
use doorstep_server::identity::Phone;
use doorstep_server::keys;
use doorstep_server::session::instruct::{self, Kind, Standing as _};
use doorstep_server::session::{Establishment, State};
use doorstep_server::store::{Counters, Database, ReceiptRow};
use uuid::Uuid;

use crate::common::{CONFIG, HOME_1, HOME_2, PHONE, configure};

struct World {
    dir: tempfile::TempDir,
    config: Arc<Config>,
    engine: Option<Arc<Engine>>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = configure(CONFIG, dir.path());
        keys::init(&config).unwrap();
        let mut world = World {
            dir,
            config: Arc::new(config),
            engine: None,
        };
        world.open().await;
        world
    }

    async fn open(&mut self) {
        let keys = keys::load(&self.config).unwrap();
        let config = Arc::clone(&self.config);
        let engine = Engine::open(config, &self.config.database, keys);
        self.engine = Some(engine.await.unwrap());
    }

    /// Nothing is closed or flushed: what is on disk is all that remains, in another folder, as
    /// after a power cut.
    async fn crash(&mut self) {
        let abandoned = self.engine.take();
        let next = tempfile::tempdir().unwrap();
        let from = &self.config.data_dir;
        let to = next.path().join("data");
        std::fs::create_dir_all(to.join("keys")).unwrap();
        for name in ["server.sqlite", "server.sqlite-wal"] {
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name)).unwrap();
            }
        }
        for entry in std::fs::read_dir(from.join("keys")).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join("keys").join(entry.file_name())).unwrap();
        }
        drop(abandoned);
        let mut config = Config::parse(CONFIG, &next.path().join("server.toml")).unwrap();
        if let Database::Postgres(_) = self.config.database {
            config.database = self.config.database.clone();
        }
        self.config = Arc::new(config);
        self.dir = next;
        self.open().await;
        // Whatever was written was counted with it.
        let corrected = self.engine().store.correct_tallies().await;
        assert_eq!(corrected.unwrap(), 0);
    }

    fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    fn request(&self, kind: AccessKind, location: &str) -> AccessRequest {
        AccessRequest {
            kind,
            sealed_location_id: keys::current_opening_key(&self.config)
                .unwrap()
                .sealing_key()
                .seal(&location.parse().unwrap())
                .unwrap(),
            session: None,
            request: Uuid::new_v4(),
            plan: None,
            establishment: Establishment::Terminal,
        }
    }

    /// What each gateway would be told at its next Hello, holding nothing.
    async fn instructions(&self) -> Vec<(&'static str, u64, Kind)> {
        let mut all = Vec::new();
        for gateway in ["gw1", "gw2"] {
            for standing in self.engine().store.standings_at(gateway).await.unwrap() {
                let wanted = instruct::derive(&standing, gateway).unwrap();
                all.push((gateway, wanted.generation, wanted.kind));
            }
        }
        all
    }

    /// What `gw1` is told repeatedly.
    async fn unanswered(&self) -> Vec<Uuid> {
        let waiting = self.engine().store.waiting().await.unwrap().into_iter();
        let at_gateway = waiting.filter(|(_, gateway)| gateway == "gw1");
        at_gateway.map(|(session, _)| session).collect()
    }

    /// What `gw1` is told of a session that it has answered for.
    async fn due(&self, session: Uuid) -> Option<Kind> {
        let row = self.engine().store.session(session).await.unwrap().unwrap();
        instruct::due(&row.session, "gw1").map(|wanted| wanted.kind)
    }

    async fn state(&self, session: Uuid) -> State {
        self.engine()
            .store
            .session(session)
            .await
            .unwrap()
            .unwrap()
            .session
            .state
    }

    fn receipt(&self, session: Uuid, generation: u64) -> ReceiptRow {
        ReceiptRow {
            gateway: "gw1".to_owned(),
            number: 1,
            session,
            generation,
            counters: Counters {
                upstream_packets: 1,
                upstream_bytes: 2,
                downstream_packets: 3,
                downstream_bytes: 4,
                upstream_policed: 5,
                downstream_policed: 6,
            },
            at_ms: 1,
            recorded_ms: 2,
        }
    }
}

#[tokio::test]
async fn a_crash_after_each_step_loses_nothing() {
    let mut world = World::new().await;
    let (subscriber, secret) = world
        .engine()
        .register(Some(Phone::parse(PHONE, None).unwrap()), None)
        .await
        .unwrap();
    world.crash().await;
    world
        .engine()
        .authenticate(subscriber, &secret)
        .await
        .unwrap();

    let request = world.request(AccessKind::Connect, HOME_1);
    let id_of_request = request.request;
    let first = world
        .engine()
        .request_access(subscriber, request)
        .await
        .unwrap();
    world.crash().await;
    assert_eq!(world.instructions().await, [("gw1", 1, Kind::Connect)]);
    // The terminal never heard the answer and asks again under the same id.
    let mut again = world.request(AccessKind::Connect, HOME_1);
    again.request = id_of_request;
    let repeated = world
        .engine()
        .request_access(subscriber, again)
        .await
        .unwrap();
    assert_eq!((repeated.session, repeated.generation), (first.session, 1));
    assert_eq!(repeated.key, first.key);

    for (event, state) in [
        (GatewayEvent::Ack { revision: 1 }, State::Establishing),
        (
            GatewayEvent::Established {
                terminal_mac: String::new(),
                line: "l".to_owned(),
                route: "r".to_owned(),
            },
            State::Established,
        ),
    ] {
        world
            .engine()
            .gateway_event("gw1", first.session, 1, &event)
            .await
            .unwrap();
        world.crash().await;
        assert_eq!(world.state(first.session).await, state);
        assert_eq!(world.instructions().await, [("gw1", 1, Kind::Connect)]);
    }

    let slower = Wanted::Parts {
        upstream_bps: None,
        downstream_bps: Some(20_000_000),
        shape_downstream: None,
        priority: None,
    };
    world
        .engine()
        .set_service(first.session, &slower, Run::Real)
        .await
        .unwrap();
    world.crash().await;
    assert_eq!(world.due(first.session).await, Some(Kind::ChangeService));
    assert_eq!(
        world.unanswered().await,
        [first.session],
        "told again and again"
    );
    world
        .engine()
        .gateway_event("gw1", first.session, 1, &GatewayEvent::Ack { revision: 2 })
        .await
        .unwrap();
    world.crash().await;
    assert_eq!(world.due(first.session).await, Some(Kind::Connect));
    assert!(world.unanswered().await.is_empty());

    let request = world.request(AccessKind::Move, HOME_2);
    let moved = world
        .engine()
        .request_access(subscriber, request)
        .await
        .unwrap();
    assert_eq!(moved.generation, 3);
    world.crash().await;
    assert_eq!(
        world.instructions().await,
        [("gw1", 2, Kind::Disconnect)],
        "never both"
    );

    let now = doorstep_server::engine::now_ms();
    assert_eq!(world.engine().sweep(now + 10_000_000).await.unwrap(), 1);
    world.crash().await;
    assert_eq!(
        world.state(first.session).await,
        State::DisconnectingUnconfirmed
    );
    assert_eq!(world.instructions().await, [("gw1", 2, Kind::Disconnect)]);

    world
        .engine()
        .receipt(&world.receipt(first.session, 2))
        .await
        .unwrap();
    world.crash().await;
    assert_eq!(world.instructions().await, [("gw2", 3, Kind::Connect)]);
    // Not acknowledged before the crash, so it comes again.
    world
        .engine()
        .receipt(&world.receipt(first.session, 2))
        .await
        .unwrap();
    assert_eq!(
        world
            .engine()
            .store
            .receipts(first.session)
            .await
            .unwrap()
            .len(),
        1
    );
    let row = world
        .engine()
        .store
        .session(first.session)
        .await
        .unwrap()
        .unwrap();
    let key = world
        .engine()
        .open_session_key(first.session, 3, &row.session.connection.key)
        .unwrap();
    assert_eq!(
        key, moved.key,
        "the target gets the key that the terminal was given"
    );

    world
        .engine()
        .gateway_event("gw2", first.session, 3, &GatewayEvent::Ack { revision: 1 })
        .await
        .unwrap();
    world.engine().release(subscriber, None).await.unwrap();
    world.crash().await;
    assert_eq!(world.instructions().await, [("gw2", 4, Kind::Disconnect)]);
    let mut last = world.receipt(first.session, 4);
    last.gateway = "gw2".to_owned();
    world.engine().receipt(&last).await.unwrap();
    world.crash().await;
    assert_eq!(world.state(first.session).await, State::Released);
    assert_eq!(world.instructions().await, []);
    let steps = world
        .engine()
        .store
        .steps(first.session, None)
        .await
        .unwrap();
    let generations: Vec<_> = steps.iter().map(|step| step.generation).collect();
    assert!(generations.is_sorted(), "{generations:?}");
}

#[tokio::test]
async fn concurrent_requests_never_share_an_address_or_a_session() {
    let world = World::new().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (subscriber, _) = world
            .engine()
            .register(
                Some(Phone::parse(&format!("1390000000{number}"), None).unwrap()),
                None,
            )
            .await
            .unwrap();
        // Twice at once for each: only one may become the first connection.
        for _ in 0..2 {
            let engine = Arc::clone(world.engine());
            let request = world.request(AccessKind::Connect, HOME_1);
            tasks.spawn(async move { engine.request_access(subscriber, request).await.is_ok() });
        }
    }
    let granted = tasks.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(
        granted, 5,
        "the /29 has five addresses besides the gateway's"
    );
    let store = &world.engine().store;
    let standings = store.standings_at("gw1").await.unwrap();
    let ids: Vec<_> = standings.iter().map(|standing| standing.id()).collect();
    let rows = store.sessions_with(&ids).await.unwrap();
    let mut addresses: Vec<_> = rows
        .iter()
        .map(|row| row.session.connection.addresses.ipv4)
        .collect();
    let mut subscribers: Vec<_> = rows.iter().map(|row| row.session.subscriber).collect();
    addresses.sort();
    addresses.dedup();
    subscribers.sort();
    subscribers.dedup();
    assert_eq!((addresses.len(), subscribers.len()), (5, 5));
}
