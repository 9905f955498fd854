//! Server-sent events: that something has changed, and nothing more; pages then ask for what they show.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use doorstep_web::events::{self, Listening};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::App;

/// Between two looks at the sessions.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What happens together is told together.
const PAUSE: Duration = Duration::from_millis(100);

struct Changes {
    app: Arc<App>,
    jobs: watch::Receiver<u64>,
    seen: Option<u64>,
    count: u64,
    _place: OwnedSemaphorePermit,
}

impl Listening for Changes {
    async fn next(&mut self) -> Option<u64> {
        loop {
            let stepped = tokio::select! {
                changed = self.jobs.changed() => changed.is_ok(),
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = self.app.stop.cancelled() => return None,
            };
            if stepped {
                tokio::time::sleep(PAUSE).await;
                self.jobs.borrow_and_update();
            }
            let seen = self.sessions().await?;
            let has_changed = self.seen.replace(seen).is_some_and(|last| last != seen);
            if stepped || has_changed {
                self.count += 1;
                return Some(self.count);
            }
        }
    }
}

impl Changes {
    /// What pages show of the sessions, as a number.
    async fn sessions(&self) -> Option<u64> {
        let status = self.app.calls.status().await.ok()?;
        let mut hasher = DefaultHasher::new();
        for own in &status.sessions {
            (&own.session_id, &own.state, &own.detail).hash(&mut hasher);
            (&own.ipv4_address, &own.ipv6_prefix).hash(&mut hasher);
        }
        Some(hasher.finish())
    }
}

pub async fn stream(State(app): State<Arc<App>>) -> Response {
    let Ok(place) = Arc::clone(&app.streams).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let listening = Changes {
        jobs: app.jobs.changes(),
        app,
        seen: None,
        count: 0,
        _place: place,
    };
    events::stream(listening)
}
