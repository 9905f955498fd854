//! The maps of a gateway: they outlive its daemon, and the observer sees every change.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use doorstep_daemon::dry_run::Run;
use doorstep_establish::ProbeKey;
use doorstep_gateway::dataplane::{Attachment, MapUse, Object};
use doorstep_gateway::engine::row::Snapshot;
use doorstep_gateway::plan::{Plan, Tables};
use doorstep_gateway::runtime::FastPath;
use doorstep_gateway::session::{Counters, Reading, SessionEntry};
use doorstep_gateway_common::{LineKey, LineValue, Reason, Slot};
use uuid::Uuid;

use super::observer::{Forwarded, Observer};

#[derive(Clone)]
pub struct Maps {
    gateway: &'static str,
    observer: Observer,
    inner: Arc<Mutex<Inner>>,
    lie: Option<Lie>,
}

/// What is wrong with the maps, for the observer and the auditor to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Lie {
    /// What is closed stays, until the session is opened at the same gateway again.
    Keeps,
    /// What is opened is not there.
    Opens,
}

#[derive(Default)]
struct Inner {
    tables: Tables,
    /// Whose the rows are, by address and generation.
    owners: HashMap<(Ipv4Addr, u64), Uuid>,
}

#[derive(Debug, thiserror::Error)]
#[error("these maps do not fail")]
pub struct Never;

impl Maps {
    pub fn new(gateway: &'static str, observer: Observer, lie: Option<Lie>) -> Self {
        Maps {
            gateway,
            observer,
            inner: Arc::default(),
            lie,
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rows of these sessions may come back with a daemon that starts.
    pub fn learn(&self, journal: &Snapshot) {
        let rows = journal.sessions.iter();
        let owners = rows.filter_map(|(session, row)| {
            Some(((row.connect.ipv4?, row.connect.generation), session.session))
        });
        self.with(|maps| maps.owners.extend(owners));
    }

    fn change(&self, plan: &Plan) {
        let now = self.with(|maps| {
            for change in &plan.changes {
                maps.tables.apply(change);
            }
            maps.forwarded()
        });
        match now {
            Ok(now) => self.observer.forwards(self.gateway, now),
            Err(text) => self.observer.violation(format!("{}: {text}", self.gateway)),
        }
    }
}

impl Inner {
    fn forget(&mut self, session: Uuid) {
        let owners = &self.owners;
        self.tables.upstream_v4.retain(|key, value| {
            let of = (Ipv4Addr::from(key.source_be), value.generation);
            owners.get(&of) != Some(&session)
        });
    }

    /// A line reaches the world by its upstream row, and is reached by the downstream one.
    fn forwarded(&self) -> Result<BTreeMap<Uuid, Forwarded>, String> {
        let mut all = BTreeMap::new();
        for (key, value) in &self.tables.upstream_v4 {
            let (address, generation) = (Ipv4Addr::from(key.source_be), value.generation);
            let owner = self.owners.get(&(address, generation));
            let owner = *owner.ok_or_else(|| format!("a row of nobody's, {address}"))?;
            let forwarded = Forwarded {
                generation,
                line: key.line.c_vid,
            };
            if all.insert(owner, forwarded).is_some() {
                return Err(format!("session {owner} has two rows"));
            }
        }
        Ok(all)
    }
}

impl FastPath for Maps {
    type Error = Never;

    fn set_lines(&mut self, _: &[(LineKey, LineValue)], _: &Tables) -> Result<(), Never> {
        Ok(())
    }

    fn set_line(&mut self, _: LineKey, _: LineValue) -> Result<(), Never> {
        Ok(())
    }

    fn tables(&self) -> Result<Tables, Never> {
        Ok(self.with(|maps| maps.tables.clone()))
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Never> {
        self.change(plan);
        Ok(())
    }

    fn open_session(&mut self, entry: &SessionEntry) -> Result<(), Never> {
        if self.lie == Some(Lie::Keeps) {
            self.with(|maps| maps.forget(entry.session));
        }
        if let Some(address) = entry.ipv4 {
            let of = (address, entry.generation);
            self.with(|maps| maps.owners.insert(of, entry.session));
        }
        if self.lie == Some(Lie::Opens) {
            return Ok(());
        }
        self.apply(&Plan::diff(&Tables::of([entry]), &Tables::default()))
    }

    fn change_session(&mut self, _: &SessionEntry) -> Result<(), Never> {
        Ok(())
    }

    fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, Never> {
        if self.lie != Some(Lie::Keeps) {
            self.apply(&Plan::diff(&Tables::default(), &Tables::of([entry])))?;
        }
        self.counters(entry.slot)
    }

    fn counters(&self, _: Slot) -> Result<Counters, Never> {
        Ok(Counters::default())
    }

    fn expect_probes(&mut self, _: Slot, _: &LineKey, _: &ProbeKey) {}

    fn forget_strangers(&mut self, _: &Tables) {}

    fn reading(&self, slot: Slot) -> Result<Reading, Never> {
        Ok(Reading {
            counters: self.counters(slot)?,
            silent: None,
        })
    }

    fn silent(&self) -> u64 {
        0
    }

    fn reasons(&self) -> Result<Vec<(Reason, u64)>, Never> {
        Ok(Vec::new())
    }

    fn map_use(&self) -> Result<Vec<MapUse>, Never> {
        Ok(Vec::new())
    }

    fn upgrade(&mut self, _: &Object, _: Run) -> Result<Vec<Attachment>, Never> {
        Ok(Vec::new())
    }
}
