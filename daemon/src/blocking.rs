//! Work that blocks, on the disk or the kernel: done by other threads, unless this one is simulated.
//!
//! A simulation has one thread, and a clock that it alone moves on. What other threads answer would
//! come to it in whichever order the system likes, and not twice in the same one. So it has such work
//! done in place, and says itself how much of its time goes by meanwhile.

use std::cell::RefCell;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};

type Pause = Box<dyn FnMut() -> Duration>;

thread_local! {
    static SIMULATED: RefCell<Option<Pause>> = const { RefCell::new(None) };
}

/// From now on whatever blocks is done on this thread, in place. `pause` says how long it takes until
/// it is done, and then until whoever asked hears of it, on tokio's clock.
pub fn simulate(pause: impl FnMut() -> Duration + 'static) {
    SIMULATED.set(Some(Box::new(pause)));
}

/// Whether this thread must not leave work to others.
#[must_use]
pub fn is_simulated() -> bool {
    SIMULATED.with_borrow(Option::is_some)
}

/// In a simulation, waits as if for a disk; otherwise not at all.
pub async fn pause() {
    let pause = SIMULATED.with_borrow_mut(|simulated| simulated.as_mut().map(|pause| pause()));
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
}

/// Does what blocks, apart from the tasks of this runtime.
///
/// # Errors
/// If the work panics.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if !is_simulated() {
        return spawn_blocking(work).await;
    }
    pause().await;
    let done = work();
    pause().await;
    Ok(done)
}

/// Does both, at the same time where that is allowed.
pub fn both<A: Send, B>(other: impl FnOnce() -> A + Send, own: impl FnOnce() -> B) -> (A, B) {
    if is_simulated() {
        return (other(), own());
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(other);
        let own = own();
        let other = other.join();
        let other = other.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (other, own)
    })
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use tokio::time::Instant;

    use super::*;

    fn on() -> ThreadId {
        thread::current().id()
    }

    #[tokio::test]
    async fn other_threads_work_unless_this_one_is_simulated() {
        assert!(!is_simulated());
        assert_ne!(run(on).await.unwrap(), on());
        assert_ne!(both(on, on).0, on());
        let begun = Instant::now();
        simulate(|| Duration::from_millis(3));
        assert!(is_simulated());
        assert_eq!(run(on).await.unwrap(), on());
        assert_eq!(both(on, on), (on(), on()));
        assert!(begun.elapsed() >= Duration::from_millis(6), "before, after");
        thread::spawn(|| assert!(!is_simulated(), "of one thread"))
            .join()
            .unwrap();
    }
}
