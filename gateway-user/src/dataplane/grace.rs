//! The end of every program run that began before.

use std::time::Duration;

use tracing::warn;

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const GLOBAL: libc::c_int = 1;

/// Long compared with any program's run, where the kernel offers no barrier.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// Returns when no program that started before the call still runs.
///
/// Programs run inside an RCU read-side critical section, and the global membarrier is
/// `synchronize_rcu` (kernel/sched/membarrier.c), which waits for all of these.
pub(super) fn wait() {
    // SAFETY: a system call without pointers.
    let refused = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if refused != 0 {
        warn!(
            error = %std::io::Error::last_os_error(),
            pause_ms = LONG_ENOUGH.as_millis(),
            "membarrier is not available, waiting instead"
        );
        std::thread::sleep(LONG_ENOUGH);
    }
}
