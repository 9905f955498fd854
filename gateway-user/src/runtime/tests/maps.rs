//! A model of the maps.

use doorstep_daemon::dry_run::Run;

use super::*;

/// Maps that outlive the daemon, as pinned ones do.
#[derive(Clone, Default)]
pub(super) struct Maps(Arc<Mutex<MapsInner>>);

#[derive(Default)]
pub(super) struct MapsInner {
    pub tables: Tables,
    pub lines: HashMap<LineKey, LineValue>,
    pub services: HashMap<Slot, Service>,
}

#[derive(Debug, thiserror::Error)]
#[error("the model does not fail")]
pub(super) struct Never;

impl Maps {
    pub fn with<T>(&self, work: impl FnOnce(&mut MapsInner) -> T) -> T {
        work(&mut self.0.lock().expect("not poisoned"))
    }
}

impl FastPath for Maps {
    type Error = Never;

    fn set_lines(&mut self, lines: &[(LineKey, LineValue)], _: &Tables) -> Result<(), Never> {
        self.with(|maps| maps.lines = lines.iter().copied().collect());
        Ok(())
    }

    fn set_line(&mut self, key: LineKey, value: LineValue) -> Result<(), Never> {
        self.with(|maps| maps.lines.insert(key, value));
        Ok(())
    }

    fn tables(&self) -> Result<Tables, Never> {
        Ok(self.with(|maps| maps.tables.clone()))
    }

    fn apply(&mut self, plan: &Plan) -> Result<(), Never> {
        self.with(|maps| plan.changes.iter().for_each(|c| maps.tables.apply(c)));
        Ok(())
    }

    fn open_session(&mut self, entry: &SessionEntry) -> Result<(), Never> {
        self.with(|maps| maps.services.insert(entry.slot, entry.service));
        self.apply(&Plan::diff(&Tables::of([entry]), &Tables::default()))
    }

    fn change_session(&mut self, entry: &SessionEntry) -> Result<(), Never> {
        let known = self.with(|maps| maps.services.insert(entry.slot, entry.service));
        assert!(known.is_some(), "only an open session is changed");
        Ok(())
    }

    fn close_session(&mut self, entry: &SessionEntry) -> Result<Counters, Never> {
        self.with(|maps| maps.services.remove(&entry.slot));
        self.apply(&Plan::diff(&Tables::default(), &Tables::of([entry])))?;
        self.counters(entry.slot)
    }

    fn counters(&self, _: Slot) -> Result<Counters, Never> {
        Ok(Counters {
            upstream_packets: 5,
            upstream_bytes: 700,
            downstream_policed: 2,
            ..Counters::default()
        })
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
        Ok(vec![(Reason::UnknownLine, 3)])
    }

    fn upgrade(&mut self, object: &Object, _: Run) -> Result<Vec<Attachment>, Never> {
        Ok(vec![Attachment {
            port: "access0".to_owned(),
            hook: "xdp",
            program: "xdp_access",
            before: None,
            after: object.bytes().len() as u32,
        }])
    }

    fn map_use(&self) -> Result<Vec<MapUse>, Never> {
        let used = self.with(|maps| maps.lines.len() as u64);
        Ok(vec![MapUse {
            name: "LINES",
            used,
            max: 8,
        }])
    }
}
