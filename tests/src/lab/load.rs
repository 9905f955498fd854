//! Traffic that goes on until it is stopped, and how much of it arrives.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::netns::Netns;

/// Ethernet's header, which a link counts and a rate does not.
const ETHERNET_LEN: u64 = 14;
const TICK: Duration = Duration::from_millis(20);

/// A flow between two hosts. Dropping it ends it.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// UDP at that many bits of IP per second.
    pub fn udp(
        (from, source): (&Netns, SocketAddr),
        (to, target): (&Netns, SocketAddr),
        bps: u64,
    ) -> Result<Self> {
        const PAYLOAD: usize = 1400;
        const HEADERS: usize = 20 + 8;
        let sink = to.run(move || UdpSocket::bind(target))??;
        let socket = from.run(move || UdpSocket::bind(source))??;
        socket.connect(target)?;
        let interval = Duration::from_nanos(((PAYLOAD + HEADERS) as u64 * 8 * 1_000_000_000) / bps);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            // What has no reader must still have an owner, or the kernel answers that it has none.
            let _sink = sink;
            let bytes = [0; PAYLOAD];
            let mut next = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                // A full queue of the host's own is part of the load.
                let _ = socket.send(&bytes);
                next += interval;
                let wait = next.saturating_duration_since(Instant::now());
                // A sleep is longer than it was asked to be; what was missed is made up for.
                if wait > Duration::from_millis(1) {
                    std::thread::sleep(wait);
                }
            }
        });
        Ok(Self {
            stop,
            threads: vec![sender],
        })
    }

    /// TCP connections, each as fast as it can be.
    pub fn tcp(
        (from, source): (&Netns, SocketAddr),
        (to, target): (&Netns, SocketAddr),
        connections: usize,
    ) -> Result<Self> {
        let listener = to.run(move || TcpListener::bind(target))??;
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..connections {
            let sender = from.run(move || -> Result<TcpStream> {
                let socket = socket2::Socket::new(
                    socket2::Domain::for_address(target),
                    socket2::Type::STREAM,
                    None,
                )?;
                socket.bind(&source.into())?;
                socket.connect_timeout(&target.into(), Duration::from_secs(20))?;
                Ok(socket.into())
            })??;
            let (receiver, _) = listener.accept()?;
            sender.set_write_timeout(Some(TICK))?;
            receiver.set_read_timeout(Some(TICK))?;
            let stopping = Arc::clone(&stop);
            threads.push(until_stopped(stopping, move |bytes| {
                let _ = (&sender).write(bytes);
            }));
            let stopping = Arc::clone(&stop);
            threads.push(until_stopped(stopping, move |bytes| {
                let _ = (&receiver).read(bytes);
            }));
        }
        Ok(Self { stop, threads })
    }
}

fn until_stopped(
    stop: Arc<AtomicBool>,
    mut step: impl FnMut(&mut [u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while !stop.load(Ordering::Relaxed) {
            step(&mut bytes);
        }
    })
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A sender that panicked has told so.
            let _ = thread.join();
        }
    }
}

/// What a link has received, and when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    at: Instant,
    packets: u64,
    bytes: u64,
}

impl Received {
    /// Read in a moment: what a program takes to start would be in the rate.
    pub fn now(netns: &Netns, link: &str) -> Result<Self> {
        let link = link.to_owned();
        netns.run(move || {
            let at = Instant::now();
            let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let mut lines = table.lines().filter_map(|line| line.split_once(':'));
            let counts = lines.find(|(name, _)| name.trim() == link);
            let (_, counts) = counts.with_context(|| format!("no link {link}"))?;
            let mut counts = counts.split_whitespace().map(str::parse);
            let mut next = || counts.next().context("too few counts")?.context("no count");
            let (bytes, packets) = (next()?, next()?);
            Ok(Self { at, packets, bytes })
        })?
    }

    /// Bits of IP per second since then.
    pub fn bps_since(&self, before: &Self) -> Result<f64> {
        let packets = self.packets - before.packets;
        let bytes = self.bytes - before.bytes;
        ensure!(packets > 0, "nothing arrived");
        let ip = bytes - packets * ETHERNET_LEN;
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        Ok(ip as f64 * 8.0 / seconds)
    }
}
