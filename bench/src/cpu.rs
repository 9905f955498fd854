//! One CPU for everything, with as little other work on it as can be had.

use anyhow::{Context as _, Result};
use doorstep_tests::lab::cleanup::Guard;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// As `nice` counts.
const HIGHEST_PRIORITY: libc::c_int = -20;
/// The priority of all processes of a terminal or session together; `nice` only says which of them
/// goes first.
const GROUP: &str = "/proc/self/autogroup";

/// Keeps this thread, and all that it starts, on one CPU, where softirqs then run as well.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("--cpu {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("--cpu {cpu}: this host has no such CPU for us"))
}

/// Goes before other work, as long as the guard lives. What cannot be had is done without: other
/// work then shows in the figures.
pub fn go_first() -> Guard {
    let former = std::fs::read_to_string(GROUP).ok();
    // "/autogroup-5 nice 0"
    let former = former.and_then(|line| Some(line.trim().rsplit_once(' ')?.1.to_owned()));
    let _ = std::fs::write(GROUP, HIGHEST_PRIORITY.to_string());
    // SAFETY: a system call without pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST_PRIORITY) };
    Guard::new(move || {
        if let Some(former) = former {
            let _ = std::fs::write(GROUP, former);
        }
    })
}
