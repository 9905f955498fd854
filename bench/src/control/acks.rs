//! How many instructions a second gateways get to acknowledge: the rates of a plan are changed, and
//! before that subscribers are put on it one by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_proto::v1 as pb;
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::sleep;

use super::layout::{PLANS, RATES};
use super::world::World;

const MOST: usize = 20_000;
/// Connections to the administration socket, and requests at once on each.
const CLIENTS: usize = 4;
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);
/// Sessions in one page of a list.
const PAGE: u32 = 1_000;
/// What the plan gives after the change: as the configuration has it, and in bits per second.
const OTHER_RATE: (&str, u64) = ("300M", 300_000_000);

/// From the operator's request to the last acknowledgement that the server has recorded.
#[derive(Clone, Debug, Serialize)]
pub struct Acks {
    /// When one request changes a plan for all.
    pub acks_per_s: f64,
    pub instructions: usize,
    /// Acknowledged more than once, as the server sent them again meanwhile.
    pub repeated: u64,
    pub took_s: f64,
    /// When there is a request for each.
    pub requested_per_s: f64,
}

pub async fn measure(world: &World) -> Result<Acks> {
    let run = Run {
        world,
        wanted: world.subscribers.len().min(MOST),
    };
    let (requested_s, _) = run.timed(run.request_each(), None).await?;
    let change = world.server.change_rate(RATES[1], OTHER_RATE.0);
    let (took_s, repeated) = run.timed(change, Some(OTHER_RATE.1)).await?;
    Ok(Acks {
        acks_per_s: run.wanted as f64 / took_s,
        instructions: run.wanted,
        repeated,
        took_s,
        requested_per_s: run.wanted as f64 / requested_s,
    })
}

/// Some of a world's subscribers.
struct Run<'a> {
    world: &'a World,
    wanted: usize,
}

impl Run<'_> {
    /// Seconds from the beginning of `asking` until all wanted acknowledgements of it are recorded, and how
    /// many came more than once. `rate` is what the plan gives then, unless it stays the same.
    async fn timed(
        &self,
        asking: impl Future<Output = Result<()>>,
        rate: Option<u64>,
    ) -> Result<(f64, u64)> {
        let wanted = self.wanted;
        let acknowledged = &self.world.fleet.counts.acknowledged;
        let before = acknowledged.load(Ordering::Relaxed);
        let start = Instant::now();
        asking.await?;
        let end = Instant::now() + PATIENCE;
        let all = loop {
            let so_far = acknowledged.load(Ordering::Relaxed) - before;
            if so_far >= wanted as u64 {
                break so_far;
            }
            ensure!(
                Instant::now() < end,
                "{so_far} of {wanted} instructions were acknowledged in {} s",
                PATIENCE.as_secs()
            );
            sleep(Duration::from_millis(1)).await;
        };
        self.until_last_recorded(end).await?;
        let mut took_s = start.elapsed().as_secs_f64();
        // Outside the time that is measured, unless one is missing.
        while self.recorded(rate).await? != wanted {
            ensure!(
                Instant::now() < end,
                "not all of {wanted} acknowledgements were recorded in {} s",
                PATIENCE.as_secs()
            );
            took_s = start.elapsed().as_secs_f64();
        }
        Ok((took_s, all - wanted as u64))
    }

    /// Puts each on the second plan.
    async fn request_each(&self) -> Result<()> {
        let mut operators = Vec::new();
        for _ in 0..CLIENTS {
            operators.push(self.world.server.operator().await?);
        }
        let next = AtomicUsize::new(0);
        let worker = |number: usize| {
            let mut operator = operators[number % CLIENTS].clone();
            let (next, subscribers) = (&next, &self.world.subscribers[..self.wanted]);
            async move {
                while let Some(subscriber) = subscribers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = pb::SetSubscriberPlanRequest {
                        subscriber_id: subscriber.credentials.subscriber_id.clone(),
                        plan: PLANS[1].to_owned(),
                        dry_run: false,
                    };
                    operator.set_subscriber_plan(request).await?;
                }
                Ok::<_, tonic::Status>(())
            }
        };
        try_join_all((0..CLIENTS * AT_ONCE).map(worker))
            .await
            .context("cannot put subscribers on another plan")?;
        Ok(())
    }

    /// The server reads a gateway's messages in order: the newest sessions, which are told last in
    /// either way, are looked at.
    async fn until_last_recorded(&self, end: Instant) -> Result<()> {
        let mut operator = self.world.server.operator().await?;
        let sessions = self.world.subscribers[..self.wanted].iter();
        let mut sessions: Vec<_> = sessions.map(|subscriber| subscriber.session).collect();
        sessions.sort_unstable();
        for session in sessions.iter().rev().take(AT_ONCE * CLIENTS) {
            let session_id = session.to_string();
            loop {
                let request = pb::ShowSessionRequest {
                    session_id: session_id.clone(),
                };
                let shown = operator.show_session(request).await?.into_inner();
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
        Ok(())
    }

    /// Sessions that have the plan acknowledged in the table, and this rate of it.
    async fn recorded(&self, rate: Option<u64>) -> Result<usize> {
        let mut operator = self.world.server.operator().await?;
        let is_recorded = |view: &&pb::SessionView| {
            let upstream = view.service.map(|service| service.upstream_bps);
            view.plan == PLANS[1]
                && view.service_acknowledged
                && (rate.is_none() || upstream == rate)
        };
        let (mut page_token, mut recorded) = (String::new(), 0);
        loop {
            let request = pb::ListSessionsRequest {
                page_token,
                limit: PAGE,
                ..pb::ListSessionsRequest::default()
            };
            let page = operator.list_sessions(request).await?.into_inner();
            recorded += page.sessions.iter().filter(is_recorded).count();
            if page.next_page_token.is_empty() {
                return Ok(recorded);
            }
            page_token = page.next_page_token;
        }
    }
}
