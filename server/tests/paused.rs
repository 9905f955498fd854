//! A server that sleeps for half a minute while another one of the same operator carries on, and
//! wakes up in the middle of what it did: it writes nothing stale.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use doorstep_proto::v1 as pb;
use doorstep_proto::v1::access_client::AccessClient;
use doorstep_proto::v1::operator_client::OperatorClient;
use doorstep_server::config::Config;
use doorstep_server::engine::Engine;
use doorstep_server::serve;
use doorstep_server::session::State;
use doorstep_server::store::Database;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pb::AccessKind::{Connect, Move};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::common::player::{Ledger, Player};
use crate::common::{CONFIG, HOME_1, HOME_2, Server, Subscriber};

const BIN: &str = env!("CARGO_BIN_EXE_doorstep-server");
const PAUSE: Duration = Duration::from_secs(30);
/// Before it and after it.
const AWAKE: Duration = Duration::from_secs(4);
/// How long one server is waited for before the other is asked the same.
const ASK: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);
const HOMES: u32 = 4;

/// A server as a process of its own.
struct Process {
    child: Child,
    config: Config,
    port: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also one that is stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// On the database and with the keys of another one.
    async fn start(dir: &Path, of: &Server) -> Self {
        let Database::Postgres(url) = &of.config.database else {
            panic!("they share PostgreSQL");
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = unhurried()
            .replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
            .replacen("data_dir", &format!("database = \"{url}\"\ndata_dir"), 1);
        let file = dir.join("server.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        std::fs::create_dir_all(config.keys_dir()).unwrap();
        for entry in std::fs::read_dir(of.config.keys_dir()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), config.keys_dir().join(entry.file_name())).unwrap();
        }
        let child = Command::new(BIN)
            .args(["run", "--config"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process {
            child,
            config,
            port,
        };
        let up = async {
            while std::os::unix::net::UnixStream::connect(&process.config.admin_socket).is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, up).await.expect("it does not start");
        process
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    async fn operator(&self) -> OperatorClient<Channel> {
        let socket = self.config.admin_socket.display();
        let endpoint = Endpoint::from_shared(format!("unix://{socket}")).unwrap();
        OperatorClient::new(endpoint.connect().await.unwrap())
    }
}

fn unhurried() -> String {
    let limits = "[limits]\nregistration_rate = { per_minute = 0 }\n\
                  source_rate = { per_minute = 0 }\nsubscriber_rate = { per_minute = 0 }\n";
    CONFIG.replacen("[[gateway]]", &format!("{limits}[[gateway]]"), 1)
}

/// A server as clients dial it; one that stops is noticed.
fn endpoint(port: u16, server: &Server, name: Option<&str>) -> Endpoint {
    let mut tls = server.tls();
    if let Some(name) = name {
        tls = tls.identity(server.identity(name));
    }
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .connect_timeout(ASK)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
}

/// What a subscriber was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    session: String,
    generation: u64,
    gateway: &'static str,
}

/// What the movers have in common.
struct Moves {
    engine: Arc<Engine>,
    stop: CancellationToken,
    done: AtomicU64,
    /// Answers of the server that sleeps for a while.
    answered_by_process: AtomicU64,
}

impl Moves {
    /// Asks one of two servers after the other, at random, until one answers.
    async fn ask(
        &self,
        servers: &mut [AccessClient<Channel>; 2],
        request: &pb::RequestAccessRequest,
    ) -> pb::RequestAccessResponse {
        let start = Instant::now();
        loop {
            let which = rand::random_range(0..2);
            match timeout(ASK, servers[which].request_access(request.clone())).await {
                Ok(Ok(answer)) => {
                    let of_process = u64::from(which == 1);
                    self.answered_by_process
                        .fetch_add(of_process, Ordering::Relaxed);
                    return answer.into_inner();
                }
                Ok(Err(status)) => assert!(is_passing(status.code()), "{status}"),
                Err(_) => {}
            }
            assert!(start.elapsed() < PATIENCE, "no server answers");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn established(&self, told: &Told) {
        let session: Uuid = told.session.parse().unwrap();
        let start = Instant::now();
        loop {
            let row = self.engine.store.session(session).await.unwrap().unwrap();
            let state = (row.session.state, row.session.generation);
            if state == (State::Established, told.generation) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{told:?}: {state:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Moves a home to and fro; what it was told last, which has come to its end.
    async fn go_on(
        &self,
        server: &Server,
        home: &Subscriber,
        mut servers: [AccessClient<Channel>; 2],
    ) -> Told {
        let mut kind = Connect;
        let places = [(HOME_1, "gw1"), (HOME_2, "gw2")];
        for (place, gateway) in places.into_iter().cycle() {
            let request = home.request(server, kind, place);
            let answer = self.ask(&mut servers, &request).await;
            let told = Told {
                session: answer.session_id.clone(),
                generation: answer.generation,
                gateway,
            };
            self.established(&told).await;
            // Long over, and asked again of whoever answers.
            assert_eq!(self.ask(&mut servers, &request).await, answer);
            self.done.fetch_add(1, Ordering::Relaxed);
            if self.stop.is_cancelled() {
                return told;
            }
            kind = Move;
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("it goes round")
    }
}

/// Whether a server may answer otherwise soon.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Unknown
            | Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::ResourceExhausted
    )
}

/// Has something written to the audit log again and again; how often that was acknowledged.
async fn audited(
    mut operator: OperatorClient<Channel>,
    subscriber: String,
    stop: CancellationToken,
) -> u64 {
    let mut written = 0;
    while !stop.is_cancelled() {
        let reset = operator.reset_secret(pb::ResetSecretRequest {
            subscriber_id: subscriber.clone(),
            dry_run: false,
        });
        let done = timeout(ASK, reset).await;
        written += u64::from(matches!(done, Ok(Ok(_))));
        sleep(Duration::from_millis(20)).await;
    }
    written
}

async fn count(pool: &PgPool, text: &'static str) -> i64 {
    sqlx::query_scalar(text).fetch_one(pool).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_slept_writes_nothing_stale() {
    let mut server = Server::start_on_postgres().await;
    server.stop().await;
    let database = server.config.database.clone();
    server.config = Config::parse(&unhurried(), &server.dir.path().join("server.toml")).unwrap();
    server.config.database = database;
    server.resume().await;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &server).await;
    let running: &serve::Running = server.running.as_ref().unwrap();
    let ports = [running.listen.port(), process.port];

    let ledger = Arc::new(Ledger::default());
    // One gateway dials the one first, one the other.
    let players = [("gw1", [1, 0]), ("gw2", [0, 1])].map(|(name, order)| {
        let servers = order.map(|which| endpoint(ports[which], &server, Some(name)));
        let player = Player::new(name, servers.into(), Arc::clone(&ledger));
        tokio::spawn(player.run())
    });
    let stop = CancellationToken::new();
    let moves = Arc::new(Moves {
        engine: Arc::clone(&running.engine),
        stop: stop.clone(),
        done: AtomicU64::new(0),
        answered_by_process: AtomicU64::new(0),
    });
    let mut homes = Vec::new();
    for number in 0..HOMES {
        homes.push(Subscriber::register(&server, &format!("1390000000{number}")).await);
    }
    let other = Subscriber::register(&server, "13900000009").await;
    let other = other.credentials.subscriber_id;
    let writers = [
        tokio::spawn(audited(
            server.operator().await,
            other.clone(),
            stop.clone(),
        )),
        tokio::spawn(audited(process.operator().await, other, stop.clone())),
    ];
    let moving = homes.iter().map(|home| {
        let servers = ports.map(|port| {
            let channel = endpoint(port, &server, None).connect_lazy();
            AccessClient::new(channel)
        });
        moves.go_on(&server, home, servers)
    });
    let script = async {
        for (signal, pause, who) in [
            (None, AWAKE, &[&moves.done, &moves.answered_by_process][..]),
            (Some(Signal::SIGSTOP), PAUSE, &[&moves.done]),
            (
                Some(Signal::SIGCONT),
                AWAKE,
                &[&moves.done, &moves.answered_by_process],
            ),
        ] {
            if let Some(signal) = signal {
                process.signal(signal);
            }
            let count = || -> Vec<u64> {
                let counts = who.iter().map(|count| count.load(Ordering::Relaxed));
                counts.collect()
            };
            let before = count();
            sleep(pause).await;
            // However slow the machine is: it goes on.
            let going_on = async {
                while count()
                    .iter()
                    .zip(&before)
                    .any(|(now, before)| now == before)
                {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            let went_on = timeout(PATIENCE, going_on).await;
            went_on.unwrap_or_else(|_| panic!("{signal:?}: {before:?}, {:?}", count()));
        }
        stop.cancel();
    };
    let (told, ()) = tokio::join!(futures::future::join_all(moving), script);

    // The table: one session for each, as its subscriber was told, where it was told.
    let pool = PgPool::connect(match &server.config.database {
        Database::Postgres(url) => url,
        Database::Sqlite(_) => panic!("they share PostgreSQL"),
    })
    .await
    .unwrap();
    let store = &moves.engine.store;
    assert_eq!(ledger.doubled(), Vec::<String>::new());
    for told in &told {
        let session: Uuid = told.session.parse().unwrap();
        let row = store.session(session).await.unwrap().unwrap().session;
        assert_eq!(
            (row.state, row.generation, row.connection.gateway.as_str()),
            (State::Established, told.generation, told.gateway)
        );
        assert_eq!(ledger.forwards(&told.session), Some(told.gateway));
        // One line of steps, without a branch that somebody went on from late.
        let steps = store.steps(session, None).await.unwrap();
        let generations: Vec<_> = steps.iter().map(|step| step.generation).collect();
        assert!(generations.is_sorted(), "{generations:?}");
        let all: i64 = sqlx::query_scalar("SELECT count(*) FROM steps WHERE session = $1")
            .bind(session.as_bytes().to_vec())
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(all, i64::try_from(steps.len()).unwrap());
    }
    assert_eq!(count(&pool, "SELECT count(*) FROM sessions").await, 4);
    assert_eq!(count(&pool, "SELECT count(*) FROM leases").await, 4);
    assert_eq!(count(&pool, "SELECT count(*) FROM waiting").await, 0);

    // The audit log: of one line as well, with all that was acknowledged.
    let mut written = 0;
    for writer in writers {
        let acknowledged = writer.await.unwrap();
        assert!(acknowledged > 0, "nothing was acknowledged");
        written += acknowledged;
    }
    let verified = Command::new(BIN)
        .args(["audit", "verify", "-o", "json", "--config"])
        .arg(folder.path().join("server.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    let found: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert!(
        found["entries"].as_u64() >= Some(written),
        "{found}, {written}"
    );
    players.into_iter().for_each(|player| player.abort());
    drop(process);
    pool.close().await;
    server.stop().await;
}
