//! How many instructions a second gateways get to acknowledge: subscribers are put on another plan.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_proto::v1 as pb;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::sleep;

use super::layout::PLANS;
use super::world::World;

const MOST: usize = 20_000;
/// Connections to the administration socket, and requests at once on each.
const CLIENTS: usize = 4;
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);
/// Sessions in one page of a list.
const PAGE: u32 = 5_000;

/// From the operator's request to the acknowledgement that the server has recorded.
#[derive(Clone, Debug, Serialize)]
pub struct Acks {
    pub acks_per_s: f64,
    pub instructions: usize,
    /// Acknowledged more than once, as the server sent them again meanwhile.
    pub repeated: u64,
    pub took_s: f64,
}

pub async fn measure(world: &World) -> Result<Acks> {
    let wanted = world.subscribers.len().min(MOST);
    let acknowledged = &world.fleet.counts.acknowledged;
    let mut operators = Vec::new();
    for _ in 0..CLIENTS {
        operators.push(world.server.operator().await?);
    }
    let before = acknowledged.load(Ordering::Relaxed);
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let worker = |number: usize| {
        let mut operator = operators[number % CLIENTS].clone();
        let (next, subscribers) = (&next, &world.subscribers[..wanted]);
        async move {
            while let Some(subscriber) = subscribers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let request = pb::SetSubscriberPlanRequest {
                    subscriber_id: subscriber.credentials.subscriber_id.clone(),
                    plan: PLANS[1].to_owned(),
                };
                operator.set_subscriber_plan(request).await?;
            }
            Ok::<_, tonic::Status>(())
        }
    };
    try_join_all((0..CLIENTS * AT_ONCE).map(worker))
        .await
        .context("cannot put subscribers on another plan")?;
    let end = Instant::now() + PATIENCE;
    let all = loop {
        let so_far = acknowledged.load(Ordering::Relaxed) - before;
        if so_far >= wanted as u64 {
            break so_far;
        }
        ensure!(
            Instant::now() < end,
            "{so_far} of {wanted} changes of plan were acknowledged in {} s",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(1)).await;
    };
    // The server reads a gateway's messages in order; those sent last are looked for.
    for subscriber in world.subscribers[..wanted]
        .iter()
        .rev()
        .take(AT_ONCE * CLIENTS)
    {
        let session_id = subscriber.session.to_string();
        loop {
            let request = pb::ShowSessionRequest {
                session_id: session_id.clone(),
            };
            let shown = operators[0].show_session(request).await?.into_inner();
            if shown.session.is_some_and(|view| view.service_acknowledged) {
                break;
            }
            ensure!(
                Instant::now() < end,
                "the acknowledgement of {session_id} was not recorded in {} s",
                PATIENCE.as_secs()
            );
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut took_s = start.elapsed().as_secs_f64();
    // Outside the time that is measured, unless one is missing.
    while recorded(world).await? != wanted {
        ensure!(
            Instant::now() < end,
            "not all of {wanted} acknowledgements were recorded in {} s",
            PATIENCE.as_secs()
        );
        took_s = start.elapsed().as_secs_f64();
    }
    Ok(Acks {
        acks_per_s: wanted as f64 / took_s,
        instructions: wanted,
        repeated: all - wanted as u64,
        took_s,
    })
}

/// Sessions that have the plan acknowledged in the table.
async fn recorded(world: &World) -> Result<usize> {
    let mut operator = world.server.operator().await?;
    let (mut after, mut recorded) = (String::new(), 0);
    loop {
        let request = pb::ListSessionsRequest {
            after,
            limit: PAGE,
            ..pb::ListSessionsRequest::default()
        };
        let page = operator.list_sessions(request).await?.into_inner();
        let on_plan = page.sessions.iter().filter(|view| view.plan == PLANS[1]);
        recorded += on_plan.filter(|view| view.service_acknowledged).count();
        let Some(last) = page.sessions.last().filter(|_| page.more) else {
            return Ok(recorded);
        };
        after = last.session_id.clone();
    }
}
