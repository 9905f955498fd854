//! An operator's own small web server, which is asked about registrations.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers every question by a function of it, after a while.
pub struct Hook {
    pub address: SocketAddr,
    /// Heads and questions, in the order in which they came.
    pub asked: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
    _tasks: JoinSet<()>,
}

impl Hook {
    pub async fn start(
        delay: Duration,
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
                let (mut stream, _) = listener.accept().await.unwrap();
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                connections.spawn(async move {
                    // Who asked may have given up.
                    let Some((head, question)) = read(&mut stream).await else {
                        return;
                    };
                    let answer = answer(&question);
                    log.lock().unwrap().push((head, question));
                    tokio::time::sleep(delay).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
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

async fn read(stream: &mut TcpStream) -> Option<(String, serde_json::Value)> {
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
