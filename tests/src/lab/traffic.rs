//! Traffic between the hosts of a lab.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_gateway::dataplane::Injector;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::netns::{Netns, run};

/// One echo request, and when its answer came.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    pub sent: Instant,
    pub answered: Option<Instant>,
}

/// A ping that runs until it is stopped.
///
/// It speaks UDP to an echo service, a socket for each family: every request's source address is
/// chosen anew by the kernel, as after a move it must be.
pub struct Pinger {
    /// It is to send no more.
    finish: Arc<AtomicBool>,
    /// It is to wait for no more answers.
    stop: Arc<AtomicBool>,
    echoes: Arc<std::sync::Mutex<Vec<Echo>>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// How long an answer may take on a busy machine before it is lost.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

impl Pinger {
    pub fn start(netns: &Netns, target: SocketAddr, interval: Duration) -> Result<Self> {
        let (finish, stop) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let echoes = Arc::new(std::sync::Mutex::new(Vec::<Echo>::new()));
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => "0.0.0.0:0".parse()?,
            SocketAddr::V6(_) => "[::]:0".parse()?,
        };
        let socket = Arc::new(netns.run(move || UdpSocket::bind(any))??);
        hold_much(&socket)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (sender, stopping) = (Arc::clone(&socket), Arc::clone(&finish));
        let log = Arc::clone(&echoes);
        let sending = std::thread::spawn(move || {
            let mut next = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                let number = {
                    let mut log = log.lock().expect("not poisoned");
                    log.push(Echo {
                        sent: Instant::now(),
                        answered: None,
                    });
                    log.len() as u32 - 1
                };
                // No route, for a moment, is what a move looks like from inside.
                let _ = sender.send_to(&number.to_be_bytes(), target);
                // Who was held up does not make up for it: a burst is another test.
                next = (next + interval).max(Instant::now());
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        let (stopping, log) = (Arc::clone(&stop), Arc::clone(&echoes));
        let receiving = std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while !stopping.load(Ordering::Relaxed) {
                let Ok(len) = socket.recv(&mut bytes) else {
                    continue;
                };
                let number = u32::from_be_bytes(bytes[..len].try_into().context("an echo")?);
                let mut log = log.lock().expect("not poisoned");
                if let Some(echo) = log.get_mut(number as usize) {
                    echo.answered.get_or_insert_with(Instant::now);
                }
            }
            Ok(())
        });
        Ok(Self {
            finish,
            stop,
            echoes,
            threads: vec![sending, receiving],
        })
    }

    pub fn echoes(&self) -> Vec<Echo> {
        self.echoes.lock().expect("not poisoned").clone()
    }

    /// Waits until an echo that was sent after `since` is answered; when it was.
    pub fn wait_for_answer(&self, since: Instant, patience: Duration) -> Result<Instant> {
        loop {
            let first = self
                .echoes()
                .iter()
                .filter(|echo| echo.sent >= since)
                .find_map(|echo| echo.answered);
            if let Some(first) = first {
                return Ok(first);
            }
            ensure!(since.elapsed() < patience, "no answer within {patience:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until those that were sent by now are answered, or have had the time.
    pub fn settle(&self) {
        let end = Instant::now() + ON_ITS_WAY;
        let sent = self.echoes.lock().expect("not poisoned").len();
        let mut open = (usize::MAX, Instant::now());
        while Instant::now() < end {
            let latest: Vec<bool> = {
                let log = self.echoes.lock().expect("not poisoned");
                let latest = log[..sent].iter().rev().take(LATEST);
                latest.map(|echo| echo.answered.is_none()).collect()
            };
            let now = latest.iter().filter(|is_open| **is_open).count();
            if now != open.0 {
                open = (now, Instant::now());
            }
            // The last is answered: those before it that are not were lost, unless it overtook them.
            let last_came = latest.first() != Some(&true);
            if now == 0 || last_came && open.1.elapsed() > OVERTAKEN {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends no more, lets the last answers come, and stops.
    pub fn stop(mut self) -> Result<Vec<Echo>> {
        self.finish.store(true, Ordering::Relaxed);
        let receiving = self.threads.pop();
        join(self.threads.pop())?;
        self.settle();
        self.stop.store(true, Ordering::Relaxed);
        join(receiving)?;
        Ok(self.echoes())
    }
}

/// Pings that may be on their way when no more are sent.
const LATEST: usize = 100;
/// How long one that a later one has overtaken may still take.
const OVERTAKEN: Duration = Duration::from_millis(300);

fn join(thread: Option<JoinHandle<Result<()>>>) -> Result<()> {
    let thread = thread.context("stopped before")?;
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("the pinger panicked"))?
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.finish.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The time without answers.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    pub start: Instant,
    pub end: Instant,
}

impl Outage {
    /// The longest time between two answers.
    pub fn of(echoes: &[Echo]) -> Result<Self> {
        let mut answers: Vec<Instant> = echoes.iter().filter_map(|echo| echo.answered).collect();
        answers.sort();
        let pairs = answers.windows(2).map(|pair| Self {
            start: pair[0],
            end: pair[1],
        });
        pairs
            .max_by_key(|gap| gap.end - gap.start)
            .context("no two pings were answered")
    }

    pub fn length(&self) -> Duration {
        self.end - self.start
    }

    /// Lost pings that were not on their way during the outage.
    pub fn unexplained(&self, echoes: &[Echo]) -> usize {
        // A ping that was sent a little before the last answer came was already on its way.
        const ON_ITS_WAY: Duration = Duration::from_millis(5);
        echoes
            .iter()
            .filter(|echo| echo.answered.is_none())
            .filter(|echo| echo.sent + ON_ITS_WAY < self.start || echo.sent > self.end)
            .count()
    }
}

/// Lets a socket hold what comes while its thread has to wait for a CPU.
fn hold_much(socket: &UdpSocket) -> Result<()> {
    const BYTES: usize = 16 << 20;
    Ok(setsockopt(socket, RcvBufForce, &BYTES)?)
}

/// Answers UDP datagrams with themselves, for as long as the program runs.
pub fn serve_echo(netns: &Netns, address: SocketAddr) -> Result<()> {
    let socket = netns.run(move || UdpSocket::bind(address))??;
    hold_much(&socket)?;
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            // Whoever asked may be gone.
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
    Ok(())
}

/// Serves `GET /BYTES` over HTTP/1.0, for as long as the program runs.
pub fn serve_http(netns: &Netns, address: SocketAddr) -> Result<()> {
    let listener = netns.run(move || TcpListener::bind(address))??;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        let len = stream.read(&mut bytes)?;
        ensure!(len != 0 && request.len() < 8192, "no request");
        request.extend_from_slice(&bytes[..len]);
    }
    let line = String::from_utf8_lossy(&request);
    let path = line
        .split_whitespace()
        .nth(1)
        .and_then(|path| path.strip_prefix('/'));
    let Some(Ok(mut left)) = path.map(str::parse::<usize>) else {
        stream.write_all(b"HTTP/1.0 404 Not Found\r\n\r\n")?;
        return Ok(());
    };
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {left}\r\n\r\n"
    )?;
    let chunk = vec![0x5a; 256 * 1024];
    while left > 0 {
        let len = left.min(chunk.len());
        stream.write_all(&chunk[..len])?;
        left -= len;
    }
    Ok(())
}

/// What a download was.
#[derive(Clone, Copy, Debug)]
pub struct Download {
    pub bytes: u64,
    pub duration: Duration,
}

impl Download {
    pub fn mbps(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e6 / self.duration.as_secs_f64()
    }
}

/// Downloads that many bytes inside a namespace, telling how many have come.
pub fn download(
    netns: &Netns,
    server: SocketAddr,
    source: Option<IpAddr>,
    bytes: u64,
    progress: impl Fn(u64) + Send + 'static,
) -> Result<Download> {
    netns.run(move || fetch(server, source, bytes, progress))?
}

fn fetch(
    server: SocketAddr,
    source: Option<IpAddr>,
    bytes: u64,
    progress: impl Fn(u64),
) -> Result<Download> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let start = Instant::now();
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(server),
        socket2::Type::STREAM,
        None,
    )?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket
        .connect_timeout(&server.into(), PATIENCE)
        .context("connecting")?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{bytes} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut buffer = vec![0; 1024 * 1024];
    let mut head = Vec::new();
    let mut got = 0;
    let mut in_body = false;
    loop {
        let len = stream.read(&mut buffer).context("the download stalled")?;
        if len == 0 {
            break;
        }
        let mut body = &buffer[..len];
        if !in_body {
            head.extend_from_slice(body);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            ensure!(
                head.starts_with(b"HTTP/1.0 200"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            in_body = true;
            body = &head[end + 4..];
        }
        ensure!(
            body.iter().all(|byte| *byte == 0x5a),
            "the body was changed on its way"
        );
        got += body.len() as u64;
        progress(got);
    }
    ensure!(got == bytes, "{got} of {bytes} bytes came");
    Ok(Download {
        bytes: got,
        duration: start.elapsed(),
    })
}

/// Real `ping`: that many requests, all of which must be answered.
pub fn ping(netns: &Netns, source: Option<IpAddr>, target: IpAddr, count: u32) -> Result<()> {
    let said = run(&mut pinging(netns, source, target, count, "10")?)?;
    ensure!(said.contains(" 0% packet loss"), "{said}");
    Ok(())
}

/// The same once, for where nothing is expected to answer: whether something does.
pub fn answers(netns: &Netns, source: Option<IpAddr>, target: IpAddr) -> Result<bool> {
    let mut command = pinging(netns, source, target, 1, "2")?;
    let output = command.output().context("ping")?;
    Ok(output.status.success())
}

fn pinging(
    netns: &Netns,
    source: Option<IpAddr>,
    target: IpAddr,
    count: u32,
    patience_s: &str,
) -> Result<Command> {
    let mut command = netns.command("ping")?;
    command.args(["-q", "-n", "-i", "0.01", "-W", patience_s]);
    command.args(["-c", &count.to_string()]);
    if let Some(source) = source {
        command.args(["-I", &source.to_string()]);
    }
    command.arg(target.to_string());
    Ok(command)
}

/// Whether an answer comes to one UDP datagram from that source.
pub fn reaches(netns: &Netns, source: IpAddr, target: SocketAddr) -> Result<bool> {
    netns.run(move || -> Result<bool> {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(b"hello", target)?;
        Ok(socket.recv(&mut [0; 16]).is_ok())
    })?
}

/// The address of a link.
pub fn mac(netns: &Netns, link: &str) -> Result<[u8; 6]> {
    let text = netns.ip(&format!("-o link show {link}"))?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "link/ether");
    let mac: doorstep_establish::Mac = words.nth(1).context("no address")?.parse()?;
    Ok(mac.0)
}

/// Sends whole frames out of a link.
pub fn send_frames(netns: &Netns, link: &str, frames: Vec<Vec<u8>>) -> Result<()> {
    let link = link.to_owned();
    netns.run(move || -> Result<()> {
        let ifindex = nix::net::if_::if_nametoindex(link.as_str())?;
        let injector = Injector::open()?;
        for frame in &frames {
            injector.send(ifindex, frame)?;
        }
        Ok(())
    })?
}
