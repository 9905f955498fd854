//! A browser's part that tests need: requests of HTTP/1.1, one a connection, and a cookie that is kept.

use std::net::SocketAddr;
use std::time::Duration;

use doorstep_daemon::dry_run::Run;
pub use doorstep_test_chromium::Answer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Server;
use doorstep_server::account::{Actor, Role};

const PATIENCE: Duration = Duration::from_secs(60);
pub const PASSWORD: &str = "correct horse battery";

/// The section of a configuration with a console that people may sign in to as often as they like.
pub const CONSOLE: &str = "[console]\nlisten = \"127.0.0.1:0\"\ntls = false\n\
     sign_in_rate = { per_minute = 100000, burst = 10000 }";

/// Somebody who may be signed in.
pub struct Browser {
    address: SocketAddr,
    pub cookie: Option<String>,
    pub csrf: String,
}

impl Browser {
    pub fn new(server: &Server) -> Self {
        Browser {
            address: server.running.as_ref().unwrap().console.unwrap(),
            cookie: None,
            csrf: String::new(),
        }
    }

    /// With an account made for it.
    pub async fn signed_in(server: &Server, name: &str, role: Role) -> Self {
        add_account(server, name, role).await;
        let mut browser = Browser::new(server);
        let answer = browser.sign_in(name, PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        let page = browser.get("/").await;
        page.field("csrf").unwrap().clone_into(&mut browser.csrf);
        browser
    }

    pub async fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        let answer = self
            .post_as_is("/sign-in", &[("name", name), ("password", password)])
            .await;
        if let Some(set) = answer.header("set-cookie") {
            self.cookie = set.split(';').next().map(ToOwned::to_owned);
        }
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// As a page of the session would.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let fields = [fields, &[("csrf", self.csrf.as_str())]].concat();
        self.post_as_is(path, &fields).await
    }

    pub async fn post_as_is(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask("POST", path, &[], &form(fields)).await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = self.request(method, path, headers, body);
        answer(&mut stream, &request).await
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> String {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        if let Some(cookie) = &self.cookie {
            head += &format!("Cookie: {cookie}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if method == "POST" {
            head += "Content-Type: application/x-www-form-urlencoded\r\n";
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        format!("{head}\r\n{body}")
    }

    /// The stream of events, past its head.
    pub async fn events(&self) -> Events {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = self.request("GET", "/events", &[], "");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Events {
            stream,
            text: String::new(),
        };
        events.until("\r\n\r\n").await;
        assert!(events.text.starts_with("HTTP/1.1 200"), "{}", events.text);
        events.text.clear();
        events
    }
}

pub async fn add_account(server: &Server, name: &str, role: Role) {
    let engine = &server.running.as_ref().unwrap().engine;
    let password = PASSWORD.to_owned().into();
    let name = name.parse().unwrap();
    let added = engine.add_account(Actor::Operator, name, role, password, Run::Real);
    added.await.unwrap();
}

/// Sends a request and reads until the end.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("the console says nothing").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    Answer::read(&text)
}

pub fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    let pairs = fields.iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.join("&")
}

/// Server-sent events as they come.
pub struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn until(&mut self, wanted: &str) {
        let reading = async {
            while !self.text.contains(wanted) {
                let mut bytes = [0; 1024];
                let count = self.stream.read(&mut bytes).await.unwrap();
                assert!(count > 0, "the stream ended: {}", self.text);
                self.text += &String::from_utf8_lossy(&bytes[..count]);
            }
        };
        let done = tokio::time::timeout(PATIENCE, reading).await;
        done.expect("no event comes");
    }

    /// Waits until the next change is told.
    pub async fn changed(&mut self) {
        self.until("event: changed").await;
        self.text.clear();
    }

    /// Waits until the stream is closed.
    pub async fn end(&mut self) {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("the stream goes on").unwrap();
    }
}
