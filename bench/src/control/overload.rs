//! Ten times as many clients as the server works at best with: what it still carries out, while it
//! refuses the others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::join_all;
use serde::Serialize;
use tokio::time::sleep;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::moves::{Peak, WARM_UP};
use super::terminals::Subscriber;
use super::world::World;

const TIMES: usize = 10;

/// Clients do as terminals do: one that is refused comes again when the server has said.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    pub clients: usize,
    pub moves_per_s: f64,
    /// Of the peak in the same run.
    pub of_peak: f64,
    /// Requests a second that were refused by `RESOURCE_EXHAUSTED` with a time to come again.
    pub refused_per_s: f64,
    /// In any other way.
    pub failed: u64,
    pub first_failure: Option<String>,
}

pub async fn measure(world: &World, peak: &Peak, seconds: u32) -> Result<Overload> {
    let clients = TIMES * peak.in_flight;
    ensure!(
        world.subscribers.len() > clients,
        "--subscribers: must be more than {TIMES} times --in-flight"
    );
    let (done, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let (failed, next) = (AtomicU64::new(0), AtomicUsize::new(0));
    let first_failure = std::sync::Mutex::new(None);
    let end = Instant::now() + WARM_UP + Duration::from_secs(u64::from(seconds));
    let client = || async {
        while Instant::now() < end {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let subscriber = &world.subscribers[turn % world.subscribers.len()];
            match patiently(world, subscriber, &refused, end).await {
                Ok(true) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                // The time is over, and it has not come to its turn.
                Ok(false) => {}
                Err(status) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    let text = format!("{:?}: {}", status.code(), status.message());
                    if let Ok(mut first) = first_failure.lock() {
                        first.get_or_insert(text);
                    }
                }
            }
        }
    };
    let count = || {
        let both = [&done, &refused];
        both.map(|count| count.load(Ordering::Relaxed))
    };
    let watch = async {
        sleep(WARM_UP).await;
        let (start, before) = (Instant::now(), count());
        sleep(end.saturating_duration_since(Instant::now())).await;
        let (after, took) = (count(), start.elapsed().as_secs_f64());
        [0, 1].map(|which| (after[which] - before[which]) as f64 / took)
    };
    let all = join_all((0..clients).map(|_| client()));
    let ([moves_per_s, refused_per_s], _) = futures::join!(watch, all);
    Ok(Overload {
        clients,
        moves_per_s,
        of_peak: moves_per_s / peak.moves_per_s,
        refused_per_s,
        failed: failed.into_inner(),
        first_failure: first_failure.into_inner().unwrap_or_default(),
    })
}

/// One move, each part of which is asked for again when the server has said; false if there was not
/// the time.
async fn patiently(
    world: &World,
    subscriber: &Subscriber,
    refused: &AtomicU64,
    end: Instant,
) -> Result<bool, Status> {
    let home = world
        .layout
        .elsewhere(subscriber.gateway.load(Ordering::Relaxed));
    let request = Uuid::now_v7();
    let granted = loop {
        match world.terminals.move_to(subscriber, home, request).await {
            Ok(granted) => break granted,
            Err(status) => wait(&status, refused).await.ok_or(status)?,
        }
        if Instant::now() >= end {
            return Ok(false);
        }
    };
    subscriber.gateway.store(home.gateway, Ordering::Relaxed);
    loop {
        let watched = world
            .terminals
            .until_established(&subscriber.credentials, granted);
        match watched.await {
            Ok(()) => return Ok(true),
            Err(status) => wait(&status, refused).await.ok_or(status)?,
        }
    }
}

/// Until the server has said to come again; `None` if this is not what it says.
async fn wait(status: &Status, refused: &AtomicU64) -> Option<()> {
    let pause = come_again(status)?;
    refused.fetch_add(1, Ordering::Relaxed);
    sleep(pause).await;
    Some(())
}

fn come_again(status: &Status) -> Option<Duration> {
    if status.code() != Code::ResourceExhausted {
        return None;
    }
    status.get_details_retry_info()?.retry_delay
}
