//! Whether the server can serve, for load balancers and whatever else starts and watches servers: the
//! gRPC health checking protocol (`grpc.health.v1.Health`).
//!
//! Serving is: the database answers. Every service of a listener has the same state, and so has the
//! empty name, which stands for all of them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// How the database is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Between two looks.
    pub every: Duration,
    /// One that takes longer does not answer.
    pub patience: Duration,
}

impl Looks {
    pub const USUAL: Looks = Looks {
        every: Duration::from_secs(2),
        patience: Duration::from_secs(5),
    };
}

/// The state of a listener's services.
#[derive(Clone, Debug)]
pub struct Health {
    services: Vec<&'static str>,
    reporter: HealthReporter,
}

impl Health {
    /// Of these services, which serve from now on.
    pub async fn of(services: &[&'static str]) -> Self {
        let health = Self {
            services: [&[""], services].concat(),
            reporter: HealthReporter::new(),
        };
        health.set(ServingStatus::Serving).await;
        health
    }

    /// What answers on the listener.
    pub fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    async fn set(&self, status: ServingStatus) {
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the streams of whoever watches: a listener waits for its streams.
    async fn end(mut self) {
        for service in &self.services {
            self.reporter.clear_service_status(service).await;
        }
    }
}

/// Keeps the state of all listeners until told to stop. `database` asks the database for anything.
pub async fn follow<E, F>(
    listeners: Vec<Health>,
    looks: Looks,
    database: impl Fn() -> F,
    stop: CancellationToken,
) where
    E: std::fmt::Display,
    F: Future<Output = Result<(), E>>,
{
    let mut serves = true;
    while stop
        .run_until_cancelled(tokio::time::sleep(looks.every))
        .await
        .is_some()
    {
        let asked = tokio::time::timeout(looks.patience, database());
        let Some(answer) = stop.run_until_cancelled(asked).await else {
            break;
        };
        let answers = matches!(answer, Ok(Ok(())));
        if answers == serves {
            continue;
        }
        serves = answers;
        let status = match answer {
            Ok(Ok(())) => {
                tracing::info!("the database answers again: serving");
                ServingStatus::Serving
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not answer: not serving");
                ServingStatus::NotServing
            }
            Err(_) => {
                tracing::error!("the database does not answer in time: not serving");
                ServingStatus::NotServing
            }
        };
        for health in &listeners {
            health.set(status).await;
        }
    }
    for health in listeners {
        // Who watches is told of changes only.
        if serves {
            health.set(ServingStatus::NotServing).await;
        }
        health.end().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio_stream::StreamExt as _;
    use tonic::{Code, Request};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus as Told;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    const OFTEN: Looks = Looks {
        every: Duration::from_millis(1),
        patience: Duration::from_secs(60),
    };

    fn asked(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    #[tokio::test]
    async fn it_is_as_the_database_is() {
        let (one, other) = (Health::of(&["a", "b"]).await, Health::of(&["c"]).await);
        let service = HealthService::from_health_reporter(one.reporter.clone());
        let other_service = HealthService::from_health_reporter(other.reporter.clone());
        let mut watched = service.watch(asked("b")).await.expect("known").into_inner();
        let mut next = async || Some(watched.next().await?.expect("no error").status());
        assert_eq!(next().await, Some(Told::Serving));

        let answers = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let follower = tokio::spawn({
            let (answers, stop) = (Arc::clone(&answers), stop.clone());
            async move {
                let database = || {
                    let answers = answers.load(Ordering::Relaxed);
                    async move { if answers { Ok(()) } else { Err("away") } }
                };
                follow(vec![one, other], OFTEN, database, stop).await;
            }
        });
        assert_eq!(next().await, Some(Told::NotServing));
        answers.store(true, Ordering::Relaxed);
        assert_eq!(next().await, Some(Told::Serving));
        for service_name in ["", "a", "b"] {
            let answer = service.check(asked(service_name)).await.expect("known");
            assert_eq!(answer.into_inner().status(), Told::Serving);
        }
        let answer = other_service.check(asked("c")).await.expect("known");
        assert_eq!(answer.into_inner().status(), Told::Serving);
        let unknown = service.check(asked("c")).await.expect_err("not here");
        assert_eq!(unknown.code(), Code::NotFound);

        stop.cancel();
        follower.await.expect("no panic");
        assert_eq!(next().await, Some(Told::NotServing));
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn a_database_that_hangs_does_not_answer() {
        let health = Health::of(&[]).await;
        let service = HealthService::from_health_reporter(health.reporter.clone());
        let mut watched = service.watch(asked("")).await.expect("known").into_inner();
        let mut next = async || Some(watched.next().await?.expect("no error").status());
        assert_eq!(next().await, Some(Told::Serving));
        let stop = CancellationToken::new();
        let database = || std::future::pending::<Result<(), String>>();
        let looks = Looks {
            patience: Duration::from_millis(1),
            ..OFTEN
        };
        let follower = tokio::spawn(follow(vec![health], looks, database, stop.clone()));
        assert_eq!(next().await, Some(Told::NotServing));
        // Nor does it hold the end up.
        stop.cancel();
        follower.await.expect("no panic");
        assert_eq!(next().await, None);
    }
}
