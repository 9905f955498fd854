//! Traffic that goes on until it is stopped, and how much of it arrives.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::netns::Netns;

/// Ethernet's header, which a link counts and a rate does not.
const ETHERNET_LEN: u64 = 14;
const TICK: Duration = Duration::from_millis(20);
/// A pause of a sender that is none of its own.
const HELD_UP: Duration = Duration::from_millis(5);
/// How exactly it is known when a link was read.
const EXACT: Duration = Duration::from_millis(2);

/// A flow between two hosts. Dropping it ends it.
pub struct Load {
    stop: Arc<AtomicBool>,
    /// In which nothing was sent, of UDP.
    held_up_ns: Arc<AtomicU64>,
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
        let (stop, held_up_ns) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (stopping, held_up) = (Arc::clone(&stop), Arc::clone(&held_up_ns));
        let sender = std::thread::spawn(move || {
            // What has no reader must still have an owner, or the kernel answers that it has none.
            let _sink = sink;
            let bytes = [0; PAYLOAD];
            let (mut next, mut sent) = (Instant::now(), Instant::now());
            while !stopping.load(Ordering::Relaxed) {
                // A full queue of the host's own is part of the load.
                let _ = socket.send(&bytes);
                let late = sent.elapsed().saturating_sub(2 * interval);
                if late > HELD_UP {
                    held_up.fetch_add(late.as_nanos() as u64, Ordering::Relaxed);
                }
                sent = Instant::now();
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
            held_up_ns,
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
        Ok(Self {
            stop,
            held_up_ns: Arc::default(),
            threads,
        })
    }

    /// For how long so far a busy machine has kept it from sending: what is not sent cannot arrive, and
    /// what is made up for at once is more than a rate lets pass at once. TCP is never kept from it: the
    /// kernel goes on with what it has been given.
    pub fn held_up(&self) -> Duration {
        Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed))
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
    /// Read in a moment: what a program takes to start, or a busy machine to go on, would be in the rate.
    pub fn now(netns: &Netns, link: &str) -> Result<Self> {
        let link = link.to_owned();
        netns.run(move || {
            let (mut at, mut table, mut took) = (Instant::now(), String::new(), Duration::MAX);
            for _ in 0..100 {
                let begin = Instant::now();
                let read = std::fs::read_to_string("/proc/thread-self/net/dev")?;
                if begin.elapsed() < took {
                    (at, table, took) = (begin, read, begin.elapsed());
                }
                if took < EXACT {
                    break;
                }
            }
            let mut lines = table.lines().filter_map(|line| line.split_once(':'));
            let counts = lines.find(|(name, _)| name.trim() == link);
            let (_, counts) = counts.with_context(|| format!("no link {link}"))?;
            let mut counts = counts.split_whitespace().map(str::parse);
            let mut next = || counts.next().context("too few counts")?.context("no count");
            let (bytes, packets) = (next()?, next()?);
            Ok(Self { at, packets, bytes })
        })?
    }

    /// Since then.
    pub fn time_since(&self, before: &Self) -> Duration {
        self.at.duration_since(before.at)
    }

    /// Bits of IP per second since then.
    pub fn bps_since(&self, before: &Self) -> Result<f64> {
        let packets = self.packets - before.packets;
        let bytes = self.bytes - before.bytes;
        ensure!(packets > 0, "nothing arrived");
        let ip = bytes - packets * ETHERNET_LEN;
        let seconds = self.time_since(before).as_secs_f64();
        Ok(ip as f64 * 8.0 / seconds)
    }
}
