//! Questions to the world.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing, or why not.
pub(super) type Answer = Result<(), String>;

/// Whether somebody listens where a URL leads.
pub(super) async fn tcp(url: &str) -> Answer {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    let authority = authority.split('/').next().unwrap_or_default();
    let named = match authority.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
        _ => format!("{authority}:443"),
    };
    within(async { TcpStream::connect(named).await.map(drop) }).await
}

/// Whether a resolver says anything at all to a question for the root's servers.
pub(super) async fn dns(server: IpAddr) -> Answer {
    // RFC 1035, 4.1: an id, recursion desired, one question: the root, type NS, class IN.
    const ID: [u8; 2] = [0x64, 0x73];
    const QUESTION: [u8; 17] = [ID[0], ID[1], 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    within(async {
        let any = match server {
            IpAddr::V4(_) => "0.0.0.0:0",
            IpAddr::V6(_) => "[::]:0",
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(SocketAddr::new(server, 53)).await?;
        socket.send(&QUESTION).await?;
        let mut answer = [0; 512];
        loop {
            let len = socket.recv(&mut answer).await?;
            let is_answer = len >= 12 && answer[..2] == ID && answer[2] & 0x80 != 0;
            if is_answer {
                return Ok(());
            }
        }
    })
    .await
}

async fn within(asked: impl Future<Output = io::Result<()>>) -> Answer {
    match timeout(PATIENCE, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
