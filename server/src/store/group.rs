//! Group commit: what comes while one transaction is being written goes into the next one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use doorstep_daemon::dry_run::Run;
use tokio::sync::{mpsc, oneshot};

use super::audit::append;
use super::cache::{Cache, Written};
use super::measures::Measures;
use super::others::Others;
use super::sql::Backend;
use super::work::{Changes, Need, Rows};
use super::{
    Result, SessionRow, StepRow, StoreError, Work, flush::statements, load::load, tallies,
};
use crate::audit::{AuditKey, Head};

/// Jobs that wait.
const QUEUE: usize = 4096;
/// Most jobs of one transaction. With a quarter of it PostgreSQL made 7 % fewer moves a second, and both databases
/// less of their peak under overload; half the load never has so many.
const BATCH: usize = 1024;
/// How often a batch is tried anew because another server changed its rows.
const ATTEMPTS: u32 = 10;

/// What has become durable.
#[derive(Debug)]
pub struct Committed {
    /// Sessions that ask something new of their gateway, as they are now.
    pub instruct: Vec<Arc<SessionRow>>,
    /// In the order in which they happened.
    pub steps: Vec<Arc<StepRow>>,
}

pub(super) type OnCommit = Box<dyn Fn(&Committed) + Send + Sync>;

/// A unit of work, whatever it returns.
trait Job: Send {
    /// Runs it once more. What it lacks is an error.
    fn run(&mut self, rows: &mut Rows) -> std::result::Result<(), BTreeSet<Need>>;
    /// Tells who waits: its own result, or why it could not be written.
    fn finish(self: Box<Self>, written: Result<()>);
}

struct Unit<F, T, E> {
    run: Run,
    work: F,
    result: Option<std::result::Result<T, E>>,
    reply: oneshot::Sender<std::result::Result<T, E>>,
}

impl<F, T, E> Job for Unit<F, T, E>
where
    F: FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, rows: &mut Rows) -> std::result::Result<(), BTreeSet<Need>> {
        self.result = Some(rows.run(self.run, &mut self.work)?);
        Ok(())
    }

    fn finish(self: Box<Self>, written: Result<()>) {
        let result = match (self.result, written) {
            // What a job refuses changes nothing, so it does not matter what became of the others.
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(StoreError::Conflict.into()),
        };
        // Nobody waits any more: what is durable stays so.
        let _ = self.reply.send(result);
    }
}

/// What becomes of work that comes when much waits already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    Wait,
    Refuse,
}

/// Work that waits to be done.
#[derive(Clone)]
pub(super) struct Queue {
    jobs: mpsc::Sender<Box<dyn Job>>,
    closed: Arc<AtomicBool>,
}

/// One batch is under way at a time. Several would each be smaller, and what a transaction costs is
/// mostly its own, not that of the rows in it.
pub(super) fn start(writer: Writer) -> Queue {
    let (jobs, waiting) = mpsc::channel(QUEUE);
    tokio::spawn(writer.serve(waiting));
    Queue {
        jobs,
        closed: Arc::default(),
    }
}

impl Queue {
    pub async fn submit<F, T, E>(
        &self,
        when_full: WhenFull,
        run: Run,
        work: F,
    ) -> std::result::Result<T, E>
    where
        F: FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed.into());
        }
        let place = match when_full {
            WhenFull::Wait => self.jobs.reserve().await.map_err(|_| StoreError::Closed),
            WhenFull::Refuse => self.jobs.try_reserve().map_err(|error| match error {
                mpsc::error::TrySendError::Full(()) => StoreError::Busy,
                mpsc::error::TrySendError::Closed(()) => StoreError::Closed,
            }),
        };
        let (unit, reply) = unit(run, work);
        place?.send(unit);
        reply
            .await
            .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// How many wait, and how many may.
    pub fn waiting(&self) -> (usize, usize) {
        let most = self.jobs.max_capacity();
        (most - self.jobs.capacity(), most)
    }

    /// Takes no more work and waits until what was taken is written.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.settle().await;
    }

    /// Waits until what was taken until now is written.
    pub async fn settle(&self) {
        // A job behind all others.
        let (unit, reply) = unit(Run::Real, |_: &mut Work<'_>| Ok::<(), StoreError>(()));
        if self.jobs.send(unit).await.is_ok() {
            let _ = reply.await;
        }
    }
}

#[allow(
    clippy::type_complexity,
    reason = "what a job returns and what it fails with are its caller's"
)]
fn unit<F, T, E>(run: Run, work: F) -> (Box<dyn Job>, oneshot::Receiver<std::result::Result<T, E>>)
where
    F: FnMut(&mut Work<'_>) -> std::result::Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    let (reply, receiver) = oneshot::channel();
    let unit = Unit {
        run,
        work,
        result: None,
        reply,
    };
    (Box::new(unit), receiver)
}

/// Who does the work.
pub(super) struct Writer {
    pub backend: Backend,
    pub cache: Arc<Cache>,
    pub audit: AuditKey,
    /// Of the audit log, as this server has written it last; None: it must be read.
    pub audit_head: Option<Head>,
    pub others: Arc<Others>,
    pub measures: Arc<Measures>,
    pub committed: OnCommit,
}

impl Writer {
    async fn serve(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.recv_many(&mut batch, BATCH).await > 0 {
            let written = self.batch(&mut batch).await;
            // One error for all is told as one text to each.
            match written {
                Ok(()) => batch.drain(..).for_each(|job| job.finish(Ok(()))),
                Err(error) => {
                    tracing::error!(jobs = batch.len(), %error, "a batch was not written");
                    for job in batch.drain(..) {
                        job.finish(Err(again(&error)));
                    }
                }
            }
        }
    }

    async fn batch(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<()> {
        for attempt in 0..ATTEMPTS {
            match self.attempt(jobs, attempt == 0).await {
                Err(StoreError::Conflict) => {
                    tracing::debug!(attempt, jobs = jobs.len(), "a batch is decided again");
                    // What was assumed is read the next time; only then others are in the way.
                    let most = Duration::from_millis((1 << attempt) - 1);
                    tokio::time::sleep(most.mul_f64(rand::random())).await;
                }
                other => return other,
            }
        }
        Err(StoreError::Conflict)
    }

    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>], assume: bool) -> Result<()> {
        let mut changes = self.decide(jobs, assume).await?.into_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        let written = self.write(&changes).await;
        if let Err(error) = written {
            self.cache.forget_all(&changes);
            return Err(error);
        }
        let measures = &self.measures;
        measures
            .commit_seconds
            .observe(began.elapsed().as_secs_f64());
        let jobs = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        measures.commit_jobs.observe(jobs.into());
        measures.follow(&changes.transitions);
        let instruct = std::mem::take(&mut changes.instruct);
        let written = Written::new(changes);
        self.cache.keep(&written);
        let rows = written.sessions.into_iter();
        (self.committed)(&Committed {
            instruct: rows
                .filter(|row| instruct.contains(&row.session.id))
                .collect(),
            steps: written.steps,
        });
        Ok(())
    }

    async fn write(&mut self, changes: &Changes) -> Result<()> {
        let mut statements = statements(changes, self.backend.is_own());
        let tallies = tallies::statement(self.others.counts_as(&self.backend), changes);
        statements.extend((!tallies.rows.is_empty()).then_some(tallies));
        statements.extend(self.others.tell(changes));
        if changes.audits.is_empty() {
            return self.backend.commit(statements).await;
        }
        // It is not known any more unless this is written.
        let known = self.audit_head.take();
        let (appended, head) = append(&self.backend, &self.audit, known, &changes.audits).await?;
        statements.extend(appended);
        self.backend.commit(statements).await?;
        self.audit_head = Some(head);
        Ok(())
    }

    /// Runs all jobs until none lacks a row any more.
    async fn decide(&self, jobs: &mut [Box<dyn Job>], assume: bool) -> Result<Rows> {
        let mut rows = Rows::default();
        self.run(jobs, &mut rows, assume).await?;
        let doubtful = rows.doubtful(self.backend.is_own());
        if doubtful.is_empty() {
            return Ok(rows);
        }
        let mut read = Rows::default();
        load(&self.backend, &mut read, doubtful.clone()).await?;
        if rows.are_as(&read, &doubtful) {
            return Ok(rows);
        }
        self.cache.forget_all(&rows.into_changes());
        self.run(jobs, &mut read, false).await?;
        Ok(read)
    }

    async fn run(&self, jobs: &mut [Box<dyn Job>], rows: &mut Rows, assume: bool) -> Result<()> {
        let mut open: Vec<usize> = (0..jobs.len()).collect();
        while !open.is_empty() {
            let mut needs = BTreeSet::new();
            open.retain(|index| match jobs[*index].run(rows) {
                Ok(()) => false,
                Err(missing) => {
                    needs.extend(missing);
                    true
                }
            });
            if assume {
                self.assume(rows, &mut needs);
            }
            if !needs.is_empty() {
                load(&self.backend, rows, needs).await?;
            }
        }
        Ok(())
    }

    /// Takes what need not be read out of `needs`.
    fn assume(&self, rows: &mut Rows, needs: &mut BTreeSet<Need>) {
        self.cache.serve(rows, needs);
        // Hardly any request has been answered before; writing its answer fails if it was.
        needs.retain(|need| {
            let is_answer = matches!(need, Need::Answer { .. });
            if is_answer {
                rows.set_assumed(need.clone());
            }
            !is_answer
        });
    }
}

/// The same error once more, for another of those who wait.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Conflict => StoreError::Conflict,
        StoreError::Busy => StoreError::Busy,
        StoreError::Closed => StoreError::Closed,
        StoreError::Failed(text) => StoreError::Failed(text.clone()),
        other => StoreError::Failed(other.to_string()),
    }
}
