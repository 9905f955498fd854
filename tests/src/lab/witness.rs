//! How much of a time a busy machine has given to nobody here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it looks at the clock.
const EVERY: Duration = Duration::from_millis(5);
/// What a sleep is longer than it was asked to be where nothing is amiss.
const USUAL: Duration = Duration::from_millis(15);

/// A thread that wakes up again and again, and sees by the clock when it could not.
///
/// A bound on the time that a daemon takes is one on what it does, not on what else this machine
/// has to do: what this thread had to wait for, the daemon had to wait for as well.
pub struct Witness {
    begin: Instant,
    held_up_ns: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub fn start() -> Self {
        let (held_up_ns, stop) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let (sum, stopping) = (Arc::clone(&held_up_ns), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut before = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(EVERY);
                let now = Instant::now();
                let late = (now - before).saturating_sub(EVERY + USUAL);
                sum.fetch_add(late.as_nanos() as u64, Ordering::Relaxed);
                before = now;
            }
        });
        Self {
            begin: Instant::now(),
            held_up_ns,
            stop,
            thread: Some(thread),
        }
    }

    /// The time since the start, without that in which it was held up.
    pub fn awake(&self) -> Duration {
        let held_up = Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed));
        self.begin.elapsed().saturating_sub(held_up)
    }

    /// In which it was held up.
    pub fn held_up(&self) -> Duration {
        Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}
