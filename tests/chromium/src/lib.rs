//! Headless Chromium for tests: it opens pages, presses keys, and tells whatever it has to complain of.
//!
//! It is Debian's package, asked by the DevTools protocol over a pair of pipes. Whatever is not as it
//! should be panics; everything blocks.

mod answer;
mod page;
mod pipe;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::json;

pub use answer::Answer;
pub use page::{Key, Page};
use pipe::Pipe;

const PROGRAMS: [&str; 2] = ["chromium-headless-shell", "chromium"];
const FOLDERS: [&str; 4] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/lib/chromium",
    "/usr/lib/chromium-headless-shell",
];

/// A running browser, with a profile of its own that goes with it.
pub struct Chromium {
    child: Child,
    pipe: Arc<Pipe>,
    _profile: tempfile::TempDir,
}

/// Whether there is one on this host.
#[must_use]
pub fn is_there() -> bool {
    found().is_some()
}

fn found() -> Option<PathBuf> {
    let mut places = FOLDERS
        .iter()
        .flat_map(|folder| PROGRAMS.map(|name| PathBuf::from(folder).join(name)));
    places.find(|place| place.is_file())
}

fn program() -> PathBuf {
    found().expect("there is no Chromium; `cargo xtask setup` installs it")
}

/// It resolves no name, so that nothing is ever loaded from elsewhere.
const NO_NAMES: &str = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1";

impl Chromium {
    /// On this host, without any names.
    #[must_use]
    pub fn start() -> Self {
        Self::start_by(Command::new("/bin/sh"), Some(NO_NAMES))
    }

    /// On a host of a lab, with the names that are known there. The command is one that runs `/bin/sh`
    /// there with the arguments that are added to it.
    #[must_use]
    pub fn start_at(shell: Command) -> Self {
        Self::start_by(shell, None)
    }

    fn start_by(mut shell: Command, names: Option<&str>) -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        // The browser reads from descriptor 3 and writes to 4.
        let mut child = shell
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 >/dev/null 0</dev/null"])
            .arg(program())
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-first-run",
                "--no-default-browser-check",
                // Tests run as root in containers, where it has no sandbox of its own.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
                "--disable-sync",
                "--hide-scrollbars",
                // Those of tests are of authorities that no browser knows.
                "--ignore-certificate-errors",
            ])
            .args(names)
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        let pipe = Pipe::new(
            child.stdin.take().expect("its input is piped"),
            child.stdout.take().expect("its output is piped"),
        );
        Chromium {
            child,
            pipe,
            _profile: profile,
        }
    }

    /// A window of its own.
    #[must_use]
    pub fn page(&self) -> Page {
        let made = json!({ "url": "about:blank" });
        let target = self.pipe.ask(None, "Target.createTarget", &made);
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.pipe.ask(None, "Target.attachToTarget", &attach);
        let session = attached["sessionId"].as_str().expect("a session");
        Page::new(Arc::clone(&self.pipe), session)
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
