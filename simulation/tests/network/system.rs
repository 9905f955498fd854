//! The system's clocks and random numbers, as this process is told them.
//!
//! Whoever asks for the time or for chance, in these crates and in all that they use (rustls and
//! tonic, `HashMap`'s keys, tokio's fair `select!`), in the end calls one of two functions of the C
//! library. This program has its own of these names, and the linker prefers them. On a thread that is
//! simulated they tell the simulation's time and draw from its seed; elsewhere they ask the kernel.
//!
//! One source is left out: *ring* makes the system call by itself. Keys and nonces of TLS differ from
//! run to run, therefore, and nothing that happens follows from their values.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

/// 2026-03-01 00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_772_323_200);
/// What the monotonic clock shows when a simulation begins.
const UPTIME: Duration = Duration::from_secs(86_400);

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The time for whoever is in no host's runtime.
    static BETWEEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// tokio's clock, which is the simulation's, is being read.
    static READING: Cell<bool> = const { Cell::new(false) };
    static CHANCE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on this thread's time stands still, and its chance follows from the seed.
pub fn simulate(seed: u64) {
    CHANCE.set(Some(StdRng::seed_from_u64(seed)));
    BEGAN.set(Some(Instant::now()));
}

/// Moves the time on for what is made between two steps of the simulation, such as runtimes.
pub fn advance(elapsed: Duration) {
    BETWEEN.set(elapsed);
}

/// Time since the simulation began.
pub fn elapsed() -> Duration {
    let in_host = tokio::runtime::Handle::try_current().is_ok();
    if !in_host || READING.replace(true) {
        return BETWEEN.get();
    }
    let now = tokio::time::Instant::now().into_std();
    READING.set(false);
    BEGAN.get().map_or(Duration::ZERO, |began| now - began)
}

fn is_simulated() -> bool {
    CHANCE.with(|chance| chance.try_borrow().is_ok_and(|chance| chance.is_some()))
}

/// As getrandom(2).
///
/// # Safety
/// `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, len: usize, flags: u32) -> isize {
    let drawn = CHANCE.with(|chance| {
        let mut chance = chance.try_borrow_mut().ok()?;
        let chance = chance.as_mut()?;
        if len > 0 {
            // SAFETY: the caller has room for so many bytes, and bytes need no initial value to be
            // written over.
            let bytes = unsafe {
                std::ptr::write_bytes(buffer.cast::<u8>(), 0, len);
                std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len)
            };
            chance.fill_bytes(bytes);
        }
        isize::try_from(len).ok()
    });
    drawn.unwrap_or_else(|| {
        // SAFETY: the arguments are passed on as they came.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        filled as isize
    })
}

/// As clock_gettime(2).
///
/// # Safety
/// `time` has room for one.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> i32 {
    let since = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => EPOCH,
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME => UPTIME,
        // Of the processor, which is real.
        _ => Duration::ZERO,
    };
    if since.is_zero() || !is_simulated() {
        // SAFETY: the arguments are passed on as they came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as i32 };
    }
    let now = since + elapsed();
    // SAFETY: the caller has room for it.
    unsafe {
        time.write(libc::timespec {
            tv_sec: now.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(now.subsec_nanos()),
        });
    }
    0
}
