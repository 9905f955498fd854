//! What must be undone however the program ends: normally, by a panic, or by a signal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{SigSet, Signal};

type Undo = Box<dyn FnOnce() + Send>;

static PENDING: Mutex<BTreeMap<u64, Undo>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Something that is undone when this is dropped, or when a signal ends the program.
#[must_use]
#[derive(Debug)]
pub struct Guard(u64);

impl Guard {
    pub fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        PENDING
            .lock()
            .expect("not poisoned")
            .insert(id, Box::new(undo));
        Self(id)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let undo = PENDING.lock().expect("not poisoned").remove(&self.0);
        if let Some(undo) = undo {
            undo();
        }
    }
}

/// A temporary folder, removed with all that is in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _guard: Guard,
}

impl Folder {
    pub fn new() -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("doorstep-").tempdir()?;
        let path = folder.keep();
        let doomed = path.clone();
        let guard = Guard::new(move || {
            // What cannot be removed is left to whoever clears temporary files.
            let _ = std::fs::remove_dir_all(&doomed);
        });
        Ok(Self {
            path,
            _guard: guard,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The signals that end the program in an orderly way.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

/// Has the ending signals undo everything first. Call it before any other thread starts.
pub fn on_signals() {
    signals().thread_block().expect("a valid set");
    std::thread::spawn(|| {
        let signal = signals().wait().expect("a valid set");
        // The last made is the first undone; the lock stays taken, so that nothing new begins.
        let mut pending = PENDING.lock().expect("not poisoned");
        while let Some((_, undo)) = pending.pop_last() {
            undo();
        }
        std::process::exit(128 + signal as i32);
    });
}

/// Lets the ending signals through again, for a child process.
pub fn unblock_signals() -> std::io::Result<()> {
    Ok(signals().thread_unblock()?)
}
