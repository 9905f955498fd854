//! What the service manager that has started a daemon is told (`sd_notify(3)`): ready, alive, stopping.
//! Where none has, nobody is told.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Signs of life while the manager waits for one: two may be late.
const SIGNS: u32 = 3;
/// Until a daemon that was not ready is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Tells that the daemon is ready once it has answered, and that it is alive whenever it does so.
///
/// `alive` asks whatever does the daemon's work, ends with its answer, and with false if there is none
/// to be had. While it does not end nothing is told: the manager (`WatchdogSec=`) ends the daemon then and
/// starts it anew.
pub async fn follow<F: Future<Output = bool>>(alive: impl Fn() -> F, stop: CancellationToken) {
    let every = sd_notify::watchdog_enabled().map(|limit| limit / SIGNS);
    let told = stop.run_until_cancelled(keep(every, alive, tell));
    told.await;
}

/// Tells that the daemon is about to end, as it was asked to.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

async fn keep<F: Future<Output = bool>>(
    every: Option<Duration>,
    alive: impl Fn() -> F,
    tell: impl Fn(&[NotifyState<'_>]),
) {
    let mut ready = false;
    loop {
        if alive().await {
            if !ready {
                tell(&[NotifyState::Ready]);
                ready = true;
            }
            if every.is_some() {
                tell(&[NotifyState::Watchdog]);
            }
        }
        match every {
            _ if !ready => sleep(AGAIN).await,
            Some(every) => sleep(every).await,
            None => pending().await,
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use tokio::time::{Instant, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// What is told within so long, with the seconds since the start.
    async fn told<F: Future<Output = bool>>(
        every: Option<Duration>,
        alive: impl Fn() -> F,
        seconds: u64,
    ) -> Vec<(u64, String)> {
        let (start, told) = (Instant::now(), RefCell::new(Vec::new()));
        let tell = |states: &[NotifyState<'_>]| {
            let states = states.iter().map(ToString::to_string);
            told.borrow_mut()
                .extend(states.map(|state| (start.elapsed().as_secs(), state)));
        };
        let keeping = timeout(Duration::from_secs(seconds), keep(every, alive, tell));
        keeping.await.expect_err("it goes on");
        told.into_inner()
    }

    fn signs(signs: &[(u64, &str)]) -> Vec<(u64, String)> {
        let signs = signs.iter();
        signs.map(|(at, sign)| (*at, (*sign).to_owned())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn signs_come_three_times_as_often_as_they_must() {
        let all = told(Some(LIMIT / SIGNS), async || true, 25).await;
        let expected = [
            (0, "READY=1"),
            (0, "WATCHDOG=1"),
            (10, "WATCHDOG=1"),
            (20, "WATCHDOG=1"),
        ];
        assert_eq!(all, signs(&expected));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_it_is_told_once() {
        let all = told(None, async || true, 3600).await;
        assert_eq!(all, signs(&[(0, "READY=1")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_gives_no_sign() {
        let asked = Cell::new(0);
        let alive = async || {
            asked.set(asked.get() + 1);
            if asked.get() > 2 {
                pending::<()>().await;
            }
            true
        };
        let all = told(Some(LIMIT / SIGNS), alive, 3600).await;
        let expected = [(0, "READY=1"), (0, "WATCHDOG=1"), (10, "WATCHDOG=1")];
        assert_eq!(all, signs(&expected));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_when_it_first_answers() {
        let start = Instant::now();
        let alive = async || start.elapsed() >= Duration::from_secs(7);
        assert_eq!(told(None, alive, 60).await, signs(&[(7, "READY=1")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_has_ended_is_alive_no_more() {
        let start = Instant::now();
        let alive = async || start.elapsed() < Duration::from_secs(15);
        let all = told(Some(LIMIT / SIGNS), alive, 3600).await;
        let expected = [(0, "READY=1"), (0, "WATCHDOG=1"), (10, "WATCHDOG=1")];
        assert_eq!(all, signs(&expected));
    }
}
