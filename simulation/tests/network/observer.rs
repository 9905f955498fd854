//! Sees everything: writes down what happens and when, and what must never happen.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::system;

/// What a gateway forwards for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub generation: u64,
    /// The line's C-VLAN.
    pub line: u16,
}

#[derive(Clone, Default)]
pub struct Observer(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    trace: Vec<String>,
    /// In the order in which they were first heard of.
    names: HashMap<Uuid, String>,
    /// By gateway.
    forwarding: BTreeMap<&'static str, BTreeMap<Uuid, Forwarded>>,
    /// Highest generation forwarded so far.
    highest: HashMap<Uuid, u64>,
    violation: Option<String>,
    /// Requests of terminals so far.
    requests: usize,
}

impl Observer {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, who: &str, what: &str) {
        self.seen().note(who, what);
    }

    /// The same about a session.
    pub fn note_of(&self, who: &str, session: Uuid, what: &str) {
        let mut seen = self.seen();
        let name = seen.name(session);
        seen.note(who, &format!("{name} {what}"));
    }

    /// A terminal asks the server for something.
    pub fn asks(&self, terminal: &str, what: &str) {
        let mut seen = self.seen();
        seen.note(terminal, &format!("asks: {what}"));
        seen.requests += 1;
    }

    pub fn requests(&self) -> usize {
        self.seen().requests
    }

    /// What must never happen has happened.
    pub fn violation(&self, what: String) {
        self.seen().violated(what);
    }

    /// A gateway forwards for these sessions now, and for no others.
    pub fn forwards(&self, gateway: &'static str, now: BTreeMap<Uuid, Forwarded>) {
        let mut seen = self.seen();
        let before = seen.forwarding.get(gateway).cloned().unwrap_or_default();
        if before == now {
            return;
        }
        for session in before.keys().filter(|session| !now.contains_key(session)) {
            let name = seen.name(*session);
            seen.note(gateway, &format!("{name} is not forwarded any more"));
        }
        for (session, forwarded) in &now {
            if before.get(session) != Some(forwarded) {
                seen.forwarded(gateway, *session, *forwarded);
            }
        }
        seen.forwarding.insert(gateway, now);
    }

    pub fn forwarding(&self) -> BTreeMap<&'static str, BTreeMap<Uuid, Forwarded>> {
        self.seen().forwarding.clone()
    }

    pub fn violated(&self) -> Option<String> {
        self.seen().violation.clone()
    }

    pub fn name(&self, session: Uuid) -> String {
        self.seen().name(session)
    }

    pub fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.seen().trace)
    }
}

impl Seen {
    fn note(&mut self, who: &str, what: &str) {
        let at = system::elapsed().as_secs_f64();
        self.trace.push(format!("{at:>9.3} {who:<6} {what}"));
    }

    fn name(&mut self, session: Uuid) -> String {
        if let Some(name) = self.names.get(&session) {
            return name.clone();
        }
        let name = format!("s{}", self.names.len() + 1);
        self.names.insert(session, name.clone());
        self.note("", &format!("{name} is session {session}"));
        name
    }

    fn violated(&mut self, what: String) {
        self.note("", &format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    fn forwarded(&mut self, gateway: &'static str, session: Uuid, now: Forwarded) {
        let Forwarded { generation, line } = now;
        let name = self.name(session);
        self.note(
            gateway,
            &format!("{name} is forwarded, generation {generation}, line {line}"),
        );
        let highest = self.highest.entry(session).or_default();
        let before = *highest;
        *highest = before.max(generation);
        if generation < before {
            self.violated(format!(
                "{gateway} forwards {name} under generation {generation}, after {before}"
            ));
        }
        let others = self.forwarding.iter();
        let mut others =
            others.filter(|(other, open)| **other != gateway && open.contains_key(&session));
        if let Some((other, _)) = others.next() {
            let text = format!("{other} and {gateway} both forward {name}");
            self.violated(text);
        }
    }
}
