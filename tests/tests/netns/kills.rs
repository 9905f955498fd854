//! `kill -9` of each daemon in the middle of what a subscriber has asked for: it comes to the right
//! end by itself.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::CaseResult;
use serde::Deserialize;
use serde_json::Value;

use crate::support::{flows, logs};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Server,
    /// Where the session is.
    Gateway,
    /// Where it is to be.
    Other,
    Terminal,
}

use Victim::{Gateway, Other, Server, Terminal};

/// Milliseconds from the request to the kill. The whole takes some thirty of them on an idle machine;
/// a busy one has the later ones in its middle, too. Their number has no divisor in common with that of
/// what is asked for in a round, so that everything meets others each time.
const MOMENTS: [u64; 9] = [0, 4, 8, 12, 16, 21, 27, 40, 70];
const ROUNDS: usize = 2;
/// How long something may take to come to its end by itself.
const PATIENCE: Duration = Duration::from_secs(90);
/// A terminal that was killed before it had written down what it was asked for asks nothing.
const NOTHING_ASKED: Duration = Duration::from_secs(3);
/// For the client of a request, which goes on while daemons come back.
const TIMEOUT: &str = "60s";

struct Rig {
    street: Street,
    moment: usize,
}

/// A session as the server shows it.
#[derive(Debug, PartialEq, Deserialize)]
struct Row {
    generation: u64,
    session_id: String,
    state: String,
    gateway_id: String,
    location_id: String,
}

impl Rig {
    fn home(&self) -> &doorstep_tests::lab::street::Home {
        &self.street.homes[0]
    }

    /// Has the terminal's client ask, without waiting for it.
    fn ask(&self, words: &[&str]) -> Result<Child> {
        let words = [words, &["--timeout", TIMEOUT]].concat();
        let mut client = self.home().terminal.client(&words)?;
        Ok(client
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?)
    }

    fn daemon(&self, victim: Victim) -> &Daemon {
        match victim {
            Server => self.street.server(),
            Gateway => &self.street.gateways[0].daemon,
            Other => &self.street.gateways[1].daemon,
            Terminal => &self.home().terminal,
        }
    }

    fn restart(&mut self, victim: Victim) -> Result<()> {
        match victim {
            Server => self.street.restart_server(),
            Gateway => self.street.restart_gateway(0),
            Other => self.street.restart_gateway(1),
            Terminal => self.street.restart_terminal(0),
        }
    }

    /// Asks, kills a daemon meanwhile, and starts it again. Whether the client was told a good end.
    fn killed(&mut self, victim: Victim, words: &[&str]) -> Result<bool> {
        let client = self.ask(words)?;
        let moment = MOMENTS[self.moment % MOMENTS.len()];
        self.moment += 1;
        std::thread::sleep(Duration::from_millis(moment));
        self.daemon(victim).kill()?;
        self.restart(victim)?;
        let output = client.wait_with_output()?;
        if victim != Terminal && !output.status.success() {
            bail!(
                "{victim:?} was killed {moment} ms after {words:?}: {}\n{}",
                String::from_utf8_lossy(&output.stderr),
                logs(&self.street, self.home())
            );
        }
        Ok(output.status.success())
    }

    /// The subscriber's sessions that are not released.
    fn rows(&self) -> Result<Vec<Row>> {
        #[derive(Deserialize)]
        struct Listed {
            sessions: Vec<Row>,
        }
        let listed: Listed = self.street.server().ask_json(&["sessions", "list"])?;
        Ok(listed.sessions)
    }

    /// The terminal's session, once it is established.
    fn at_home(&self, id: &str) -> Result<Option<Session>> {
        #[derive(Deserialize)]
        struct Status {
            sessions: Vec<Value>,
        }
        let status: Status = self.home().terminal.ask_json(&["status"])?;
        let mut sessions = status.sessions.into_iter();
        let found = sessions
            .find(|session| session["session_id"] == id && session["state"] == "established");
        Ok(found.map(serde_json::from_value).transpose()?)
    }

    /// Sessions that a gateway holds.
    fn held(&self, gateway: usize) -> Result<Vec<String>> {
        let held: Vec<Value> = self.street.gateways[gateway]
            .daemon
            .ask_json(&["sessions"])?;
        let ids = held.iter().map(|held| held["session_id"].as_str());
        let ids: Option<Vec<_>> = ids.map(|id| id.map(str::to_owned)).collect();
        ids.context("a session without an id")
    }

    /// Waits until something is so; what it is otherwise, if it takes too long.
    fn until<T>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let end = Instant::now() + patience;
        loop {
            if let Some(found) = look(self)? {
                return Ok(Some(found));
            }
            if Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The only sessions there are, once each is established at both ends and at one gateway.
    fn settled(&self, count: usize, building: usize) -> Result<Option<Vec<Session>>> {
        let rows = self.rows()?;
        if rows.len() != count {
            return Ok(None);
        }
        let other = self.held(1 - building)?;
        let mut sessions = Vec::new();
        for row in rows {
            let there = row.state == "established"
                && row.gateway_id == self.street.gateways[building].id
                && row.location_id == self.street.location(building, 0)
                && !other.contains(&row.session_id);
            match self.at_home(&row.session_id)?.filter(|_| there) {
                Some(session) if session.gateway_id == row.gateway_id => sessions.push(session),
                _ => return Ok(None),
            }
        }
        Ok(Some(sessions))
    }

    /// Kills one while something is asked for, and waits until there are so many sessions at the
    /// gateway of a building. What no daemon has heard of is asked again.
    fn comes_to(
        &mut self,
        victim: Victim,
        words: &[&str],
        count: usize,
        building: usize,
    ) -> Result<Vec<Session>> {
        let before = self.rows()?;
        let told = self.killed(victim, words)?;
        let (start, mut may_ask) = (Instant::now(), victim == Terminal && !told);
        let found = self.until(PATIENCE, |rig| {
            let settled = rig.settled(count, building)?;
            let idle = may_ask && settled.is_none() && start.elapsed() > NOTHING_ASKED;
            if idle && rig.rows()? == before && !rig.is_asking()? {
                may_ask = false;
                ensure!(
                    rig.ask(words)?.wait()?.success(),
                    "{words:?} fails once more: {}",
                    logs(&rig.street, rig.home())
                );
            }
            Ok(settled)
        })?;
        let sessions = found.with_context(|| {
            format!(
                "{victim:?} was killed during {words:?}, and it does not come to its end: {:?}\n{}",
                self.rows(),
                logs(&self.street, self.home())
            )
        })?;
        for session in &sessions {
            flows(&self.street, self.home(), session)
                .with_context(|| format!("{victim:?}, {words:?}"))?;
        }
        Ok(sessions)
    }

    /// Whether the terminal has written down a request that it has no answer to.
    fn is_asking(&self) -> Result<bool> {
        let file = self
            .home()
            .config
            .with_file_name("state")
            .join("state.json");
        let state: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        Ok(state["requests"]
            .as_array()
            .is_some_and(|open| !open.is_empty()))
    }

    fn release(&mut self, victim: Victim, session: &Session, left: usize) -> Result<()> {
        let id = session.session_id.as_str();
        let words = ["release", "--session", id];
        let told = self.killed(victim, &words)?;
        let gone = |rig: &Self| -> Result<Option<()>> {
            let held = [rig.held(0)?, rig.held(1)?].concat();
            let gone = rig.rows()?.len() == left
                && rig.at_home(id)?.is_none()
                && !held.iter().any(|held| held == id);
            Ok(gone.then_some(()))
        };
        let patience = if told || victim != Terminal {
            PATIENCE
        } else {
            NOTHING_ASKED
        };
        if self.until(patience, gone)?.is_none() {
            ensure!(
                victim == Terminal,
                "{victim:?} was killed: {id} is not released"
            );
            // Nobody else was asked; it says so if it is on its way.
            let _ = self.ask(&words)?.wait()?;
            let gone = self.until(PATIENCE, gone)?;
            gone.with_context(|| format!("{id} stays: {:?}", self.rows()))?;
        }
        let addresses = self.home().netns.ip("-o addr show")?;
        ensure!(
            !addresses.contains(&format!(" {}/", session.v4()?)),
            "{addresses}"
        );
        Ok(())
    }
}

/// Whether sessions come and go as they should whoever is killed at whichever moment.
pub fn on_the_way() -> CaseResult {
    let street = Street::new(Plan {
        gateways: 2,
        ..Plan::default()
    })?;
    let mut rig = Rig { street, moment: 0 };
    rig.home().register()?;
    let seals = [rig.street.seal(0, 0)?, rig.street.seal(1, 0)?];
    for victim in [Gateway, Terminal, Server].repeat(ROUNDS) {
        rig.street.plug(0, 0)?;
        rig.comes_to(victim, &["request", "--sealed", &seals[0]], 1, 0)?;
        rig.street.plug(0, 1)?;
        let moved = ["move", "--sealed", seals[1].as_str()];
        let session = rig.comes_to(victim, &moved, 1, 1)?.remove(0);
        // The gateway that a session is at is killed as well as the one that it comes to.
        let victim_there = if victim == Gateway { Other } else { victim };
        rig.release(victim_there, &session, 0)?;
        rig.street.plug(0, 0)?;
        let asked = ["request", "--sealed", seals[0].as_str()];
        rig.comes_to(victim, &asked, 1, 0)?;
        rig.street.plug(0, 1)?;
        rig.comes_to(victim_there, &moved, 1, 1)?;
        let more = ["request", "--additional", "--sealed", seals[1].as_str()];
        let sessions = rig.comes_to(victim_there, &more, 2, 1)?;
        rig.release(victim_there, &sessions[0], 1)?;
        rig.release(victim, &sessions[1], 0)?;
    }
    Ok(())
}
