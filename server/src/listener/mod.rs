//! The public port, and those of pages for browsers: TLS with whatever certificate is in force when a client comes.

pub mod browsers;
mod guarded;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use guarded::Guarded;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::{Guard, Source};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way; who comes then waits in the kernel's queue.
const HANDSHAKES: usize = 1024;
/// When the system refuses to accept, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound socket, of the system's network or of a simulated one.
pub trait Listener: Send + Sync + 'static {
    type Stream: AsyncRead
        + AsyncWrite
        + Connected<ConnectInfo = TcpConnectInfo>
        + Send
        + Unpin
        + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.accept().await?;
        // Delay is all that is lost where the system refuses it.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Connections whose handshake has succeeded, until told to stop.
pub fn incoming<L: Listener>(
    listener: L,
    tls: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
    guard: Arc<Guard>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Guarded<TlsStream<L::Stream>>>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = async {
                    let slot = Arc::clone(&slots).acquire_owned().await;
                    listener.accept().await.map(|accepted| (accepted, slot))
                } => accepted,
            };
            let ((stream, peer), slot) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Some(place) = guard.connection(Source::from(peer)) else {
                tracing::debug!(%peer, "too many connections; closed");
                continue;
            };
            let acceptor = TlsAcceptor::from(tls());
            let (sender, stop) = (sender.clone(), stop.clone());
            tokio::spawn(async move {
                let _slot = slot;
                let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
                let done = tokio::select! {
                    () = stop.cancelled() => return,
                    done = handshake => done,
                };
                match done {
                    Ok(Ok(stream)) => {
                        // The server that would serve it may be gone.
                        let _ = sender.send(Ok(Guarded::new(stream, place))).await;
                    }
                    Ok(Err(error)) if is_about_certificate(&error) => {
                        tracing::warn!(%peer, %error, "a client's certificate was refused");
                    }
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                    Err(_) => tracing::debug!(%peer, "no handshake in time"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

fn is_about_certificate(error: &io::Error) -> bool {
    use tokio_rustls::rustls::Error;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(Error::InvalidCertificate(_)))
}
