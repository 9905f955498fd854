//! How a daemon's clients reach servers: over the system's TCP, or over a simulated network.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

/// Bytes to a server and back, below TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Dialled = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// The system's network, or another one.
#[derive(Clone, Default)]
pub struct Network(Option<Arc<dyn Fn(Uri) -> Dialled + Send + Sync>>);

impl Network {
    /// One that is dialled like this; the rest of a URL, such as TLS, is as everywhere.
    pub fn of<F, S>(dial: impl Fn(Uri) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Stream + 'static,
    {
        Self(Some(Arc::new(move |url| {
            let dialled = dial(url);
            Box::pin(async move {
                let stream = dialled.await?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        })))
    }

    /// Connects now.
    ///
    /// # Errors
    /// As tonic's own `connect`.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match self.0.clone() {
            None => endpoint.connect().await,
            Some(dial) => {
                let connector = service_fn(move |url| io(dial(url)));
                endpoint.connect_with_connector(connector).await
            }
        }
    }

    /// Connects when something is asked for, and again after each loss.
    #[must_use]
    pub fn connect_lazy(&self, endpoint: &Endpoint) -> Channel {
        match self.0.clone() {
            None => endpoint.connect_lazy(),
            Some(dial) => {
                endpoint.connect_with_connector_lazy(service_fn(move |url| io(dial(url))))
            }
        }
    }
}

async fn io(dialled: Dialled) -> io::Result<TokioIo<Box<dyn Stream>>> {
    dialled.await.map(TokioIo::new)
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            None => "Network(TCP)",
            Some(_) => "Network(simulated)",
        })
    }
}
