//! Connections of browsers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected as _;

use super::Guarded;
use crate::config;
use crate::keys::server::{ServerTls, Site};
use crate::limits::Guard;

/// A connection, whatever it is made of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What browsers come through.
pub struct Incoming {
    own: SocketAddr,
    source: Source,
}

enum Source {
    Plain(TcpListener),
    Tls(ReceiverStream<io::Result<Guarded<TlsStream<TcpStream>>>>),
}

/// Where a browser is.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Incoming>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Peer(*stream.remote_addr())
    }
}

/// Of nobody: there is always one.
const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl Incoming {
    /// As the configuration of the site has it.
    pub fn new(
        listener: TcpListener,
        (site, given): (Site, &config::Site),
        tls: Arc<ServerTls>,
        guard: Arc<Guard>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        if given.tls {
            Self::tls(listener, site, tls, guard, stop)
        } else {
            Ok(Self::plain(listener))
        }
    }

    fn plain(listener: TcpListener) -> Self {
        Incoming {
            own: listener.local_addr().unwrap_or(UNKNOWN),
            source: Source::Plain(listener),
        }
    }

    fn tls(
        listener: TcpListener,
        site: Site,
        tls: Arc<ServerTls>,
        guard: Arc<Guard>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let first = tls.site(site);
        let first = first.ok_or_else(|| anyhow::anyhow!("{site}: there is no certificate"))?;
        let own = listener.local_addr().unwrap_or(UNKNOWN);
        let current = move || tls.site(site).unwrap_or_else(|| Arc::clone(&first));
        let connections = super::incoming(listener, current, guard, stop);
        Ok(Incoming {
            own,
            source: Source::Tls(connections),
        })
    }
}

impl Listener for Incoming {
    type Io = Box<dyn Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match &mut self.source {
            Source::Plain(listener) => {
                let (stream, peer) = Listener::accept(listener).await;
                (Box::new(stream), peer)
            }
            Source::Tls(connections) => loop {
                match connections.next().await {
                    Some(Ok(stream)) => {
                        let peer = stream.connect_info().get_ref().remote_addr();
                        return (Box::new(stream), peer.unwrap_or(UNKNOWN));
                    }
                    Some(Err(_)) => {}
                    // It was told to stop, and so is whoever waits here.
                    None => std::future::pending().await,
                }
            },
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.own)
    }
}
