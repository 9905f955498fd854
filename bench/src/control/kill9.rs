//! The server is killed again and again while subscribers move; then what they were told is compared
//! with what the table and the gateways say.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_proto::v1 as pb;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::layout::Home;
use super::terminals::{Granted, Subscriber};
use super::world::World;

/// How long a move may take in all, over however many kills.
const PATIENCE: Duration = Duration::from_secs(120);
/// A terminal that got no answer asks again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Between a start and the next kill, at random up to this.
const LONGEST_LIFE_MS: u64 = 500;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Kills {
    pub kills: u32,
    pub subscribers: usize,
    /// Moves that terminals were told of.
    pub acknowledged: u64,
    /// Acknowledged moves that the table or the gateways do not have at the end.
    pub lost: u64,
    /// Sessions that two gateways forwarded, at any time; subscribers with more than one session;
    /// requests that were answered in two ways.
    pub doubled: u64,
    /// Milliseconds from a kill until the next move came to its end: the longest.
    pub longest_pause_ms: f64,
    /// What is wrong with the first session that is.
    pub first_problem: Option<String>,
}

/// What a subscriber was told last.
#[derive(Clone, Copy, Debug)]
struct Told {
    granted: Granted,
    home: Home,
}

/// What all movers have in common.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    acknowledged: AtomicU64,
    answered_otherwise: AtomicU64,
}

pub async fn measure(world: &World, kills: u32) -> Result<Kills> {
    let shared = Shared::default();
    let movers = world
        .subscribers
        .iter()
        .map(|subscriber| move_on(world, subscriber, &shared));
    let killer = async {
        let longest = kill(world, &shared, kills).await;
        shared.stop.store(true, Ordering::Relaxed);
        longest
    };
    let (longest, told) = futures::join!(killer, join_all(movers));
    let mut found = Kills {
        kills,
        subscribers: world.subscribers.len(),
        acknowledged: shared.acknowledged.load(Ordering::Relaxed),
        doubled: shared.answered_otherwise.load(Ordering::Relaxed) + world.fleet.ledger.doubled(),
        longest_pause_ms: longest?.as_secs_f64() * 1e3,
        ..Kills::default()
    };
    world.fleet.all_synced(PATIENCE).await?;
    for (subscriber, told) in world.subscribers.iter().zip(told) {
        let (told, ended) = told?;
        let problem = match (told, ended) {
            (Some(told), true) => look(world, subscriber, told, &mut found).await?,
            (Some(_), false) => Some("was acknowledged and did not come to its end".to_owned()),
            (None, _) => Some("was never answered".to_owned()),
        };
        if let Some(problem) = problem {
            found.lost += 1;
            let text = format!("session {}: {problem}", subscriber.session);
            found.first_problem.get_or_insert(text);
        }
    }
    Ok(found)
}

/// Kills and starts the server; each time a move has come to its end in between.
async fn kill(world: &World, shared: &Shared, kills: u32) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for number in 1..=kills {
        sleep(Duration::from_millis(rand::random_range(
            0..LONGEST_LIFE_MS,
        )))
        .await;
        let killed = Instant::now();
        world.server.kill();
        let done = shared.done.load(Ordering::Relaxed);
        world.server.run().await?;
        while shared.done.load(Ordering::Relaxed) == done {
            ensure!(
                killed.elapsed() < PATIENCE,
                "no move came to its end in {} s after kill {number}",
                PATIENCE.as_secs()
            );
            sleep(Duration::from_millis(1)).await;
        }
        longest = longest.max(killed.elapsed());
    }
    Ok(longest)
}

/// Moves one subscriber on and on; what it was told last, and whether that came to its end.
async fn move_on(
    world: &World,
    subscriber: &Subscriber,
    shared: &Shared,
) -> Result<(Option<Told>, bool)> {
    let mut last = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let from = subscriber.gateway.load(Ordering::Relaxed);
        let (home, request) = (world.layout.elsewhere(from), Uuid::now_v7());
        let mut told: Option<Told> = None;
        let whole = async {
            loop {
                match world.terminals.move_to(subscriber, home, request).await {
                    Ok(granted) => {
                        let former = told.replace(Told { granted, home });
                        match former {
                            None => shared.acknowledged.fetch_add(1, Ordering::Relaxed),
                            Some(former) if former.granted != granted => {
                                shared.answered_otherwise.fetch_add(1, Ordering::Relaxed)
                            }
                            Some(_) => 0,
                        };
                        let credentials = &subscriber.credentials;
                        let watched = world.terminals.until_established(credentials, granted);
                        if watched.await.is_ok() {
                            return Ok(());
                        }
                    }
                    Err(status) if is_passing(status.code()) => {}
                    Err(status) => return Err(status),
                }
                sleep(ASK_AGAIN).await;
            }
        };
        let ended = timeout(PATIENCE, whole).await;
        last = told.or(last);
        match ended {
            Ok(Ok(())) => {
                subscriber.gateway.store(home.gateway, Ordering::Relaxed);
                shared.done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(status)) => {
                return Err(status).with_context(|| {
                    format!("session {}: the move was refused", subscriber.session)
                });
            }
            Err(_) => return Ok((last, false)),
        }
    }
    Ok((last, true))
}

/// Whether the server may answer otherwise soon.
fn is_passing(code: tonic::Code) -> bool {
    use tonic::Code::{Aborted, Cancelled, DeadlineExceeded, Internal, ResourceExhausted};
    matches!(
        code,
        tonic::Code::Unavailable
            | tonic::Code::Unknown
            | Aborted
            | Cancelled
            | DeadlineExceeded
            | Internal
            | ResourceExhausted
    )
}

/// What is not as the subscriber was told, if anything.
async fn look(
    world: &World,
    subscriber: &Subscriber,
    told: Told,
    found: &mut Kills,
) -> Result<Option<String>> {
    let mut operator = world.server.operator().await?;
    let Granted {
        session,
        generation,
    } = told.granted;
    let shown = operator
        .show_session(pb::ShowSessionRequest {
            session_id: session.to_string(),
        })
        .await?
        .into_inner();
    let view = shown.session.context("a session without a view")?;
    let owner = operator
        .show_subscriber(pb::ShowSubscriberRequest {
            subscriber_id: subscriber.credentials.subscriber_id.clone(),
        })
        .await?
        .into_inner();
    if owner.sessions != 1 {
        found.doubled += 1;
    }
    let location = told.home.location()?.to_string();
    if (view.generation, view.state(), &view.location_id)
        != (generation, pb::SessionState::Established, &location)
    {
        return Ok(Some(format!(
            "generation {generation} at gateway {} was promised; the table has generation {} at \
             {}, {:?}",
            told.home.gateway,
            view.generation,
            view.gateway_id,
            view.state()
        )));
    }
    let forwarding = world
        .fleet
        .gateways()
        .filter(|gateway| gateway.held(session).is_some_and(|held| held.forwards))
        .count();
    if forwarding > 1 {
        found.doubled += 1;
    }
    let there = world.fleet.gateway(told.home.gateway)?.held(session);
    Ok(match there {
        Some(held) if held.forwards && held.generation == generation => None,
        other => Some(format!(
            "generation {generation} was promised; its gateway has {other:?}"
        )),
    })
}
