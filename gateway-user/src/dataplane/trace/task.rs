//! The task between the ring and whoever follows packets.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use doorstep_gateway_common::record;
use doorstep_gateway_common::trace::{MAX_FILTERS, TraceEvent, TraceFilter};
use futures::FutureExt as _;
use futures::future::{pending, select_all};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::rows::Rows;
use super::{Packet, Request, Told, Trace, TraceError};
use crate::dataplane::grace;
use crate::dataplane::ring::Ring;
use crate::dataplane::running::Running;

/// Packets that may wait for a client that does not keep up.
const WAITING: usize = 4096;
/// Packets that are told of before something else has its turn.
const BATCH: usize = 256;
/// How often it is looked whether the ring had no room.
const LOOK: Duration = Duration::from_secs(1);

/// Carries what the programs tell, see [`Tracing::run`].
pub struct Tracing {
    running: Arc<Mutex<Running>>,
    ring: Ring,
    rows: Rows,
    requests: mpsc::Receiver<Request>,
    /// In the order of the rows.
    followers: [Option<Follower>; MAX_FILTERS as usize],
    /// How many there are.
    count: Arc<AtomicU32>,
    /// How many events the ring had no room for, of the programs that are there now.
    lost: u64,
}

/// Whoever follows packets.
struct Follower {
    told: mpsc::Sender<Told>,
    /// So many could not be told of, and that not either.
    missed: u64,
}

impl Tracing {
    pub(super) fn new(
        running: Arc<Mutex<Running>>,
        ring: Ring,
        rows: Rows,
        requests: mpsc::Receiver<Request>,
        count: Arc<AtomicU32>,
    ) -> Self {
        Self {
            running,
            ring,
            rows,
            requests,
            followers: Default::default(),
            count,
            lost: 0,
        }
    }

    /// Runs until told to stop; then the ports have the plain programs.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_on = self.is_on();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(request) = self.requests.recv() => self.begin(request).await,
                row = one_has_left(&self.followers) => self.end(row).await,
                event = self.ring.next(read), if is_on => match event {
                    Some(event) => self.tell(event),
                    None => {
                        warn!("the ring cannot be read any more: no packets are followed");
                        break;
                    }
                },
                _ = look.tick(), if is_on => self.look_for_losses(),
            }
        }
        for row in 0..self.followers.len() {
            if self.followers[row].is_some() {
                self.end(row).await;
            }
        }
    }

    fn is_on(&self) -> bool {
        self.followers.iter().any(Option::is_some)
    }

    async fn begin(&mut self, Request { filter, reply }: Request) {
        // Whoever asked may have gone away; then the row is free again at once.
        let _ = reply.send(self.follow(filter).await);
    }

    async fn follow(&mut self, filter: TraceFilter) -> Result<Trace, TraceError> {
        let free = self.followers.iter().position(Option::is_none);
        let row = free.ok_or(TraceError::TooMany)?;
        if !self.is_on() {
            while self.ring.take(read).is_some() {}
            self.lost = 0;
            self.with_running(Running::tell).await?;
        }
        let (told, receiver) = mpsc::channel(WAITING);
        // From here on the row ends as any other does.
        self.followers[row] = Some(Follower { told, missed: 0 });
        self.count.fetch_add(1, Ordering::Relaxed);
        self.rows.set(number(row), filter)?;
        Ok(Trace { told: receiver })
    }

    /// Frees a row when no program can tell of it any more.
    async fn end(&mut self, row: usize) {
        if let Err(error) = self.rows.set(number(row), TraceFilter::default()) {
            warn!(%error, "a trace is over, but its row is left");
        }
        let others = self.followers.iter().enumerate();
        let is_last = !others
            .filter(|(other, _)| *other != row)
            .any(|(_, follower)| follower.is_some());
        self.with_running(move |running| {
            if is_last {
                running.tell_no_more();
            }
            grace::wait();
        })
        .await;
        while let Some(event) = self.ring.take(read) {
            self.pass_on(event);
        }
        self.followers[row] = None;
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    fn tell(&mut self, event: TraceEvent) {
        self.pass_on(event);
        for _ in 1..BATCH {
            match self.ring.take(read) {
                Some(event) => self.pass_on(event),
                None => break,
            }
        }
    }

    fn pass_on(&mut self, event: TraceEvent) {
        let packet = Packet {
            at: at(event.at_ns),
            event,
        };
        for (row, follower) in self.followers.iter_mut().enumerate() {
            if event.filters & (1 << row) != 0
                && let Some(follower) = follower
            {
                follower.tell(Told::Packet(Box::new(packet)));
            }
        }
    }

    fn look_for_losses(&mut self) {
        // Busy: whoever has it waits for the kernel.
        let Ok(running) = self.running.try_lock() else {
            return;
        };
        let lost = running.lost();
        let more = lost.saturating_sub(self.lost);
        self.lost = lost;
        for follower in self.followers.iter_mut().flatten() {
            follower.missed += more;
            follower.tell_of_missed();
        }
    }

    /// Does what has to wait for the kernel, elsewhere.
    async fn with_running<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Running) -> T + Send + 'static,
    ) -> T {
        let running = Arc::clone(&self.running);
        let done = spawn_blocking(move || {
            what(&mut running.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only when the runtime goes does it drop what has not begun.
                Err(_) => pending().await,
            },
        }
    }
}

impl Follower {
    fn tell(&mut self, told: Told) {
        if self.missed > 0 {
            self.tell_of_missed();
        }
        if self.missed > 0 || self.told.try_send(told).is_err() {
            self.missed += 1;
        }
    }

    fn tell_of_missed(&mut self) {
        if self.missed > 0 && self.told.try_send(Told::Lost(self.missed)).is_ok() {
            self.missed = 0;
        }
    }
}

/// Ends when one does not want to be told any more; its row.
async fn one_has_left(followers: &[Option<Follower>]) -> usize {
    let waits: Vec<_> = followers
        .iter()
        .enumerate()
        .filter_map(|(row, follower)| Some((row, follower.as_ref()?)))
        .map(|(row, follower)| follower.told.closed().map(move |()| row).boxed())
        .collect();
    if waits.is_empty() {
        return pending().await;
    }
    select_all(waits).await.0
}

fn read(record: &[u8]) -> Option<TraceEvent> {
    record::split(record).map(|(event, _)| event)
}

fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// When it was by the wall clock, after the clock of `bpf_ktime_get_ns`.
fn at(monotonic_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    now - monotonic.saturating_sub(Duration::from_nanos(monotonic_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_wall_clock() {
        let monotonic = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock"));
        let before = SystemTime::now();
        let then = at(u64::try_from(monotonic.as_nanos()).expect("some years"));
        assert!(then <= SystemTime::now() && then >= before - Duration::from_secs(1));
        let a_minute_ago = monotonic.saturating_sub(Duration::from_secs(60));
        let minute = then.duration_since(at(u64::try_from(a_minute_ago.as_nanos()).expect("fits")));
        assert!(minute.expect("earlier") >= Duration::from_secs(59).min(monotonic));
    }

    #[tokio::test]
    async fn what_nobody_fetches_is_counted() {
        let (told, mut receiver) = mpsc::channel(2);
        let mut follower = Follower { told, missed: 0 };
        let event = read(&[0; size_of::<TraceEvent>()]).expect("long enough");
        let packet = Packet {
            at: SystemTime::UNIX_EPOCH,
            event,
        };
        let packet = || Told::Packet(Box::new(packet));
        for _ in 0..5 {
            follower.tell(packet());
        }
        assert_eq!(follower.missed, 3);
        for _ in 0..2 {
            assert_eq!(receiver.recv().await, Some(packet()));
        }
        follower.tell(packet());
        assert_eq!(receiver.recv().await, Some(Told::Lost(3)));
        assert_eq!(receiver.recv().await, Some(packet()));
    }

    #[tokio::test]
    async fn who_leaves_is_noticed() {
        let (stays, _receiver) = mpsc::channel(1);
        let (leaves, receiver) = mpsc::channel(1);
        let follower = |told| Some(Follower { told, missed: 0 });
        let followers = [None, follower(stays), follower(leaves)];
        assert_eq!(one_has_left(&followers).now_or_never(), None);
        drop(receiver);
        assert_eq!(one_has_left(&followers).await, 2);
        assert_eq!(one_has_left(&[None]).now_or_never(), None);
    }
}
