//! Server-sent events: that something has changed, and nothing more; pages then ask for what they show.

use std::convert::Infallible;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream;

/// A page that waits for news.
pub trait Listening: Send + 'static {
    /// Waits for the next change, which has this number; none: there is nothing more to tell.
    fn next(&mut self) -> impl Future<Output = Option<u64>> + Send;
}

/// An answer that goes on for as long as there are changes and somebody listens.
pub fn stream(listening: impl Listening) -> Response {
    let events = stream::unfold(listening, |mut listening| async move {
        let number = listening.next().await?;
        let event = Event::default().event("changed").data(number.to_string());
        Some((Ok::<_, Infallible>(event), listening))
    });
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}
