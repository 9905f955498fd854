//! Server-sent events: that something has changed, and nothing more; pages then ask for what they show.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use doorstep_web::events::{self, Listening};
use doorstep_web::session::Use;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Console;
use super::problem::{Problem, Result};

/// Between two events, however much changes.
const PAUSE: Duration = Duration::from_secs(1);
/// Times are shown, and what gateways count: after so long something has changed anyway.
const LONGEST: Duration = Duration::from_secs(30);

struct Changes {
    console: Arc<Console>,
    headers: HeaderMap,
    changes: watch::Receiver<u64>,
    _place: OwnedSemaphorePermit,
}

impl Listening for Changes {
    async fn next(&mut self) -> Option<u64> {
        let stop = self.console.stop.clone();
        tokio::select! {
            changed = self.changes.changed() => if changed.is_err() { return None },
            () = tokio::time::sleep(LONGEST) => {}
            () = stop.cancelled() => return None,
        }
        // What changes together is told together.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return None,
        }
        let count = *self.changes.borrow_and_update();
        let user = self.console.user(&self.headers, Use::Page).await;
        // Whoever is not signed in any more is told nothing.
        user.ok().flatten()?;
        Some(count)
    }
}

/// Without a session there is nothing to tell: 204 has browsers not come again.
pub async fn stream(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response> {
    if console.user(&headers, Use::Page).await?.is_none() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let place = Arc::clone(&console.streams).try_acquire_owned();
    let place = place.map_err(|_| Problem::from(crate::engine::EngineError::Busy))?;
    let listening = Changes {
        changes: console.engine.hub.changes(),
        console,
        headers,
        _place: place,
    };
    Ok(events::stream(listening))
}
