//! Moves from request to Established: as many as it can, and how long each takes at half of that.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::join_all;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tonic::Status;
use uuid::Uuid;

use super::terminals::Subscriber;
use super::world::World;
use crate::percentile::percentile;

/// One move may take as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before a measurement begins, and not counted.
pub const WARM_UP: Duration = Duration::from_secs(2);

/// As many as it can: each mover begins its next move when the last has come to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    pub moves_per_s: f64,
    pub moves: u64,
    pub seconds: f64,
    /// Moves under way at once.
    pub in_flight: usize,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// At a rate that does not depend on how fast the answers come. A move's time begins when it was
/// due, not when the load got round to it.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    pub offered_per_s: f64,
    pub moves: usize,
    pub ms_p50: Option<f64>,
    pub ms_p99: Option<f64>,
    pub ms_max: Option<f64>,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// Subscribers in turn, over all measurements: nobody moves twice at the same time.
#[derive(Debug, Default)]
struct Turn(AtomicUsize);

impl Turn {
    fn next<'a>(&self, world: &'a World) -> &'a Subscriber {
        let next = self.0.fetch_add(1, Ordering::Relaxed);
        &world.subscribers[next % world.subscribers.len()]
    }
}

#[derive(Debug, Default)]
struct Failures {
    count: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Failures {
    fn add(&self, status: &Status) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| format!("{:?}: {}", status.code(), status.message()));
    }

    fn told(&self) -> (u64, Option<String>) {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        (self.count.load(Ordering::Relaxed), first.clone())
    }
}

/// One move to another gateway.
async fn one(world: &World, subscriber: &Subscriber) -> Result<(), Status> {
    let home = world
        .layout
        .elsewhere(subscriber.gateway.load(Ordering::Relaxed));
    let whole = async {
        let granted = world
            .terminals
            .move_to(subscriber, home, Uuid::now_v7())
            .await?;
        subscriber.gateway.store(home.gateway, Ordering::Relaxed);
        world
            .terminals
            .until_established(&subscriber.credentials, granted)
            .await
    };
    timeout(PATIENCE, whole)
        .await
        .map_err(|_| Status::deadline_exceeded("not established in time"))?
}

pub async fn peak(world: &World, in_flight: usize, seconds: u32) -> Result<Peak> {
    ensure!(
        world.subscribers.len() > in_flight,
        "--subscribers: must be more than --in-flight"
    );
    let (turn, done, failures) = (Turn::default(), AtomicU64::new(0), Failures::default());
    let end = Instant::now() + WARM_UP + Duration::from_secs(u64::from(seconds));
    let mover = || async {
        while Instant::now() < end {
            match one(world, turn.next(world)).await {
                Ok(()) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Err(status) => failures.add(&status),
            }
        }
    };
    let watch = async {
        sleep(WARM_UP).await;
        let (start, before) = (Instant::now(), done.load(Ordering::Relaxed));
        sleep(end.saturating_duration_since(Instant::now())).await;
        let moves = done.load(Ordering::Relaxed) - before;
        (moves, start.elapsed().as_secs_f64())
    };
    let movers = join_all((0..in_flight).map(|_| mover()));
    let ((moves, took), _) = futures::join!(watch, movers);
    let (failed, first_failure) = failures.told();
    Ok(Peak {
        moves_per_s: moves as f64 / took,
        moves,
        seconds: took,
        in_flight,
        failed,
        first_failure,
    })
}

pub async fn latency(world: &Arc<World>, offered_per_s: f64, seconds: u32) -> Result<Latency> {
    ensure!(offered_per_s > 0.0, "no move came to its end");
    let every = Duration::from_secs_f64(1.0 / offered_per_s);
    let start = Instant::now() + Duration::from_millis(10);
    let total = (WARM_UP + Duration::from_secs(u64::from(seconds))).as_secs_f64() * offered_per_s;
    let (turn, failures) = (Turn::default(), Arc::new(Failures::default()));
    let mut under_way = JoinSet::new();
    let mut times = Vec::new();
    let mut keep = |ended: Option<f64>| times.extend(ended);
    for number in 0..total as u32 {
        let due = start + every * number;
        sleep_until(due.into()).await;
        let (world, failures) = (Arc::clone(world), Arc::clone(&failures));
        let which = turn.0.fetch_add(1, Ordering::Relaxed) % world.subscribers.len();
        under_way.spawn(async move {
            match one(&world, &world.subscribers[which]).await {
                Ok(()) if due >= start + WARM_UP => Some(due.elapsed().as_secs_f64() * 1e3),
                Ok(()) => None,
                Err(status) => {
                    failures.add(&status);
                    None
                }
            }
        });
        while let Some(ended) = under_way.try_join_next() {
            keep(ended?);
        }
    }
    while let Some(ended) = under_way.join_next().await {
        keep(ended?);
    }
    times.sort_by(f64::total_cmp);
    let (failed, first_failure) = failures.told();
    Ok(Latency {
        offered_per_s,
        moves: times.len(),
        ms_p50: percentile(&times, 50),
        ms_p99: percentile(&times, 99),
        ms_max: percentile(&times, 100),
        failed,
        first_failure,
    })
}
