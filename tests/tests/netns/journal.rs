//! The log in the journal, as systemd would set a daemon up: standard error leads to it, and the
//! environment says so. A socket of the test's own takes the journal's place, in a mount namespace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::cleanup::Folder;
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{Netns, run};
use doorstep_tests::suite::CaseResult;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);
/// With the journal's folder, the program and its configuration.
const INSIDE: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                      mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";

type Entry = BTreeMap<String, String>;

struct Server {
    stderr: std::path::PathBuf,
    child: Child,
}

impl Server {
    /// `of_journal`: the environment says that this standard error is the journal's, not another.
    fn start(host: &Netns, folder: &Path, of_journal: bool) -> Result<Self> {
        let stderr = folder.join("stderr");
        let file = File::create(&stderr)?;
        let (device, inode) = (file.metadata()?.dev(), file.metadata()?.ino());
        let inode = if of_journal { inode } else { inode + 1 };
        let child = host
            .command("unshare")?
            .args(["--mount", "--propagation", "private", "bash", "-c", INSIDE])
            .arg(folder.join("journal"))
            .arg(bin_dir()?.join("doorstep-server"))
            .args(["run", "--config"])
            .arg(folder.join("server.toml"))
            .env("JOURNAL_STREAM", format!("{device}:{inode}"))
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("unshare")?;
        Ok(Self { stderr, child })
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.stderr)?)
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}: {}", self.said()?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The journal's own protocol: `NAME=value`, or the name, the value's length and the value where that has
/// several lines.
fn parse(datagram: &[u8]) -> Result<Entry> {
    let mut entry = Entry::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .context("no end")?;
        let line = std::str::from_utf8(&rest[..end])?;
        rest = &rest[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            entry.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (length, value) = rest.split_first_chunk().context("no length")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (value, after) = value.split_at_checked(length).context("too short")?;
        entry.insert(line.to_owned(), String::from_utf8(value.to_vec())?);
        rest = after.get(1..).context("no end of the value")?;
    }
    Ok(entry)
}

pub fn has_fields() -> CaseResult {
    let host = Netns::new("srv")?;
    let temporary = Folder::new()?;
    let folder = temporary.path();
    fs::create_dir(folder.join("journal"))?;
    let journal = UnixDatagram::bind(folder.join("journal/socket"))?;
    journal.set_read_timeout(Some(PATIENCE))?;
    let config = folder.join("server.toml");
    fs::write(
        &config,
        "operator = \"north-net\"\ndata_dir = \"server\"\nlisten = \"127.0.0.1:0\"\n\
         admin_socket = \"admin.sock\"\nserver_names = [\"north-net\"]\n",
    )?;
    let mut init = Command::new(bin_dir()?.join("doorstep-server"));
    run(init.args(["pki", "init", "--config"]).arg(&config))?;

    let server = Server::start(&host, folder, true)?;
    let mut buffer = vec![0; 1 << 16];
    let serving = loop {
        let length = journal
            .recv(&mut buffer)
            .with_context(|| format!("nothing arrives: {:?}", server.said()))?;
        let entry = parse(&buffer[..length])?;
        if entry
            .get("MESSAGE")
            .is_some_and(|message| message == "serving")
        {
            break entry;
        }
    };
    for (field, expected) in [
        ("PRIORITY", "6"),
        ("TARGET", "doorstep_server::serve"),
        ("SYSLOG_IDENTIFIER", "doorstep-server"),
        ("F_OPERATOR", "north-net"),
        ("F_GATEWAYS", "0"),
    ] {
        let told = serving.get(field).map(String::as_str);
        ensure!(told == Some(expected), "{field} of {serving:?}");
    }
    ensure!(serving.contains_key("CODE_LINE"), "{serving:?}");
    ensure!(server.said()?.is_empty(), "{}", server.said()?);
    server.stop()?;

    // Standard error leads elsewhere, whatever the variable says.
    let server = Server::start(&host, folder, false)?;
    let end = Instant::now() + PATIENCE;
    while !server.said()?.contains("serving") {
        ensure!(Instant::now() < end, "{}", server.said()?);
        std::thread::sleep(Duration::from_millis(10));
    }
    server.stop()?;
    journal.set_nonblocking(true)?;
    while let Ok(length) = journal.recv(&mut buffer) {
        // What the first one said at its end.
        let entry = parse(&buffer[..length])?;
        let message = entry.get("MESSAGE").map(String::as_str);
        ensure!(message != Some("serving"), "{entry:?}");
    }
    Ok(())
}
