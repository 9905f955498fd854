//! Traffic that loses nothing by itself: what is sent and does not come was lost on the way.
//!
//! No more packets are on their way than the smallest queue between the two ends takes, so that a
//! busy machine makes it slower and never drops any.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::netns::Netns;

/// Packets of one direction that are on their way at a time. A veth's ring takes 256.
const WINDOW: u64 = 96;
/// How long a packet may be on its way before it is lost.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what could not be sent in time is sent later.
const BACKLOG: Duration = Duration::from_millis(50);
const PORT: u16 = 9000;
/// Of UDP; together with the headers a small packet of IP.
const BYTES: usize = 36;

/// What came of the traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    pub sent: u64,
    /// Of those, each counted once.
    pub received: u64,
    /// Packets that came a second time, or were never sent.
    pub strange: u64,
}

impl Carried {
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

/// What came of the traffic both ways.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outcome {
    pub upstream: Carried,
    pub downstream: Carried,
    pub seconds: f64,
}

impl Outcome {
    pub fn lost(&self) -> u64 {
        self.upstream.lost() + self.downstream.lost()
    }

    /// Of both directions together.
    pub fn packets_per_s(&self) -> f64 {
        (self.upstream.received + self.downstream.received) as f64 / self.seconds
    }
}

/// UDP both ways between a home and the world, until it is stopped.
pub struct Steady {
    start: Instant,
    upstream: Flow,
    downstream: Flow,
}

impl Steady {
    /// `rate` is in packets per second, for each direction; there are fewer where the machine has
    /// not the time.
    pub fn start(home: (&Netns, IpAddr), world: (&Netns, IpAddr), rate: u32) -> Result<Self> {
        Ok(Self {
            start: Instant::now(),
            upstream: Flow::start(home, world, PORT, rate)?,
            downstream: Flow::start(world, home, PORT + 1, rate)?,
        })
    }

    /// Packets that have arrived so far.
    pub fn received(&self) -> u64 {
        self.upstream.received() + self.downstream.received()
    }

    /// Sends no more, and waits for what is on its way.
    pub fn stop(self) -> Result<Outcome> {
        let Self {
            start,
            upstream,
            downstream,
        } = self;
        upstream.finish.store(true, Ordering::Relaxed);
        downstream.finish.store(true, Ordering::Relaxed);
        let seconds = start.elapsed().as_secs_f64();
        Ok(Outcome {
            upstream: upstream.stop().context("upstream")?,
            downstream: downstream.stop().context("downstream")?,
            seconds,
        })
    }
}

/// One direction.
struct Flow {
    received: Arc<AtomicU64>,
    /// The sender is to send no more.
    finish: Arc<AtomicBool>,
    /// The receiver is to wait no more.
    end: Arc<AtomicBool>,
    sender: Option<JoinHandle<Result<u64>>>,
    receiver: Option<JoinHandle<Result<u64>>>,
}

impl Flow {
    fn start(from: (&Netns, IpAddr), to: (&Netns, IpAddr), port: u16, rate: u32) -> Result<Self> {
        let (source, target) = (SocketAddr::new(from.1, port), SocketAddr::new(to.1, port));
        let sink = to.0.run(move || UdpSocket::bind(target))??;
        sink.connect(source)?;
        sink.set_read_timeout(Some(Duration::from_millis(20)))?;
        let socket = from.0.run(move || UdpSocket::bind(source))??;
        socket.connect(target)?;
        let (received, finish, end) =
            <(Arc<AtomicU64>, Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let (count, ending) = (Arc::clone(&received), Arc::clone(&end));
        let receiver = std::thread::spawn(move || receive(&sink, &count, &ending));
        let (count, finishing) = (Arc::clone(&received), Arc::clone(&finish));
        let sender = std::thread::spawn(move || send(&socket, rate, &count, &finishing));
        Ok(Self {
            received,
            finish,
            end,
            sender: Some(sender),
            receiver: Some(receiver),
        })
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn stop(mut self) -> Result<Carried> {
        self.finish.store(true, Ordering::Relaxed);
        let sent = join(self.sender.take())?;
        let mut progress = (self.received(), Instant::now());
        while progress.0 < sent && progress.1.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
            let received = self.received();
            if received != progress.0 {
                progress = (received, Instant::now());
            }
        }
        self.end.store(true, Ordering::Relaxed);
        let strange = join(self.receiver.take())?;
        let received = self.received();
        ensure!(received <= sent, "{received} packets of {sent} came");
        Ok(Carried {
            sent,
            received,
            strange,
        })
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.finish.store(true, Ordering::Relaxed);
        self.end.store(true, Ordering::Relaxed);
    }
}

fn join(thread: Option<JoinHandle<Result<u64>>>) -> Result<u64> {
    let thread = thread.context("stopped before")?;
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("a thread of the traffic panicked"))?
}

/// Sends numbered packets; how many.
fn send(socket: &UdpSocket, rate: u32, received: &AtomicU64, finish: &AtomicBool) -> Result<u64> {
    let mut bytes = [0; BYTES];
    let (mut sent, mut lost) = (0_u64, 0_u64);
    let mut due = Pace::new(rate);
    let mut progress = (0, Instant::now());
    while !finish.load(Ordering::Relaxed) {
        let come = received.load(Ordering::Relaxed);
        if come != progress.0 {
            progress = (come, Instant::now());
        }
        let on_their_way = sent - lost.min(sent - come) - come;
        if on_their_way >= WINDOW && progress.1.elapsed() > PATIENCE {
            // Lost, as will be told; the traffic goes on.
            lost = sent - come;
            progress.1 = Instant::now();
            continue;
        }
        let room = WINDOW - on_their_way.min(WINDOW);
        let now = due.take(room);
        for _ in 0..now {
            bytes[..8].copy_from_slice(&sent.to_be_bytes());
            socket.send(&bytes).context("sending")?;
            sent += 1;
        }
        if now == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(sent)
}

/// How many packets may be sent now.
struct Pace {
    rate: f64,
    last: Instant,
    due: f64,
}

impl Pace {
    fn new(rate: u32) -> Self {
        Self {
            rate: rate.into(),
            last: Instant::now(),
            due: 0.0,
        }
    }

    fn take(&mut self, most: u64) -> u64 {
        let now = Instant::now();
        self.due += (now - self.last).as_secs_f64() * self.rate;
        self.due = self.due.min(BACKLOG.as_secs_f64() * self.rate);
        self.last = now;
        let count = (self.due as u64).min(most);
        self.due -= count as f64;
        count
    }
}

/// Counts each number once; how many others came.
fn receive(socket: &UdpSocket, received: &AtomicU64, end: &AtomicBool) -> Result<u64> {
    let mut bytes = [0; 64];
    let mut strange = 0;
    // Packets of one flow may overtake one another where the kernel takes part.
    let mut seen = Seen::default();
    while !end.load(Ordering::Relaxed) {
        let Ok(len) = socket.recv(&mut bytes) else {
            continue;
        };
        let number = bytes.first_chunk().copied().map(u64::from_be_bytes);
        match number {
            Some(number) if len == BYTES && seen.first_time(number) => {
                received.fetch_add(1, Ordering::Relaxed);
            }
            _ => strange += 1,
        }
    }
    Ok(strange)
}

/// Which numbers were seen: a bit for each.
#[derive(Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Far more than are ever sent.
    const MOST: u64 = 1 << 34;

    fn first_time(&mut self, number: u64) -> bool {
        if number >= Self::MOST {
            return false;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let first = self.0[word] & bit == 0;
        self.0[word] |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut seen = Seen::default();
        let counted = [0, 1, 70, 1, 64, 70, u64::MAX].map(|number| seen.first_time(number));
        assert_eq!(counted, [true, true, true, false, true, false, false]);
    }

    #[test]
    fn what_is_missing_is_lost() {
        let carried = |sent, received| Carried {
            sent,
            received,
            strange: 0,
        };
        let outcome = Outcome {
            upstream: carried(100, 98),
            downstream: carried(50, 50),
            seconds: 2.0,
        };
        assert_eq!(outcome.lost(), 2);
        assert!((outcome.packets_per_s() - 74.0).abs() < 1e-9);
    }
}
