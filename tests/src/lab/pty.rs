//! A terminal that a program is used in.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::pty::{Winsize, openpty};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A program in a terminal of its own. It is ended with this.
pub struct Pty {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    pub fn start(mut command: Command, columns: u16, lines: u16) -> Result<Self> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).context("no terminal is to be had")?;
        let (keyboard, programs) = (File::from(pty.master), File::from(pty.slave));
        command
            .env("TERM", "xterm-256color")
            .stdin(programs.try_clone()?)
            .stdout(programs.try_clone()?)
            .stderr(programs);
        let controlling = || {
            nix::unistd::setsid()?;
            // SAFETY: standard input is the terminal, and the call takes no memory.
            if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: between fork and exec there are only system calls.
        unsafe { command.pre_exec(controlling) };
        let child = command.spawn()?;
        // The command has the program's end of the terminal open, too.
        drop(command);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shown) = (keyboard.try_clone()?, Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // When the program has ended, reading fails.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                let mut shown = shown.lock().expect("not poisoned");
                shown.extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
        })
    }

    /// All that it has written, with what moves the cursor.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("not poisoned")).into_owned()
    }

    /// From here on, only what it writes anew counts.
    pub fn forget(&self) {
        self.screen.lock().expect("not poisoned").clear();
    }

    /// Waits until it has written this.
    pub fn wait_for(&mut self, text: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.written().contains(text) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                bail!("{text:?} is not seen ({ended:?}): {:?}", self.written());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Waits until it has ended by itself, well; what it wrote.
    pub fn end(mut self) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(self.written()),
                Some(status) => bail!("{status}: {:?}", self.written()),
                None if Instant::now() > end => bail!("it does not end"),
                None => std::thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
