//! Exchanges, many at once or at a steady pace, by one thread.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::client::{Dialogue, Next, Step};
use super::wire::Wire;
use crate::percentile::percentile;

/// A router asks again after that time, as its clients do after one to four seconds.
const AGAIN: Duration = Duration::from_secs(1);
/// How long it looks for answers before it sees whether something is to be asked.
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// How long the last exchange may take before all is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How fast exchanges begin.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many are under way at once, and no more begin in a second.
    InFlight { most: usize, per_s: f64 },
    /// So many begin in a second, whatever becomes of those before.
    PerSecond(f64),
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// Exchanges of all lines by turns.
    pub exchanges: u32,
    pub lines: u32,
    pub pace: Pace,
    /// Number of the first exchange.
    pub first_id: u32,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Driven {
    pub exchanges: u32,
    /// From the first question to the last answer.
    pub took_s: f64,
    pub per_s: f64,
    /// From when the exchange was to begin until it was acknowledged, milliseconds.
    pub ms_p50: f64,
    pub ms_p99: f64,
    pub ms_max: f64,
    /// Questions that had to be asked again.
    pub asked_again: u64,
}

struct Exchange {
    line: u32,
    began: Instant,
    step: Step,
    /// What was asked last.
    frame: Vec<u8>,
}

struct Driver<'d, D> {
    wire: &'d mut Wire,
    dialogue: &'d D,
    order: Order,
    start: Instant,
    begun: u32,
    under_way: HashMap<u32, Exchange>,
    /// When which exchange asks again, if it is still at this step.
    again: VecDeque<(Instant, u32, Step)>,
    times_ms: Vec<f64>,
    asked_again: u64,
}

/// Carries an order out; an error if an exchange is answered wrongly or not at all.
pub fn drive<D: Dialogue>(wire: &mut Wire, dialogue: &D, order: Order) -> Result<Driven> {
    let mut driver = Driver {
        wire,
        dialogue,
        order,
        start: Instant::now(),
        begun: 0,
        under_way: HashMap::new(),
        again: VecDeque::new(),
        times_ms: Vec::with_capacity(order.exchanges as usize),
        asked_again: 0,
    };
    let mut progress = Instant::now();
    while driver.times_ms.len() < order.exchanges as usize {
        let before = driver.times_ms.len();
        driver.begin()?;
        driver.ask_again()?;
        let until = driver.next_due();
        driver.wire.wait(until)?;
        driver.hear()?;
        if driver.times_ms.len() > before {
            progress = Instant::now();
        }
        ensure!(
            progress.elapsed() < PATIENCE,
            "{} of {} exchanges are done, and nothing more is answered",
            driver.times_ms.len(),
            order.exchanges
        );
    }
    driver.done()
}

impl<D: Dialogue> Driver<'_, D> {
    /// When exchange `n` is to begin at the earliest.
    fn due(&self, n: u32) -> Instant {
        let (Pace::InFlight { per_s, .. } | Pace::PerSecond(per_s)) = self.order.pace;
        self.start + Duration::from_secs_f64(f64::from(n) / per_s)
    }

    fn begin(&mut self) -> Result<()> {
        while self.begun < self.order.exchanges {
            let now = Instant::now();
            let due = self.due(self.begun);
            let began = match self.order.pace {
                Pace::InFlight { most, .. } if self.under_way.len() >= most => break,
                _ if due > now => break,
                Pace::InFlight { .. } => now,
                Pace::PerSecond(_) => due,
            };
            let (line, id) = (
                self.begun % self.order.lines,
                self.order.first_id + self.begun,
            );
            let frame = self.dialogue.ask(line, id)?;
            self.begun += 1;
            let exchange = Exchange {
                line,
                began,
                step: Step::Asked,
                frame,
            };
            self.say(id, exchange)?;
        }
        Ok(())
    }

    fn say(&mut self, id: u32, exchange: Exchange) -> Result<()> {
        self.wire
            .send(&exchange.frame)
            .context("cannot send a frame")?;
        self.again
            .push_back((Instant::now() + AGAIN, id, exchange.step));
        self.under_way.insert(id, exchange);
        Ok(())
    }

    fn ask_again(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(&(due, id, step)) = self.again.front()
            && due <= now
        {
            self.again.pop_front();
            let waits = self.under_way.get(&id).is_some_and(|it| it.step == step);
            if waits && let Some(exchange) = self.under_way.remove(&id) {
                self.asked_again += 1;
                self.say(id, exchange)?;
            }
        }
        Ok(())
    }

    /// How long nothing is to be said unless something is heard.
    fn next_due(&self) -> Duration {
        let has_room = match self.order.pace {
            Pace::InFlight { most, .. } => self.under_way.len() < most,
            Pace::PerSecond(_) => true,
        };
        if !has_room || self.begun == self.order.exchanges {
            return LONGEST_WAIT;
        }
        let begin = self.due(self.begun);
        let begin = begin.saturating_duration_since(Instant::now());
        begin.min(LONGEST_WAIT)
    }

    fn hear(&mut self) -> Result<()> {
        while let Some(frame) = self.wire.receive()? {
            let Some(id) = self.dialogue.id(frame) else {
                continue;
            };
            // One that is done is answered again where it was asked again.
            let Some(exchange) = self.under_way.get(&id) else {
                continue;
            };
            let next = self.dialogue.hear(exchange.line, exchange.step, frame)?;
            match next {
                Next::Nothing => {}
                Next::Choose(frame) => {
                    let exchange = self.under_way.remove(&id).context("it is under way")?;
                    let step = Step::Chosen;
                    self.say(
                        id,
                        Exchange {
                            step,
                            frame,
                            ..exchange
                        },
                    )?;
                }
                Next::Done => {
                    let exchange = self.under_way.remove(&id).context("it is under way")?;
                    self.times_ms
                        .push(exchange.began.elapsed().as_secs_f64() * 1e3);
                    self.begin()?;
                }
            }
        }
        Ok(())
    }

    fn done(mut self) -> Result<Driven> {
        let took_s = self.start.elapsed().as_secs_f64();
        self.times_ms.sort_by(f64::total_cmp);
        let at = |percent| percentile(&self.times_ms, percent).context("no exchange");
        Ok(Driven {
            exchanges: self.order.exchanges,
            took_s,
            per_s: f64::from(self.order.exchanges) / took_s,
            ms_p50: at(50)?,
            ms_p99: at(99)?,
            ms_max: at(100)?,
            asked_again: self.asked_again,
        })
    }
}
