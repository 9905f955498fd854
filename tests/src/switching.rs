//! A home that goes from one operator to the other: in one step, or by ending the one session before
//! it asks for the other.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::lab::street::{Home, Plan, Session, Street};
use crate::lab::traffic::{Outage, Pinger};

const PING_EVERY: Duration = Duration::from_millis(1);
/// What an emulated machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A street with two operators at one gateway, and a home that is registered at both.
pub struct Rig {
    pub street: Street,
    pub session: Session,
    seals: Vec<String>,
    /// The number of the operator that serves.
    serving: usize,
}

/// What came of a ping that ran meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Noticed {
    pub sent: usize,
    pub lost: usize,
    /// Of those, the most that were sent one after the other: how long the home was without, whatever
    /// else the machine did meanwhile.
    pub most_at_once: usize,
    /// The longest time between two answers.
    pub longest: Duration,
}

impl Rig {
    /// The home is connected by the first operator.
    pub fn new() -> Result<Self> {
        let street = Street::new(Plan {
            operators: 2,
            choice: true,
            ..Plan::default()
        })?;
        let place = street.location(0, 0);
        let mut seals = Vec::new();
        for operator in &street.operators {
            street.homes[0].register_at(operator.name)?;
            seals.push(operator.seal(&place)?);
        }
        let session = street.homes[0].request_of(street.operators[0].name, &seals[0])?;
        Ok(Self {
            street,
            session,
            seals,
            serving: 0,
        })
    }

    fn home(&self) -> &Home {
        &self.street.homes[0]
    }

    fn name(&self, operator: usize) -> &'static str {
        self.street.operators[operator].name
    }

    /// The other operator's session takes the place of this one's.
    pub fn switch(&mut self) -> Result<Noticed> {
        self.meanwhile(|rig, next| rig.home().switch(rig.name(next), &rig.seals[next]))
    }

    /// The session ends, and the other operator is asked for one.
    pub fn leave_and_come(&mut self) -> Result<Noticed> {
        self.meanwhile(|rig, next| {
            rig.home().release(&rig.session.session_id)?;
            rig.home().request_of(rig.name(next), &rig.seals[next])
        })
    }

    fn meanwhile(
        &mut self,
        change: impl FnOnce(&Self, usize) -> Result<Session>,
    ) -> Result<Noticed> {
        let pinger = Pinger::start(&self.home().netns, self.street.echo(false), PING_EVERY)?;
        pinger.wait_for_answer(Instant::now(), PATIENCE)?;
        std::thread::sleep(Duration::from_millis(50));
        let next = 1 - self.serving;
        self.session = change(self, next)?;
        self.serving = next;
        self.wait_until_alone()?;
        pinger.wait_for_answer(Instant::now(), PATIENCE)?;
        let echoes = pinger.stop()?;
        let runs = echoes.split(|echo| echo.answered.is_some());
        Ok(Noticed {
            sent: echoes.len(),
            lost: echoes.iter().filter(|echo| echo.answered.is_none()).count(),
            most_at_once: runs.map(<[_]>::len).max().unwrap_or_default(),
            longest: Outage::of(&echoes)?.length(),
        })
    }

    /// The former session has ended at the terminal, too.
    fn wait_until_alone(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let status: serde_json::Value = self.home().terminal.ask_json(&["status"])?;
            let sessions = status["sessions"].as_array().map_or(0, Vec::len);
            if sessions == 1 {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{sessions} sessions: {status:#}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
