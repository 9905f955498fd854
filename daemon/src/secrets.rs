//! What a daemon knows does not leave it by a core dump.

use anyhow::{Context as _, Result};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Keeps the process's memory, with its keys and customers' data, out of core dumps, and out of the
/// reach of other processes of the same user (ptrace, `/proc/PID/mem`). Called first of all.
///
/// `PR_SET_DUMPABLE` is what stops the kernel, also where `core_pattern` is a pipe, which
/// `RLIMIT_CORE` does not; the limit is for processes that this one starts, whose flag the kernel sets
/// anew. As the kernel sees to it, files in `/proc/PID` then belong to root; the process itself still may read them.
pub fn keep() -> Result<()> {
    prctl::set_dumpable(false).context("cannot switch core dumps off (PR_SET_DUMPABLE)")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot switch core dumps off (RLIMIT_CORE)")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::signal::{Signal, raise};

    use super::*;

    const ROLE: &str = "DOORSTEP_TEST_SECRETS";

    /// The crashing end of the test below, in a process of its own.
    #[test]
    fn crash() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
        if role == "kept" {
            keep().unwrap();
            assert!(!prctl::get_dumpable().unwrap());
            assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        }
        raise(Signal::SIGABRT).unwrap();
    }

    fn crashed(role: &str) -> ExitStatus {
        let dir = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "secrets::tests::crash", "--nocapture"])
            .current_dir(dir.path())
            .env(ROLE, role)
            .output()
            .unwrap();
        assert_eq!(
            output.status.signal(),
            Some(Signal::SIGABRT as i32),
            "{role}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.status
    }

    #[test]
    fn a_crash_leaves_no_core() {
        assert!(!crashed("kept").core_dumped());
        if !crashed("plain").core_dumped() {
            eprintln!("this host dumps no core of any process: only flag and limit were looked at");
        }
    }
}
