//! One session of the terminal, as the event loop holds it.

use std::time::Instant;

use doorstep_daemon::traces::{Span, Trace, Traces};
use doorstep_establish::{Mac, Phase, Responder};
use doorstep_proto::v1 as pb;
use tokio_util::task::AbortOnDropHandle;

use super::alive::Alive;
use super::events::ReleaseReply;
use super::steps::{Listener, name};
use crate::config::Wan;
use crate::links::desired::Active;
use crate::state::{SavedLine, SavedSession};

/// More than one request has.
const STEPS: usize = 16;

#[derive(Debug)]
pub(super) struct Session {
    pub saved: SavedSession,
    pub responder: Responder,
    /// What the server said last, and about which generation.
    pub server_state: &'static str,
    pub server_detail: String,
    pub gateway_id: String,
    /// Whether the server's stream is open, or why not.
    pub followed: Result<(), String>,
    /// Why links could not be changed.
    pub problem: String,
    pub releasing: bool,
    /// Asks the gateway whether the session is alive.
    pub alive: Option<Alive>,
    /// The server has been asked since the gateway became silent.
    pub asked_about: bool,
    pub listeners: Vec<Listener>,
    /// What has been done for it since it was asked for last, with Unix milliseconds.
    pub steps: Vec<(&'static str, i64)>,
    pub release_replies: Vec<(tokio::time::Instant, ReleaseReply)>,
    /// Follows the server; ends with the session.
    pub _follow: Option<AbortOnDropHandle<()>>,
}

impl Session {
    pub(super) fn new(saved: SavedSession, follow: Option<AbortOnDropHandle<()>>) -> Self {
        let responder = Responder::new(saved.session_id, saved.generation);
        Self {
            saved,
            responder,
            server_state: "",
            server_detail: String::new(),
            gateway_id: String::new(),
            followed: Err(match follow {
                Some(_) => "connecting".into(),
                None => "nobody to ask: its operator is not in the configuration".into(),
            }),
            problem: String::new(),
            releasing: false,
            alive: None,
            asked_about: false,
            listeners: Vec::new(),
            steps: Vec::new(),
            release_replies: Vec::new(),
            _follow: follow,
        }
    }

    /// Goes on with the links that a former daemon has made, if it has.
    pub(super) fn restore(&mut self, mac: Mac) {
        if let Some(line) = self.saved.line.clone()
            && self.responder.phase() == Phase::Waiting
        {
            let confirmed = line.confirmed_at_unix_ms.is_some();
            self.responder = Responder::restored(
                self.saved.session_id,
                self.saved.generation,
                line.establishment,
                mac,
                confirmed,
                Instant::now(),
            );
        }
    }

    pub(super) fn state(&self) -> &'static str {
        if self.releasing {
            return name::RELEASING;
        }
        let moving = self
            .saved
            .line
            .as_ref()
            .is_some_and(|line| line.establishment.generation < self.saved.generation);
        match self.responder.phase() {
            _ if self.server_state == name::REFUSED => name::REFUSED,
            Phase::BringingUp => name::BRINGING_UP,
            Phase::Failed => name::FAILED,
            Phase::Accepting if !moving => name::ACCEPTING,
            Phase::Established if !moving && self.silent_since().is_some() => name::SILENT,
            Phase::Established if !moving => name::ESTABLISHED,
            _ if self.server_state.is_empty() => name::WAITING,
            // The server may believe what this terminal cannot see.
            _ if self.server_state == name::ESTABLISHED => name::WAITING,
            _ => self.server_state,
        }
    }

    /// Whether it has its links, and the gateway has confirmed them. It may be silent at the moment.
    pub(super) fn is_online(&self) -> bool {
        matches!(self.state(), name::ESTABLISHED | name::SILENT)
    }

    /// Since when the gateway is silent, in Unix milliseconds.
    pub(super) fn silent_since(&self) -> Option<i64> {
        self.alive.as_ref()?.silent_since()
    }

    /// What is wrong, and what to do.
    fn silence(&self) -> Option<String> {
        self.silent_since()?;
        let line = self.saved.line.as_ref()?;
        let (gateway, port) = (&line.establishment.offer.gateway_id, &line.port);
        Some(format!(
            "{gateway} does not answer on {port}: see that the cable is in at both ends and that the \
             building has power; the links stay, and the terminal asks on"
        ))
    }

    /// Takes down when something was done for it.
    pub(super) fn step(&mut self, step: &'static str, at_unix_ms: i64) {
        // A gateway may begin again and again.
        if self.steps.len() == STEPS {
            self.steps.clear();
        }
        self.steps.push((step, at_unix_ms));
    }

    /// What has been done, in a trace's spans; it is told once.
    pub(super) fn passage(&mut self, traces: &Traces, attempt: &'static str) {
        let trace = Trace {
            session: self.saved.session_id,
            generation: self.saved.generation,
        };
        let steps = std::mem::take(&mut self.steps);
        let operator = ("doorstep.operator", self.saved.operator.clone());
        traces.tell(
            trace,
            Span::passage("terminal", attempt, &steps, vec![operator]),
        );
    }

    /// Tells the clients that wait for this session.
    pub(super) fn tell(&mut self, state: &str, detail: &str) {
        for listener in &mut self.listeners {
            listener.tell(state, detail);
        }
    }

    /// Tells the clients that wait for this session the result.
    pub(super) fn finish(&mut self, wan: &Wan, state: &str, detail: &str) {
        let view = self.view(wan, false);
        for listener in self.listeners.drain(..) {
            listener.finish(state, detail, Some(view.clone()));
        }
    }

    pub(super) fn active(&self, wan: &Wan) -> Option<Active> {
        let line = self.saved.line.as_ref()?;
        Some(active(self.saved.slot, line, wan))
    }

    /// The older comes first; one that has never been established last.
    pub(super) fn age(&self) -> (i64, u32) {
        (
            self.saved.since_unix_ms.unwrap_or(i64::MAX),
            self.saved.slot,
        )
    }

    pub(super) fn view(&self, wan: &Wan, default_route: bool) -> pb::TerminalSession {
        let line = self.saved.line.as_ref();
        let active = self.active(wan);
        let offer = line.map(|line| &line.establishment.offer);
        let text = |value: Option<String>| value.unwrap_or_default();
        let tags = active.as_ref().map(|active| active.tags);
        let silence = self.silence().unwrap_or_default();
        let detail = [&self.problem, &silence, &self.server_detail]
            .into_iter()
            .find(|t| !t.is_empty());
        pb::TerminalSession {
            session_id: self.saved.session_id.to_string(),
            operator: self.saved.operator.clone(),
            replaces: text(self.saved.replaces.map(|former| former.to_string())),
            generation: self.saved.generation,
            state: self.state().to_owned(),
            detail: text(detail.cloned()),
            gateway_id: text(offer.map(|offer| offer.gateway_id.clone())),
            ipv4_address: text(offer.and_then(|offer| offer.ipv4).map(|a| a.to_string())),
            ipv6_prefix: text(offer.and_then(|offer| offer.ipv6).map(|p| p.to_string())),
            ipv6_line_prefix: text(offer.and_then(|o| o.ipv6_line).map(|p| p.to_string())),
            dns: offer
                .map(|offer| offer.dns.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            wan_interface: text(active.as_ref().map(Active::wan_interface)),
            tags: text(
                tags.filter(|t| !t.as_slice().is_empty())
                    .map(|t| t.to_string()),
            ),
            established_at_unix_ms: line
                .and_then(|line| line.confirmed_at_unix_ms)
                .unwrap_or_default(),
            silent_since_unix_ms: self.silent_since().unwrap_or_default(),
            default_route,
            server_state: self.server_state.to_owned(),
        }
    }
}

pub(super) fn active(slot: u32, line: &SavedLine, wan: &Wan) -> Active {
    let establishment = &line.establishment;
    Active {
        slot,
        port: line.port.clone(),
        tags: wan.tags.resolve(establishment.tags),
        offer: establishment.offer.clone(),
        gateway_mac: establishment.gateway_mac,
    }
}
