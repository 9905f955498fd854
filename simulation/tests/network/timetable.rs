//! When what breaks, and is mended again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scenario::{Act, Begins, Fault};

pub struct Timetable {
    /// In the order of their times; what is due at one time in the order in which it came to be known.
    acts: BTreeMap<(Duration, usize), Act>,
    /// By the request that they wait for.
    waiting: Vec<(usize, Duration, Fault)>,
    known: usize,
}

impl Timetable {
    pub fn new(faults: Vec<Fault>) -> Self {
        let mut timetable = Timetable {
            acts: BTreeMap::new(),
            waiting: Vec::new(),
            known: 0,
        };
        for fault in faults {
            match fault.begins {
                Begins::At(at) => timetable.plan(at, fault),
                Begins::After(request, delay) => timetable.waiting.push((request, delay, fault)),
            }
        }
        timetable
    }

    fn plan(&mut self, at: Duration, fault: Fault) {
        for (at, act) in [(at, fault.breaks), (at + fault.lasts, fault.mends)] {
            self.acts.insert((at, self.known), act);
            self.known += 1;
        }
    }

    /// What is due, after so many requests.
    pub fn due(&mut self, now: Duration, requests: usize) -> Vec<Act> {
        let waiting = std::mem::take(&mut self.waiting);
        for (request, delay, fault) in waiting {
            match requests > request {
                true => self.plan(now + delay, fault),
                false => self.waiting.push((request, delay, fault)),
            }
        }
        let later = self.acts.split_off(&(now, usize::MAX));
        std::mem::replace(&mut self.acts, later)
            .into_values()
            .collect()
    }
}
