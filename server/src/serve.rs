//! The composition root: everything that `run` starts and stops.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use doorstep_daemon::blocking;
use doorstep_daemon::metrics::Metrics;
use doorstep_daemon::refuse;
use doorstep_daemon::socket::AdminSocket;
use doorstep_daemon::traces::Traces;
use doorstep_proto::v1::access_server::{self, AccessServer};
use doorstep_proto::v1::accounts_server::AccountsServer;
use doorstep_proto::v1::enrollment_server::{self, EnrollmentServer};
use doorstep_proto::v1::gateway_control_server::{self, GatewayControlServer};
use doorstep_proto::v1::operator_server::OperatorServer;
use doorstep_proto::v1::pki_server::PkiServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::app;
use crate::config::Config;
use crate::console;
use crate::engine::{Engine, contact, now_ms};
use crate::enroll::{Enroller, Revocations};
use crate::keys;
use crate::keys::server::ServerTls;
use crate::limits::Admission;
use crate::listener::{self, Listener};
use crate::metrics::ServerMetrics;
use crate::service::access::AccessService;
use crate::service::accounts::AccountsService;
use crate::service::control::ControlService;
use crate::service::enrollment::EnrollmentService;
use crate::service::health::{self, Health, Looks};
use crate::service::operator::OperatorService;
use crate::service::pki::PkiService;
use crate::service::reflection;
use crate::traces;
use crate::verification::Verifier;

/// Largest request of a terminal.
const MAX_REQUEST_LEN: usize = 16 * 1024;
/// Largest message of a gateway: a Hello names every session it holds, some 50 bytes each.
const MAX_GATEWAY_MESSAGE_LEN: usize = 32 * 1024 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a gateway has not answered is told again at the second look after it.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Between two walks over rows that may be old; what may go is counted in days.
const PRUNE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// After the plans could not be looked at.
const PLANS_AGAIN: Duration = Duration::from_secs(10);
/// How long open requests may take to end once the server shuts down.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// A running server.
pub struct Running {
    /// Where it listens, with the port that the system chose for `:0`.
    pub listen: SocketAddr,
    /// Where it answers Prometheus.
    pub metrics: Option<SocketAddr>,
    /// Where it serves people's browsers.
    pub console: Option<SocketAddr>,
    /// Where it serves subscribers' phones.
    pub app: Option<SocketAddr>,
    pub engine: Arc<Engine>,
    shutdown: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<Result<()>>)>,
    streams: TaskTracker,
    /// Two servers must not work in one folder. On one database of PostgreSQL they may.
    _lock: File,
}

/// Where the server is reached.
pub struct Sockets<L> {
    /// By terminals and gateways.
    pub public: L,
    /// By people; a simulation has none.
    pub admin: Option<AdminSocket>,
}

impl Sockets<TcpListener> {
    async fn bind(config: &Config) -> Result<Self> {
        let public = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        Ok(Sockets {
            public,
            admin: Some(AdminSocket::bind(&config.admin_socket)?),
        })
    }
}

/// Starts everything; returns once both sockets are bound.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running> {
    start_on(config, Sockets::bind, shutdown).await
}

/// The same with sockets of any network, which are bound once all else is ready.
pub async fn start_on<L: Listener>(
    config: Config,
    bind: impl AsyncFnOnce(&Config) -> Result<Sockets<L>>,
    shutdown: CancellationToken,
) -> Result<Running> {
    let keys = keys::load(&config)?;
    let lock = lock_data_dir(&config)?;
    let config = Arc::new(config);
    let tls = Arc::new(ServerTls::load(Arc::clone(&config))?);
    let engine = Engine::open(Arc::clone(&config), &config.database, keys).await?;
    let revocations = Revocations::load(&engine.store).await?;
    let traces = Traces::start(config.traces.as_ref(), "doorstep-server", &config.operator)?;

    let metrics = match config.metrics {
        None => None,
        Some(metrics) => Some(Metrics::bind(metrics).await?),
    };
    let console = match &config.console {
        None => None,
        Some(given) => Some(console::bind(given).await?),
    };
    let app = match &config.app {
        None => None,
        Some(given) => Some(app::bind(given).await?),
    };
    let sockets = bind(&config).await?;
    let listen = sockets
        .public
        .local_addr()
        .context("cannot read the bound address")?;
    let streams = TaskTracker::new();
    let limits = config.limits;

    let verifier = config
        .verification
        .as_ref()
        .map(Verifier::new)
        .transpose()?
        .map(Arc::new);
    let access = AccessService::new(Arc::clone(&engine), verifier.clone(), shutdown.clone());
    let access = AccessServer::new(access).max_decoding_message_size(MAX_REQUEST_LEN);
    let control = GatewayControlServer::new(ControlService::new(
        Arc::clone(&engine),
        revocations.clone(),
        shutdown.clone(),
        streams.clone(),
    ))
    .max_decoding_message_size(MAX_GATEWAY_MESSAGE_LEN);
    let enroller = Enroller::new(Arc::clone(&engine), revocations.clone());
    let enrollment = EnrollmentServer::new(EnrollmentService::new(enroller.clone()))
        .max_decoding_message_size(MAX_REQUEST_LEN);
    let public_health = Health::of(&[
        access_server::SERVICE_NAME,
        gateway_control_server::SERVICE_NAME,
        enrollment_server::SERVICE_NAME,
    ])
    .await;
    let public = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .timeout(Duration::from_millis(limits.request_timeout_ms))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(16 * 1024)
        .layer(Admission::new(Arc::clone(&engine.guard)))
        .add_service(access)
        .add_service(control)
        .add_service(enrollment)
        .add_service(
            public_health
                .server()
                .max_decoding_message_size(MAX_REQUEST_LEN),
        );
    let own_tls = Arc::clone(&tls);
    let incoming = listener::incoming(
        sockets.public,
        move || own_tls.current(),
        Arc::clone(&engine.guard),
        shutdown.clone(),
    );
    let stop = shutdown.clone();
    let public = tokio::spawn(async move {
        public
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
            .await
            .context("the public listener failed")
    });

    let started_ms = now_ms();
    let operator = OperatorServer::new(OperatorService::new(
        Arc::clone(&engine),
        listen,
        started_ms,
        shutdown.clone(),
    ))
    .max_decoding_message_size(MAX_REQUEST_LEN);
    let pki = PkiServer::new(PkiService::new(enroller)).max_decoding_message_size(MAX_REQUEST_LEN);
    let accounts = AccountsServer::new(AccountsService::new(Arc::clone(&engine)))
        .max_decoding_message_size(MAX_REQUEST_LEN);
    let admin_health = Health::of(&reflection::SERVICES).await;
    let operator = Server::builder()
        .add_service(operator)
        .add_service(pki)
        .add_service(accounts)
        .add_service(admin_health.server())
        .add_service(reflection::reflection()?);
    let admin = sockets
        .admin
        .map(|admin| tokio::spawn(admin.serve(operator, shutdown.clone())));

    let console_address = console
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()
        .context("console: no bound address")?;
    let console = console.map(|listener| {
        let serving = console::serve(
            listener,
            Arc::clone(&engine),
            Arc::clone(&tls),
            shutdown.clone(),
        );
        tokio::spawn(serving)
    });

    let app_address = app
        .as_ref()
        .map(TcpListener::local_addr)
        .transpose()
        .context("app: no bound address")?;
    let app = app.map(|listener| {
        let serving = app::serve(
            listener,
            Arc::clone(&engine),
            verifier,
            Arc::clone(&tls),
            shutdown.clone(),
        );
        tokio::spawn(serving)
    });

    let keeper = tokio::spawn(keep(
        tls,
        revocations,
        Arc::clone(&engine),
        shutdown.clone(),
    ));
    let health = tokio::spawn({
        let (engine, stop) = (Arc::clone(&engine), shutdown.clone());
        async move {
            let database = || engine.store.answers();
            health::follow(
                vec![public_health, admin_health],
                Looks::USUAL,
                database,
                stop,
            )
            .await;
            Ok(())
        }
    });
    let sweeper = tokio::spawn(sweep(Arc::clone(&engine), shutdown.clone()));
    let walker = tokio::spawn({
        let (engine, stop) = (Arc::clone(&engine), shutdown.clone());
        async move {
            engine.walk_identity_rows(stop).await;
            Ok(())
        }
    });
    let pruner = tokio::spawn({
        let (engine, stop) = (Arc::clone(&engine), shutdown.clone());
        async move {
            engine.prune_for_ever(PRUNE_EVERY, now_ms, stop).await;
            Ok(())
        }
    });
    let planner = tokio::spawn(follow_plans(Arc::clone(&engine), shutdown.clone()));
    let contacts = tokio::spawn(note_contacts(Arc::clone(&engine), shutdown.clone()));
    let poller = tokio::spawn(poll(Arc::clone(&engine), shutdown.clone()));
    let counter = tokio::spawn(count(Arc::clone(&engine), shutdown.clone()));
    tracing::info!(
        %listen,
        operator = config.operator,
        gateways = config.gateways.len(),
        admin_socket = %config.admin_socket.display(),
        legacy_seal = engine.allows_legacy_seals(),
        "serving"
    );
    if traces.are_on() {
        let ends = engine.hub.follow_ends();
        let told = traces::follow(Arc::clone(&engine), ends, traces, shutdown.clone());
        streams.spawn(told);
    }
    let mut tasks = vec![
        ("public listener", public),
        ("keeper of certificates", keeper),
        ("look at the database", health),
        ("sweeper", sweeper),
        ("keeper of contacts", contacts),
        ("poller", poller),
        ("count of rows", counter),
        ("walk over rows of older identity keys", walker),
        ("removal of old rows", pruner),
        ("follower of plans", planner),
    ];
    tasks.extend(admin.map(|admin| ("administration socket", admin)));
    tasks.extend(console.map(|console| ("console", console)));
    tasks.extend(app.map(|app| ("app", app)));
    let metrics_address = metrics.as_ref().map(Metrics::local_addr).transpose()?;
    if let Some(metrics) = metrics {
        let source = ServerMetrics::new(Arc::clone(&engine), started_ms);
        let stop = shutdown.clone();
        let serving = tokio::spawn(async move {
            metrics.serve(source, stop).await;
            Ok(())
        });
        tasks.push(("metrics", serving));
    }
    Ok(Running {
        listen,
        metrics: metrics_address,
        console: console_address,
        app: app_address,
        engine,
        shutdown,
        tasks,
        streams,
        _lock: lock,
    })
}

impl Running {
    /// Waits for the shutdown token, or for a part that fails; then ends everything.
    pub async fn wait(mut self) -> Result<()> {
        let mut result = Ok(());
        tokio::select! {
            // First: once it is cancelled the tasks end by themselves, and that is no failure.
            biased;
            () = self.shutdown.cancelled() => {}
            failed = first_end(&mut self.tasks) => result = failed,
        }
        self.shutdown.cancel();
        self.streams.close();
        let ended = async {
            self.streams.wait().await;
            for (name, task) in &mut self.tasks {
                if !task.is_finished()
                    && let Err(error) = task.await
                {
                    tracing::warn!(task = name, %error, "ended badly");
                }
            }
        };
        if tokio::time::timeout(SHUTDOWN_PATIENCE, ended)
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time; they are dropped");
        }
        for (_, task) in &self.tasks {
            task.abort();
        }
        self.engine.store.close().await;
        tracing::info!("stopped");
        result
    }
}

async fn first_end(tasks: &mut [(&'static str, JoinHandle<Result<()>>)]) -> Result<()> {
    let ends = tasks
        .iter_mut()
        .map(|(name, task)| Box::pin(async move { (*name, task.await) }));
    let ((name, end), _, _) = futures::future::select_all(ends).await;
    match end {
        Ok(Ok(())) => bail!("the {name} ended by itself"),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(error).with_context(|| format!("the {name} crashed")),
    }
}

/// Takes up what has changed in the key files and in the list of revocations.
async fn keep(
    tls: Arc<ServerTls>,
    revocations: Revocations,
    engine: Arc<Engine>,
    shutdown: CancellationToken,
) -> Result<()> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(engine.config.certificates.look_every()) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let tls = Arc::clone(&tls);
        match blocking::run(move || tls.refresh(now_ms())).await {
            Ok(Ok(true)) => tracing::info!("new connections use other certificates from now on"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::error!(
                error = format!("{error:#}"),
                "certificates cannot be taken up; the former ones are used on"
            ),
            Err(error) => tracing::error!(%error, "the look at the certificates crashed"),
        }
        let own = Arc::clone(&engine);
        match blocking::run(move || own.refresh_identity_keys()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(
                error = format!("{error:#}"),
                "identity keys cannot be taken up; the former ones are used on"
            ),
            Err(error) => tracing::error!(%error, "the look at the identity keys crashed"),
        }
        if let Err(error) = revocations.refresh(&engine.store).await {
            tracing::error!(%error, "cannot read which certificates are revoked");
        }
    }
}

/// Beside all else: with a million sessions it takes some seconds, in which gateways would wait.
/// What has changed is told to those that are back already as any other change.
async fn follow_plans(engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    loop {
        let followed = tokio::select! {
            followed = engine.follow_plans() => followed,
            () = shutdown.cancelled() => return Ok(()),
        };
        if let Err(error) = &followed {
            tracing::error!(%error, "cannot give sessions what their plans say; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(PLANS_AGAIN), if followed.is_err() => {}
            () = engine.plans_changed() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Marks overdue receipts. Not on any fast path: it only makes visible that something waits.
async fn sweep(engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    let every = (engine.config.unconfirmed_after / 4)
        .clamp(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        if let Err(error) = engine.sweep(now_ms()).await {
            tracing::error!(%error, "cannot look for overdue receipts");
        }
        match engine.end_outlived(now_ms()).await {
            Ok(0) => {}
            Ok(sessions) => tracing::warn!(sessions, "times to live are over, without receipts"),
            Err(error) => tracing::error!(%error, "cannot look for times to live"),
        }
    }
}

/// Writes down which gateways are in contact, or lets them go.
async fn note_contacts(engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    let mut written = Instant::now();
    let mut noted = HashSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(contact::EVERY) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let begun = Instant::now();
        let left = contact::WRITTEN.saturating_sub(begun - written);
        match tokio::time::timeout(left, engine.note_contacts()).await {
            Ok(Ok(now)) => {
                written = begun;
                noted = now;
                continue;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot write down which gateways are in contact")
            }
            Err(_) => tracing::error!("writing down which gateways are in contact takes too long"),
        }
        if written.elapsed() >= contact::WRITTEN {
            engine.end_unrecorded(&noted);
            written = Instant::now();
        }
    }
}

/// Has unanswered instructions repeated, whichever server made them.
async fn poll(engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    let mut waiting = HashSet::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        match engine.look_again(&waiting).await {
            Ok(now) => waiting = now,
            Err(error) => tracing::error!(%error, "cannot look for unanswered instructions"),
        }
    }
}

/// Counts what there is once, beside whatever is done meanwhile.
async fn count(engine: Arc<Engine>, shutdown: CancellationToken) -> Result<()> {
    let counted = async {
        engine.store.correct_tallies().await?;
        engine.counted().await.map(drop)
    };
    if let Some(Err(error)) = shutdown.run_until_cancelled(counted).await {
        tracing::error!(%error, "cannot count the database's rows");
    }
    shutdown.cancelled().await;
    Ok(())
}

/// Whether a server works in the configuration's folder now.
pub fn is_running(config: &Config) -> Result<bool> {
    let path = config.data_dir.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot open {}", path.display()));
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Held by whoever works in the folder: a server, or a command while none runs.
pub fn lock_data_dir(config: &Config) -> Result<File> {
    let path = config.data_dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => refuse!(
            "another server runs on {}; stop it first",
            config.data_dir.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
