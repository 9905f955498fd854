//! An operator's own small web server, which is asked about registrations.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Heads and questions, in the order in which they came.
pub type Asked = Arc<Mutex<Vec<(String, serde_json::Value)>>>;

/// Answers every question by a function of it, after a while.
pub struct Hook {
    pub address: SocketAddr,
    pub asked: Asked,
    _tasks: JoinSet<()>,
}

impl Hook {
    pub async fn start(
        delay: Duration,
        answer: impl Fn(&serde_json::Value) -> &'static str + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(delay, None, answer).await
    }

    /// The same over TLS.
    pub async fn start_tls(
        tls: ServerConfig,
        answer: impl Fn(&serde_json::Value) -> &'static str + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        Self::start_with(Duration::ZERO, Some(acceptor), answer).await
    }

    async fn start_with(
        delay: Duration,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&serde_json::Value) -> &'static str + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let answer = Arc::new(answer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let tls = tls.clone();
                connections.spawn(async move {
                    let answer = move |question: &serde_json::Value| answer(question);
                    match tls {
                        None => serve(stream, delay, log, answer).await,
                        Some(tls) => {
                            // Who does not trust it goes away.
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, delay, log, answer).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Hook {
            address,
            asked,
            _tasks: tasks,
        }
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    delay: Duration,
    log: Asked,
    answer: impl Fn(&serde_json::Value) -> &'static str,
) {
    // Who asked may have given up.
    let Some((head, question)) = read(&mut stream).await else {
        return;
    };
    let answer = answer(&question);
    log.lock().unwrap().push((head, question));
    tokio::time::sleep(delay).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    // Over TLS: all that was written goes out before the end.
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, serde_json::Value)> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(question) = serde_json::from_str(body)
        {
            return Some((head.to_owned(), question));
        }
    }
}
