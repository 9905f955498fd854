//! A new configuration of the links, taken up while the daemon runs; and the former one, put back
//! where the new one fails, or where nobody confirms it in time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use doorstep_daemon::dry_run::Run;
use doorstep_proto::v1 as pb;
use tokio::time::Instant;
use tonic::Status;
use tracing::{error, info, warn};

use super::{Core, unix_ms};
use crate::applied::{Applied, AppliedStore, Pending};
use crate::config::{Config, LinkConfig};
use crate::links::difference::{Kind, changes, settings};
use crate::links::plan::Plan;

/// What is declared, beside the links themselves.
pub(in crate::daemon) struct Declared {
    /// What the daemon was started with.
    pub started: Config,
    /// The file of it.
    pub file: PathBuf,
    pub store: AppliedStore,
    pub applied: Applied,
    /// When the former links come back.
    pub until: Option<Instant>,
}

impl Declared {
    pub(in crate::daemon) fn new(started: Config, file: PathBuf) -> Self {
        let store = AppliedStore::new(&started.state_dir);
        let applied = Applied::resume(store.load(), started.links());
        applied.tell();
        Self {
            until: until(&applied),
            started,
            file,
            store,
            applied,
        }
    }

    fn set(&mut self, applied: Applied) {
        self.until = until(&applied);
        self.applied = applied;
    }

    /// Records what is in force now.
    fn record(&mut self, applied: Applied) -> Result<(), Status> {
        self.store.save(&applied).map_err(|error| {
            let text = format!("cannot record what is applied: {error}; nothing has changed");
            Status::internal(text)
        })?;
        self.set(applied);
        Ok(())
    }
}

/// A clock that has been set meanwhile makes it no longer than was asked for.
fn until(applied: &Applied) -> Option<Instant> {
    let pending = applied.pending.as_ref()?;
    let left = pending.until_unix_ms.saturating_sub(unix_ms()).max(0);
    let left = left.min(pending.within_ms.into());
    Some(Instant::now() + Duration::from_millis(left.unsigned_abs()))
}

impl Core {
    pub(super) async fn on_apply(
        &mut self,
        request: &pb::TerminalApplyRequest,
    ) -> Result<pb::TerminalApplyResponse, Status> {
        let (config, is_own) = self.read_config(request)?;
        let new = config.links();
        self.keeps_lines(&new)?;
        let mut told = self.preview(&new).await?;
        if differs_elsewhere(&config, &self.declared.started) {
            told.notes.push(
                "state_dir, admin_socket and the operators differ too: they are taken up when the \
                 daemon is started again"
                    .into(),
            );
        }
        if request.dry_run {
            return Ok(told);
        }
        if self.declared.applied.pending.is_some() {
            return Err(Status::failed_precondition(
                "what was applied last still waits to be confirmed: run `doorstep-terminal \
                 confirm`, or `doorstep-terminal confirm --refuse`, first",
            ));
        }
        let before = self.declared.applied.clone();
        let pending = (request.confirm_ms > 0).then(|| Pending {
            former: before.links.clone(),
            until_unix_ms: unix_ms().saturating_add(request.confirm_ms.into()),
            within_ms: request.confirm_ms,
        });
        told.confirm_by_unix_ms = pending.as_ref().map_or(0, |wait| wait.until_unix_ms);
        let file = if is_own {
            Some(new.clone())
        } else {
            let own = Config::load(&self.declared.file);
            own.ok().map(|own| own.links())
        };
        // Before the links: a daemon that is killed meanwhile goes on from here.
        self.declared.record(Applied {
            links: new.clone(),
            file,
            pending,
        })?;
        self.declare(new);
        if let Err(error) = self.apply().await {
            return Err(self.fall_back(before, &error.to_string()).await);
        }
        self.hear();
        info!(
            changes = told.links.len(),
            "a new configuration of the links is taken up"
        );
        Ok(told)
    }

    /// The new links could not be made; those that could are undone already.
    async fn fall_back(&mut self, before: Applied, why: &str) -> Status {
        self.declare(before.links.clone());
        if let Err(error) = self.declared.record(before) {
            error!(%error, "a restarted daemon would try the refused links again");
        }
        self.relink().await;
        let outcome = match self.relink_at {
            None => "the former links are as they were",
            Some(_) => "putting the former links back fails too, and is tried again; see the log",
        };
        warn!(
            why,
            outcome, "a new configuration of the links is not taken up"
        );
        Status::aborted(format!("not applied: {why}; {outcome}"))
    }

    pub(super) async fn on_confirm(&mut self, refuse: bool, run: Run) -> Result<(), Status> {
        if self.declared.applied.pending.is_none() {
            return Err(Status::failed_precondition(
                "nothing waits to be confirmed; `doorstep-terminal status` tells when something does",
            ));
        }
        if run.is_dry() {
            return Ok(());
        }
        if refuse {
            self.put_former_back("refused").await;
            return Ok(());
        }
        let confirmed = Applied {
            pending: None,
            ..self.declared.applied.clone()
        };
        self.declared.record(confirmed)?;
        info!("the links are confirmed");
        Ok(())
    }

    /// Puts the former links back once their time has come.
    pub(super) async fn watch_confirmation(&mut self, now: Instant) {
        if self.declared.until.is_some_and(|until| until <= now) {
            self.put_former_back("nobody has confirmed the new ones in time")
                .await;
        }
    }

    async fn put_former_back(&mut self, why: &str) {
        let Some(pending) = self.declared.applied.pending.clone() else {
            return;
        };
        warn!(why, "the former links come back");
        let former = Applied {
            links: pending.former.clone(),
            pending: None,
            file: self.declared.applied.file.clone(),
        };
        if let Err(error) = self.declared.record(former.clone()) {
            // It is put back again by a restarted daemon, whose time is over too.
            error!(%error, "the former links are not recorded");
            self.declared.set(former);
        }
        self.declare(pending.former);
        self.relink().await;
        self.hear();
    }

    fn declare(&mut self, links: LinkConfig) {
        self.wan = links.wan;
        self.home = links.home;
    }

    /// Hears on the ports that are declared, and forgets what it knew of others.
    pub(super) fn hear(&mut self) {
        self.ears.hear(&self.wan);
        let ports = self.ports.keys().chain(self.closed_ports.keys());
        let gone = ports.filter(|name| !self.wan.ports.contains(name));
        for name in gone.cloned().collect::<Vec<_>>() {
            self.ports.remove(&name);
            self.closed_ports.remove(&name);
            self.garden.leave(&name);
        }
    }

    /// The configuration that is meant, and whether it is the daemon's own.
    fn read_config(&self, request: &pb::TerminalApplyRequest) -> Result<(Config, bool), Status> {
        let own = &self.declared.file;
        let config = if request.path.is_empty() {
            Config::load(own)
        } else {
            Config::parse(&request.text, Path::new(&request.path))
        };
        let is_own = request.path.is_empty() || Path::new(&request.path) == own;
        let wrong = |error: crate::config::ConfigError| {
            Status::invalid_argument(format!("{error}; nothing has changed"))
        };
        Ok((config.map_err(wrong)?, is_own))
    }

    /// A session's line is not taken away from under it.
    fn keeps_lines(&self, new: &LinkConfig) -> Result<(), Status> {
        for (id, session) in &self.sessions {
            if new.is_switch() {
                return Err(Status::failed_precondition(format!(
                    "home.mode: with \"bridge\" the terminal has no session, and there is \
                     {id}; release it first"
                )));
            }
            let port = session.saved.line.as_ref().map(|line| &line.port);
            if let Some(port) = port.filter(|port| !new.wan.ports.contains(port)) {
                return Err(Status::failed_precondition(format!(
                    "wan.ports: session {id} is on {port}, which is not among them; move or \
                     release it first"
                )));
            }
        }
        Ok(())
    }

    /// What the configuration would change now.
    async fn preview(&self, new: &LinkConfig) -> Result<pb::TerminalApplyResponse, Status> {
        let items = self.desired_by(&new.wan, new.home.as_ref());
        let owned = self.links.owned();
        let unread = |error: crate::links::reconcile::ApplyError| {
            Status::internal(format!("{error}; nothing has changed"))
        };
        let actual = self.links.read_about(&items).await.map_err(unread)?;
        let plan = Plan::diff(&items, owned, &actual);
        let links = changes(&plan, owned).into_iter().map(|change| {
            let kind = match change.kind {
                Kind::Added => pb::TerminalChangeKind::Added,
                Kind::Changed => pb::TerminalChangeKind::Changed,
                Kind::Removed => pb::TerminalChangeKind::Removed,
            };
            pb::TerminalLinkChange {
                kind: kind.into(),
                link: change.item.link().unwrap_or_default().to_owned(),
                what: change.item.to_string(),
                former: change.former,
            }
        });
        let settings = settings(&self.declared.applied.links, new).into_iter();
        let settings = settings.map(|setting| pb::TerminalSettingChange {
            key: setting.key,
            former: setting.former,
            value: setting.value,
        });
        let absent = plan.absent.iter().map(|port| {
            format!("there is no interface {port}: it is used as soon as there is one")
        });
        let mut notes: Vec<String> = absent.collect();
        if self.actives().is_empty() && !new.is_switch() {
            notes.push(
                "no session is established: what needs one (tags, the rooms, addresses) is made \
                 when there is one"
                    .into(),
            );
        }
        Ok(pb::TerminalApplyResponse {
            settings: settings.collect(),
            links: links.collect(),
            notes,
            confirm_by_unix_ms: 0,
        })
    }
}

fn differs_elsewhere(new: &Config, started: &Config) -> bool {
    new.state_dir != started.state_dir
        || new.admin_socket != started.admin_socket
        || new.operators != started.operators
}
