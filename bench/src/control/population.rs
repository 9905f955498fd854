//! Subscribers with a session each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_proto::v1 as pb;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::sleep;

use super::terminals::Subscriber;
use super::world::World;

/// How long the last sessions may take to be established.
const PATIENCE: Duration = Duration::from_secs(60);

/// How they came into the table.
#[derive(Clone, Debug, Serialize)]
pub struct Populated {
    pub subscribers: u32,
    /// From the first registration until all sessions were established.
    pub took_s: f64,
}

/// Makes subscribers known and connects them, `at_once` at a time, through the Access service.
pub async fn populate(world: &mut World, count: u32, at_once: u32) -> Result<Populated> {
    let start = Instant::now();
    let next = AtomicU32::new(0);
    let made = {
        let (terminals, layout, next) = (&world.terminals, world.layout, &next);
        let worker = || async move {
            let mut made = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, tonic::Status>(made);
                }
                let home = layout.first_home(number);
                let credentials = terminals.register(number).await?;
                let granted = terminals.connect(&credentials, home).await?;
                made.push(Subscriber {
                    credentials,
                    session: granted.session,
                    gateway: AtomicU32::new(home.gateway),
                });
            }
        };
        try_join_all((0..at_once).map(|_| worker()))
            .await
            .context("cannot make the subscribers")?
    };
    world.subscribers = made.into_iter().flatten().collect();
    until_established(world, u64::from(count)).await?;
    Ok(Populated {
        subscribers: count,
        took_s: start.elapsed().as_secs_f64(),
    })
}

/// Waits until the server's table has so many sessions, all of them established.
pub async fn until_established(world: &World, count: u64) -> Result<()> {
    let mut operator = world.server.operator().await?;
    let end = Instant::now() + PATIENCE;
    loop {
        let status = operator.status(pb::OperatorStatusRequest {}).await?;
        let by_state = status.into_inner().sessions_by_state;
        let of = |wanted: fn(pb::SessionState) -> bool| -> u64 {
            let counted = by_state.iter().filter(|entry| wanted(entry.state()));
            counted.map(|entry| entry.count).sum()
        };
        let established = of(|state| state == pb::SessionState::Established);
        let others = of(|state| {
            !matches!(
                state,
                pb::SessionState::Established | pb::SessionState::Released
            )
        });
        if (established, others) == (count, 0) {
            let forwarded = world.fleet.ledger.forwarded() as u64;
            ensure!(
                forwarded == count,
                "{count} sessions are established in the table, and the gateways forward {forwarded}"
            );
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "{established} sessions are established and {others} are not, {} s after all of \
             {count} were asked for",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(100)).await;
    }
}
