//! Whether everything has come to rest, and everybody is of one mind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorstep_proto::v1::SessionState;
use doorstep_server::session::State;
use doorstep_server::store::{SessionRow, Sessions};
use tokio::time::sleep;
use uuid::Uuid;

use super::homes;
use super::observer::Observer;
use super::server::Server;
use super::system;
use super::terminal::Terminal;

const EVERY: Duration = Duration::from_millis(500);
/// More sessions than any scenario has.
const ALL: u32 = 10_000;

/// What the auditor thinks.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Everything is at rest since then.
    pub since: Option<Duration>,
    /// Why not.
    pub open: Vec<String>,
    pub established: usize,
}

#[derive(Clone)]
pub struct Auditor {
    pub server: Server,
    pub terminals: Vec<Terminal>,
    pub observer: Observer,
    pub verdict: Arc<Mutex<Verdict>>,
}

impl Auditor {
    pub fn verdict(&self) -> Verdict {
        let verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.clone()
    }

    /// Looks again and again.
    pub async fn run(self) -> turmoil::Result {
        loop {
            let (open, established) = match self.rows().await {
                Ok(rows) => {
                    let established = rows.iter();
                    let established = established
                        .filter(|row| row.session.state == State::Established)
                        .count();
                    (self.compare(&rows), established)
                }
                Err(why) => (vec![why], 0),
            };
            {
                let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
                let since = verdict.since.unwrap_or_else(system::elapsed);
                *verdict = Verdict {
                    since: open.is_empty().then_some(since),
                    open,
                    established,
                };
            }
            sleep(EVERY).await;
        }
    }

    async fn rows(&self) -> Result<Vec<SessionRow>, String> {
        let Some(engine) = self.server.engine() else {
            return Err("the server is away".to_owned());
        };
        let page = engine.store.sessions(&Sessions::default(), None, ALL).await;
        let rows = page.map_err(|error| error.to_string())?.rows;
        let tallies = engine.store.tallies().await;
        for (state, kept) in tallies.map_err(|error| error.to_string())?.by_state() {
            let counted = rows.iter().filter(|row| row.session.state == state).count();
            if u64::try_from(counted) != Ok(kept) {
                return Err(format!(
                    "{kept} of {counted} sessions are counted as {state}"
                ));
            }
        }
        Ok(rows)
    }

    /// What the server's table, the gateways' maps and the terminals do not agree on.
    fn compare(&self, rows: &[SessionRow]) -> Vec<String> {
        let mut open = Vec::new();
        let busy = self.terminals.iter().filter(|own| !own.is_content());
        open.extend(busy.map(|own| format!("{} has a request open", own.name())));
        let mut forwarding: BTreeMap<Uuid, (&str, u64, u16)> = BTreeMap::new();
        for (gateway, sessions) in self.observer.forwarding() {
            for (session, is) in sessions {
                forwarding.insert(session, (gateway, is.generation, is.line));
            }
        }
        let mut views: BTreeMap<_, _> = self.terminals.iter().flat_map(Terminal::views).collect();
        for row in rows {
            let (session, id) = (&row.session, row.session.id);
            let name = self.observer.name(id);
            let wanted = match session.state {
                State::Established => {
                    let line = homes::line_of(&session.connection.location.to_string());
                    let gateway = session.connection.gateway.as_str();
                    Some((gateway, session.generation, line.unwrap_or_default()))
                }
                State::Released => None,
                State::Refused if !session.detail.is_empty() => None,
                state => {
                    open.push(format!("{name} is {state}: {}", session.detail));
                    continue;
                }
            };
            let is = forwarding.remove(&id);
            if is != wanted {
                open.push(format!("{name} is forwarded as {is:?}, to be {wanted:?}"));
            }
            let Some(view) = views.remove(&id) else {
                open.push(format!("{name} has no terminal"));
                continue;
            };
            let heard = match session.state {
                State::Established => SessionState::Established,
                State::Refused => SessionState::Refused,
                _ => SessionState::Released,
            };
            if view.said != Some((session.generation, heard)) {
                open.push(format!("the terminal of {name} has heard {:?}", view.said));
            }
            let online = (true, session.generation);
            if wanted.is_some() && (view.online, view.generation) != online {
                open.push(format!("the terminal of {name} has {view:?}"));
            }
        }
        let strangers: BTreeSet<_> = forwarding.into_keys().chain(views.into_keys()).collect();
        let strangers = strangers.into_iter();
        open.extend(strangers.map(|id| format!("the server knows no {}", self.observer.name(id))));
        open
    }
}
