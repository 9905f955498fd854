//! Server-sent events: that one of a subscriber's connections has changed, and nothing more.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use doorstep_web::events::{self, Listening};
use futures::FutureExt as _;
use futures::future::{Either, pending, select_all};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::App;
use super::home::open_sessions;
use super::owner::Owner;
use super::problem::{Kind, Result};
use crate::hub::Watch;
use crate::limits::{Place, Reason};

/// Between two events, however much changes.
const PAUSE: Duration = Duration::from_secs(1);
/// News of another server may get lost: after so long the page looks again in any case.
const LONGEST: Duration = Duration::from_secs(15);

struct Changes {
    app: Arc<App>,
    token: String,
    watches: Vec<Watch>,
    _places: (OwnedSemaphorePermit, Place<Uuid>),
}

impl Listening for Changes {
    async fn next(&mut self) -> Option<u64> {
        let stop = self.app.stop.clone();
        {
            let watches = self.watches.iter_mut();
            let news: Vec<_> = watches.map(|watch| watch.news().boxed()).collect();
            let any = match news.is_empty() {
                true => Either::Left(pending()),
                false => Either::Right(select_all(news).map(drop)),
            };
            tokio::select! {
                () = any => {}
                () = tokio::time::sleep(LONGEST) => {}
                () = stop.cancelled() => return None,
            }
        }
        // What changes together is told together.
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => return None,
        }
        // Whoever is not signed in any more is told nothing.
        let whose = self.app.engine.whose_phone(&self.token, self.app.idle);
        whose.await.ok().flatten()?;
        Some(1)
    }
}

/// Without a phone that is known there is nothing to tell: 204 has browsers not come again.
pub async fn stream(
    State(app): State<Arc<App>>,
    owner: Option<Owner>,
    headers: HeaderMap,
) -> Result<Response> {
    let (Some(owner), Some(token)) = (owner, app.token.read(&headers)) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let guard = &app.engine.guard;
    let place = Arc::clone(&app.streams).try_acquire_owned();
    let place = place.map_err(|_| Kind::Busy)?;
    let places = (place, guard.watch(owner.id)?);
    let mut watches = Vec::new();
    for row in open_sessions(&app.engine, &owner).await? {
        let watch = app.engine.hub.watch(row.session.id);
        watches.push(watch.ok_or_else(|| guard.refusals.refuse(Reason::Watches, None))?);
    }
    let listening = Changes {
        token: token.to_owned(),
        watches,
        _places: places,
        app: Arc::clone(&app),
    };
    Ok(events::stream(listening))
}
