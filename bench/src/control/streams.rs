//! How fast gateways' streams come up, what they cost, and how fast they come back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use super::world::World;

const PATIENCE: Duration = Duration::from_secs(180);
/// Handshakes are over, and what they needed is given back.
const REST: Duration = Duration::from_secs(2);

/// All gateways dial at once, and hold nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Up {
    pub streams: u32,
    /// From the first dial until every gateway has Synced.
    pub up_s: f64,
    /// By how much the server's resident memory grew, over the streams.
    pub bytes_per_stream: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes: u64,
    /// Streams that could not be opened at once.
    pub failed_dials: u64,
}

/// The server is killed (`kill -9`) and started again at once, with all sessions established.
#[derive(Clone, Debug, Serialize)]
pub struct Back {
    /// From the kill until every gateway has Synced again.
    pub back_s: f64,
    /// From the kill until the server answered.
    pub answers_s: f64,
    /// Instructions that it sent before Synced, although nothing had changed.
    pub instructions: u64,
    pub failed_dials: u64,
}

pub async fn up(world: &mut World) -> Result<Up> {
    let before = world.server.resident_bytes()?;
    let start = Instant::now();
    world.fleet.dial();
    world.fleet.all_synced(PATIENCE).await?;
    let up_s = start.elapsed().as_secs_f64();
    sleep(REST).await;
    let after = world.server.resident_bytes()?;
    let streams = world.layout.gateways;
    Ok(Up {
        streams,
        up_s,
        bytes_per_stream: after.saturating_sub(before) as f64 / f64::from(streams),
        resident_bytes_before: before,
        resident_bytes: after,
        failed_dials: world.fleet.counts.ended.load(Ordering::Relaxed),
    })
}

pub async fn back(world: &World) -> Result<Back> {
    let counts = &world.fleet.counts;
    let sent = counts.resynchronised.load(Ordering::Relaxed);
    let start = Instant::now();
    world.server.kill();
    world.fleet.none_synced(PATIENCE).await?;
    let ended = counts.ended.load(Ordering::Relaxed);
    world.server.run().await?;
    let answers_s = start.elapsed().as_secs_f64();
    world.fleet.all_synced(PATIENCE).await?;
    Ok(Back {
        back_s: start.elapsed().as_secs_f64(),
        answers_s,
        instructions: counts.resynchronised.load(Ordering::Relaxed) - sent,
        failed_dials: counts.ended.load(Ordering::Relaxed).saturating_sub(ended),
    })
}
