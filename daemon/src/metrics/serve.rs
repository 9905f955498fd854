//! `GET /metrics` over HTTP/1.1, for a few scrapers.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::TEXT_FORMAT;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{Config, Page};

/// Connections at a time. A scraper has one; more than a few are a mistake.
const CONNECTIONS: usize = 16;
/// Until a connection that says nothing is closed.
const SILENCE: Duration = Duration::from_secs(90);
/// For one answer. Prometheus itself waits for 10 seconds, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(9);
/// After a connection could not be taken: there may be no file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever knows a daemon's samples.
pub trait Source: Send + Sync + 'static {
    /// The samples as of now. Called for each scrape.
    ///
    /// # Errors
    ///
    /// If they cannot be read; the scrape fails then, as a whole.
    fn scrape(&self) -> impl Future<Output = anyhow::Result<Page>> + Send;
}

/// A bound socket that metrics are served on.
#[derive(Debug)]
pub struct Metrics(TcpListener);

impl Metrics {
    /// # Errors
    ///
    /// If the address cannot be listened on.
    pub async fn bind(config: Config) -> anyhow::Result<Metrics> {
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("metrics: cannot listen on {}", config.listen))?;
        Ok(Metrics(listener))
    }

    /// The address, with the port that the system chose for `:0`.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.0.local_addr().context("metrics: no bound address")
    }

    /// Answers until it is told to stop. What fails is one connection, or tried again.
    pub async fn serve(self, source: impl Source, stop: CancellationToken) {
        let source = Arc::new(source);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let connections = TaskTracker::new();
        loop {
            let taken = tokio::select! {
                () = stop.cancelled() => break,
                taken = self.0.accept() => taken,
            };
            let stream = match taken {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "metrics: cannot take a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Without a place it is closed at once.
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let (source, stop) = (Arc::clone(&source), stop.clone());
                connections.spawn(async move {
                    connection(stream, source, stop).await;
                    drop(place);
                });
            }
        }
        connections.close();
        connections.wait().await;
    }
}

async fn connection<S: Source>(stream: TcpStream, source: Arc<S>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&request, &*source).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(TokioIo::new(stream), service);
    // A scrape that is under way when the daemon stops is left without an answer.
    tokio::select! {
        () = stop.cancelled() => {}
        served = served => {
            if let Err(error) = served {
                debug!(%error, "metrics: a connection broke");
            }
        }
    }
}

async fn answer(request: &Request<Incoming>, source: &impl Source) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
    }
    let scrape = async { source.scrape().await.and_then(Page::text) };
    let text = match tokio::time::timeout(PATIENCE, scrape).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            warn!(error = format!("{error:#}"), "metrics: a scrape failed");
            return plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be read; the daemon's log says why\n",
            );
        }
        Err(_) => {
            warn!("metrics: a scrape took too long");
            return plain(StatusCode::SERVICE_UNAVAILABLE, "it takes too long\n");
        }
    };
    let mut response = plain(StatusCode::OK, text);
    let format = HeaderValue::from_static(TEXT_FORMAT);
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
