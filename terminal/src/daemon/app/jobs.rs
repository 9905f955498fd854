//! What was asked for by a page, and how it goes on. The last ones are kept for whoever looks again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use doorstep_app::deed::Deed;
use doorstep_app::state::State;
use doorstep_app::steps::{End, Step};
use doorstep_proto::v1 as pb;
use doorstep_web::token::{NoRandom, Token};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

/// So many are kept.
const KEPT: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub deed: Deed,
    pub session: String,
    pub operator: String,
    pub door: String,
}

#[derive(Debug, Default)]
struct Told {
    steps: Vec<Step>,
    end: Option<End>,
}

#[derive(Debug)]
pub struct Job {
    pub id: String,
    pub deed: Deed,
    /// Where one begins anew.
    pub again: String,
    asked: Asked,
    told: Mutex<Told>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub struct Jobs {
    all: Mutex<VecDeque<Arc<Job>>>,
    changes: watch::Sender<u64>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one, under an id that nobody guesses.
    pub fn begin(&self, asked: Asked, again: String) -> Result<Arc<Job>, NoRandom> {
        let job = Arc::new(Job {
            id: Token::new()?.as_str().to_owned(),
            deed: asked.deed,
            again,
            asked,
            told: Mutex::default(),
            changes: self.changes.clone(),
        });
        let mut all = self.lock();
        all.truncate(KEPT - 1);
        all.push_front(Arc::clone(&job));
        Ok(job)
    }

    pub fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().iter().find(|job| job.id == id).cloned()
    }

    /// One that is under way and asks for the same.
    pub fn like(&self, asked: &Asked) -> Option<Arc<Job>> {
        let under_way = self.under_way();
        under_way.into_iter().find(|job| job.asked == *asked)
    }

    pub fn under_way(&self) -> Vec<Arc<Job>> {
        let all = self.lock();
        all.iter()
            .filter(|job| job.told().1.is_none())
            .cloned()
            .collect()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its steps until now, and how it has ended, if it has.
    pub fn told(&self) -> (Vec<Step>, Option<End>) {
        let told = self.lock();
        (told.steps.clone(), told.end)
    }

    fn tell(&self, step: Option<Step>, end: Option<End>) {
        let mut told = self.lock();
        told.steps.extend(step);
        told.end = told.end.or(end);
        drop(told);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Takes down the steps of a request as they come.
    pub fn follow_request(
        self: &Arc<Self>,
        mut steps: mpsc::Receiver<Result<pb::TerminalStep, Status>>,
    ) {
        let job = Arc::clone(self);
        tokio::spawn(async move {
            while let Some(Ok(told)) = steps.recv().await {
                let end = told.r#final.then(|| end_of(&told));
                let step = Step {
                    state: State::of(&told.state),
                    detail: told.detail,
                    at_ms: told.at_ms,
                };
                // What only says that it takes long is no step.
                let step = Some(step).filter(|_| end != Some(End::Unknown));
                job.tell(step, end);
            }
            // The daemon stops, or what was told is not known here.
            job.tell(None, Some(End::Unknown));
        });
    }

    /// Takes down how a release ends.
    pub fn follow_release(
        self: &Arc<Self>,
        answer: impl Future<Output = Result<pb::TerminalReleaseResponse, Status>> + Send + 'static,
    ) {
        let job = Arc::clone(self);
        let begun = Instant::now();
        let step = move |state, detail| Step {
            state,
            detail,
            at_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        job.tell(Some(step(State::Releasing, String::new())), None);
        tokio::spawn(async move {
            match answer.await {
                Ok(_) => job.tell(Some(step(State::Released, String::new())), Some(End::Well)),
                Err(status) if status.code() == Code::DeadlineExceeded => {
                    job.tell(None, Some(End::Unknown));
                }
                Err(status) => {
                    let detail = status.message().to_owned();
                    job.tell(Some(step(State::Failed, detail)), Some(End::Badly));
                }
            }
        });
    }
}

/// What the last step means. One that fails with a session has taken too long, and goes on.
fn end_of(step: &pb::TerminalStep) -> End {
    match State::of(&step.state) {
        State::Established => End::Well,
        State::Failed if step.session.is_some() => End::Unknown,
        State::Failed | State::Refused | State::Released => End::Badly,
        _ => End::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(door: &str) -> Asked {
        Asked {
            deed: Deed::Connect,
            session: String::new(),
            operator: "north".into(),
            door: door.into(),
        }
    }

    fn step(state: &str, last: bool, session: bool) -> Result<pb::TerminalStep, Status> {
        Ok(pb::TerminalStep {
            state: state.into(),
            r#final: last,
            session: session.then(pb::TerminalSession::default),
            ..Default::default()
        })
    }

    #[tokio::test]
    async fn a_request_ends_as_its_last_step_says() {
        for (last, session, end, kept) in [
            ("established", true, End::Well, 2),
            ("refused", true, End::Badly, 2),
            ("failed", false, End::Badly, 2),
            ("failed", true, End::Unknown, 1),
        ] {
            let jobs = Jobs::default();
            let mut changes = jobs.changes();
            let job = jobs.begin(asked("d1.x"), "/connect".into()).unwrap();
            let (sender, steps) = mpsc::channel(4);
            job.follow_request(steps);
            assert!(jobs.like(&asked("d1.x")).is_some());
            assert!(jobs.like(&asked("d1.y")).is_none());
            sender.send(step("requested", false, false)).await.unwrap();
            sender.send(step(last, true, session)).await.unwrap();
            while job.told().1.is_none() {
                changes.changed().await.unwrap();
            }
            let (told, ended) = job.told();
            assert_eq!((told.len(), ended), (kept, Some(end)), "{last}");
            assert!(jobs.under_way().is_empty());
            assert_eq!(jobs.find(&job.id).unwrap().id, job.id);
        }
    }

    #[tokio::test]
    async fn one_whose_daemon_stops_is_not_waited_for() {
        let jobs = Jobs::default();
        let mut changes = jobs.changes();
        let job = jobs.begin(asked("d1.x"), "/connect".into()).unwrap();
        job.follow_request(mpsc::channel(1).1);
        changes.changed().await.unwrap();
        assert_eq!(job.told().1, Some(End::Unknown));
    }

    #[test]
    fn only_the_last_ones_are_kept() {
        let jobs = Jobs::default();
        let ids: Vec<_> = (0..=KEPT)
            .map(|number| {
                jobs.begin(asked(&number.to_string()), String::new())
                    .unwrap()
                    .id
                    .clone()
            })
            .collect();
        assert!(jobs.find(&ids[0]).is_none());
        assert!(jobs.find(&ids[1]).is_some());
    }
}
