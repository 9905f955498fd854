//! A device in a room, with a browser's part that tests need: requests of HTTP/1.1, one a connection, and
//! cookies that are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use doorstep_test_chromium::Answer;
use nix::sched::{CloneFlags, setns};

use super::ip;

const PATIENCE: Duration = Duration::from_secs(60);

/// A device behind `room0`, in a namespace of its own, with 192.168.77.20.
pub struct Device {
    holder: Child,
    app: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    /// Added to each request.
    pub headers: Vec<(&'static str, &'static str)>,
}

impl Device {
    /// The cable's other end, `tv0`, goes into the namespace of a process that does nothing.
    pub fn plug_in(port: u16) -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo in; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut device = Device {
            holder,
            app: SocketAddr::from(([192, 168, 77, 1], port)),
            cookies: BTreeMap::new(),
            headers: vec![],
        };
        let mut said = [0; 3];
        let out = device.holder.stdout.as_mut().unwrap();
        out.read_exact(&mut said).unwrap();
        let pid = device.holder.id();
        ip(&format!("link set tv0 netns {pid}"));
        device.inside(|| {
            ip("addr add 192.168.77.20/24 dev tv0");
            ip("link set tv0 up");
        });
        device
    }

    /// Runs a function in the device.
    fn inside<T: Send + 'static>(&self, inside: impl FnOnce() -> T + Send + 'static) -> T {
        self.thread(inside).join().unwrap()
    }

    fn thread<T: Send + 'static>(
        &self,
        inside: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let netns = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        std::thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
            inside()
        })
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pairs = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        self.ask("POST", path, &[kind], body.as_bytes()).await
    }

    /// A form with a picture.
    pub async fn post_picture(
        &mut self,
        path: &str,
        fields: &[(&str, &str)],
        picture: &[u8],
    ) -> Answer {
        let mut body = Vec::new();
        for (name, value) in fields {
            let part = format!(
                "--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend(part.bytes());
        }
        body.extend(
            b"--bound\r\nContent-Disposition: form-data; name=\"picture\"; filename=\"door\"\r\n\r\n",
        );
        body.extend(picture);
        body.extend(b"\r\n--bound--\r\n");
        let kind = ("Content-Type", "multipart/form-data; boundary=bound");
        self.ask("POST", path, &[kind], &body).await
    }

    pub async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let own = self.headers.clone();
        if own.iter().all(|(name, _)| *name != "Host") {
            head += &format!("Host: {}\r\n", self.app);
        }
        for (name, value) in headers.iter().chain(&own) {
            head += &format!("{name}: {value}\r\n");
        }
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        head += &format!(
            "Cookie: {}\r\nContent-Length: {}\r\n\r\n",
            cookies.join("; "),
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        let app = self.app;
        let exchange = self.thread(move || exchange(app, &request));
        // Whoever the test plays on this thread goes on meanwhile.
        let answer = tokio::task::spawn_blocking(|| exchange.join());
        let answer = answer.await.unwrap().unwrap();
        let answer = Answer::read(&answer);
        for line in answer.head.lines() {
            if let Some(set) = line.strip_prefix("set-cookie: ") {
                let pair = set.split(';').next().unwrap_or_default();
                if let Some((name, value)) = pair.split_once('=') {
                    self.cookies.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        answer
    }
}

fn exchange(app: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(app);
    // One that is refused may not be read to its end.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The app may be about to open.
fn connect(app: SocketAddr) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&app, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < end, "{app}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
