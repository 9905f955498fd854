//! What the service manager is told by the daemon that it has started.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::CONFIG;

const BIN: &str = env!("CARGO_BIN_EXE_doorstep-server");
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the daemon however the test ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Manager(UnixDatagram);

impl Manager {
    fn start(dir: &Path, watchdog: Option<Duration>) -> (Self, Daemon) {
        let socket = dir.join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(BIN);
        command.args(["run", "--config", "server.toml"]);
        command.current_dir(dir).env("NOTIFY_SOCKET", socket);
        if let Some(limit) = watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        let daemon = command.stderr(Stdio::null()).spawn().unwrap();
        (Self(manager), Daemon(daemon))
    }

    fn told(&self) -> String {
        let mut buffer = [0; 256];
        let length = self.0.recv(&mut buffer).expect("told in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("server.toml"), CONFIG).unwrap();
    let made = Command::new(BIN)
        .args(["pki", "init", "--config", "server.toml"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    dir
}

#[test]
fn ready_alive_and_stopping() {
    let dir = prepared();
    let limit = Duration::from_millis(300);
    let (manager, mut daemon) = Manager::start(dir.path(), Some(limit));
    assert_eq!(manager.told(), "READY=1");
    // Not before whoever is told so can be served.
    let status = Command::new(BIN)
        .arg("status")
        .env("DOORSTEP_SERVER_SOCKET", dir.path().join("admin.sock"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    for _ in 0..5 {
        assert_eq!(manager.told(), "WATCHDOG=1");
    }
    let id = Pid::from_raw(daemon.0.id().try_into().unwrap());
    kill(id, Signal::SIGTERM).unwrap();
    let end = std::iter::repeat_with(|| manager.told()).find(|told| told != "WATCHDOG=1");
    assert_eq!(end.unwrap(), "STOPPING=1");
    assert!(daemon.0.wait().unwrap().success());
}

#[test]
fn no_signs_of_life_unless_somebody_waits_for_them() {
    let dir = prepared();
    let (manager, mut daemon) = Manager::start(dir.path(), None);
    assert_eq!(manager.told(), "READY=1");
    let id = Pid::from_raw(daemon.0.id().try_into().unwrap());
    kill(id, Signal::SIGTERM).unwrap();
    assert_eq!(manager.told(), "STOPPING=1");
    assert!(daemon.0.wait().unwrap().success());
}
