//! Keeps `dnsmasq` running for the rooms, with as few rights as it can do with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::links::journal::{Durability, replace};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so long it has come up: one that ends later is started anew at once.
const WELL: Duration = Duration::from_secs(10);
/// So long one that is to be replaced goes on: within five seconds it tells devices which prefix is
/// not to be used any more, of which the next one knows nothing.
const FAREWELL: Duration = Duration::from_secs(6);
/// In the configuration of one that has told devices of a prefix.
const ADVERTISES: &str = "enable-ra";
/// What is heard of one that has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What it needs: raw packets for devices without an address, the ports of DHCP, and the kernel's
/// neighbours.
const RIGHTS: &str = "-all,+net_admin,+net_raw,+net_bind_service";
/// Bit of CAP_SETPCAP, without which nobody can take rights from a program that it starts.
const CAP_SETPCAP: u64 = 1 << 8;

/// How the service of the rooms is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing is to be served.
    No,
    /// It is.
    Yes,
    /// It is not, and why.
    Fails(String),
}

/// The service of the rooms; it ends with this value.
pub(super) struct Rooms {
    folder: PathBuf,
    /// By the names that their files begin with.
    services: BTreeMap<String, Service>,
}

/// One `dnsmasq`.
struct Service {
    wanted: watch::Sender<Option<String>>,
    served: Arc<Mutex<Served>>,
    _task: AbortOnDropHandle<()>,
}

impl Rooms {
    /// Serves nothing yet. Configurations and leases are in `state_dir`.
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.to_owned(),
            services: BTreeMap::new(),
        }
    }

    /// Where the leases are kept.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Serves by these configurations, and nothing else.
    pub(super) fn serve(&mut self, mut configurations: BTreeMap<String, String>) {
        for (name, service) in &self.services {
            service.serve(configurations.remove(name));
        }
        for (name, text) in configurations {
            let service = Service::new(self.folder.join(format!("{name}.conf")));
            service.serve(Some(text));
            self.services.insert(name, service);
        }
    }

    /// What fails is told before what does not.
    pub(super) fn served(&self) -> Served {
        let all = self.services.values().map(|own| lock(&own.served).clone());
        let worst = all.max_by_key(|served| match served {
            Served::No => 0,
            Served::Yes => 1,
            Served::Fails(_) => 2,
        });
        worst.unwrap_or(Served::No)
    }
}

impl Service {
    fn new(file: PathBuf) -> Self {
        let (wanted, follow) = watch::channel(None);
        let served = Arc::new(Mutex::new(Served::No));
        let keep = keep(file, follow, Arc::clone(&served));
        Self {
            wanted,
            served,
            _task: AbortOnDropHandle::new(tokio::spawn(keep)),
        }
    }

    fn serve(&self, configuration: Option<String>) {
        self.wanted.send_if_modified(|wanted| {
            let news = *wanted != configuration;
            *wanted = configuration;
            news
        });
    }
}

fn lock(served: &Mutex<Served>) -> std::sync::MutexGuard<'_, Served> {
    served.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(
    file: PathBuf,
    mut wanted: watch::Receiver<Option<String>>,
    served: Arc<Mutex<Served>>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let text = wanted.borrow_and_update().clone();
        let Some(text) = text else {
            *lock(&served) = Served::No;
            if wanted.changed().await.is_err() {
                return;
            }
            continue;
        };
        let begun = tokio::time::Instant::now();
        let mut run = pin!(run(&file, &text, &served));
        let why = tokio::select! {
            why = &mut run => why,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                pause = FIRST_PAUSE;
                let is_replaced = wanted.borrow().is_some();
                if is_replaced && text.contains(ADVERTISES) {
                    // It may end before by itself.
                    let _ = timeout(FAREWELL, run).await;
                }
                continue;
            }
        };
        if begun.elapsed() > WELL {
            pause = FIRST_PAUSE;
        }
        let news = Served::Fails(why.clone());
        if *lock(&served) != news {
            warn!(why, "the rooms' devices get no addresses; trying again");
        }
        *lock(&served) = news;
        tokio::select! {
            () = sleep(pause) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs until it ends by itself; why it has. Dropped, it ends the program.
async fn run(file: &Path, text: &str, served: &Mutex<Served>) -> String {
    if let Err(error) = replace(file, text.as_bytes(), Durability::Process) {
        return format!("cannot write {}: {error}", file.display());
    }
    let mut child = match spawn(file) {
        Ok(child) => child,
        Err(why) => return why,
    };
    let last = Arc::new(Mutex::new(String::new()));
    let said = child.stderr.take().map(|stderr| {
        let last = Arc::clone(&last);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                debug!(line, "dnsmasq");
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        }))
    });
    // One that does not like its configuration or its rights ends at once.
    let early = timeout(FIRST_PAUSE, child.wait()).await;
    let status = match early {
        Ok(status) => status,
        Err(_) => {
            *lock(served) = Served::Yes;
            info!("the rooms' devices are served with addresses");
            child.wait().await
        }
    };
    if let Some(said) = said {
        let _ = timeout(LAST_WORDS, said).await;
    }
    let last = last.lock().unwrap_or_else(PoisonError::into_inner);
    match status {
        Ok(status) => format!("dnsmasq has ended ({status}): {last}"),
        Err(error) => format!("dnsmasq: {error}"),
    }
}

fn spawn(file: &Path) -> Result<Child, String> {
    let next = "install dnsmasq-base and util-linux, or set dhcp = false in [home]";
    let find = |name: &str| {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
        paths
            .find(|path| path.exists())
            .ok_or_else(|| format!("there is no {name} on this host; {next}"))
    };
    let mut command = Command::new(find("setpriv")?);
    // It ends with this daemon, however that ends: nobody would tell it of changes.
    command.args(["--pdeathsig", "TERM", "--no-new-privs"]);
    if may_take_rights() {
        command.args(["--bounding-set", RIGHTS, "--inh-caps", "-all"]);
    }
    command.arg(find("dnsmasq")?);
    command.arg("--keep-in-foreground");
    command.arg(format!("--conf-file={}", file.display()));
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
        .spawn()
        .map_err(|error| format!("cannot run dnsmasq: {error}; {next}"))
}

/// Under systemd the daemon itself has no more rights than these.
fn may_take_rights() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits & CAP_SETPCAP != 0)
}
