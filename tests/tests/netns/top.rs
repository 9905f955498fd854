//! What people watch: as one frame of text, and in a terminal.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::daemon::Daemon;
use doorstep_tests::lab::pty::Pty;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::Pinger;
use doorstep_tests::suite::CaseResult;

use crate::support::connect;

/// What leaves the screen as it was before.
const OTHER_SCREEN_LEFT: &str = "\u{1b}[?1049l";
/// Longer than the interval of `top` here, and shorter than its patience.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1500);

/// The line of a frame that has all of these words.
fn line<'a>(frame: &'a str, words: &[&str]) -> Result<&'a str> {
    let mut lines = frame.lines();
    let found = lines.find(|line| words.iter().all(|word| line.contains(word)));
    found.with_context(|| format!("no line has {words:?}:\n{frame}"))
}

fn once(daemon: &Daemon) -> Result<String> {
    daemon.ask(&["top", "--once", "--interval", "1"])
}

pub fn one_frame() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let home = &street.homes[0];
    let session = connect(&street, 0)?;
    let traffic = Pinger::start(&home.netns, street.echo(false), Duration::from_millis(5))?;
    let frame = once(&street.gateways[0].daemon)?;
    line(&frame, &["gateway gw1", "1 established", "all ports up"])?;
    let busiest = line(&frame, &[&street.location(0, 0), "kbit/s"])?;
    ensure!(!busiest.contains(" 0 bit/s"), "{busiest}");
    line(&frame, &["connected", "kbit/s"])?;
    line(&frame, &["UPSTREAM_V4", "%"])?;
    traffic.stop()?;
    let frame = once(street.server())?;
    line(&frame, &["established", " 1 "])?;
    line(&frame, &["gw1", "connected"])?;
    home.release(&session.session_id)
}

pub fn in_a_terminal() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let top = |daemon: &Daemon| -> Result<Pty> {
        Pty::start(daemon.client(&["top", "--interval", "1"])?, 120, 40)
    };
    let mut gateway = top(&street.gateways[0].daemon)?;
    let mut server = top(street.server())?;
    gateway.wait_for("slots")?;
    server.wait_for("connected")?;
    // Another order, whose sign is all that is drawn anew, also while the daemon lets wait for its answer.
    let busy = &street.gateways[0].daemon;
    busy.freeze(true)?;
    std::thread::sleep(BETWEEN_LOOKS);
    gateway.press("r")?;
    gateway.wait_for("^")?;
    let meanwhile = gateway.written();
    busy.freeze(false)?;
    ensure!(!meanwhile.contains("no answer"), "{meanwhile:?}");
    server.press("\t")?;
    server.wait_for("> gateways")?;
    // Of a daemon that is gone the last is seen; it is found again.
    street.gateways[0].daemon.kill()?;
    gateway.wait_for("no answer")?;
    gateway.forget();
    street.start_gateway(0)?;
    gateway.wait_for("q: end")?;
    server.press("q")?;
    gateway.press("q")?;
    for written in [server.end()?, gateway.end()?] {
        ensure!(written.contains(OTHER_SCREEN_LEFT), "{written:?}");
    }
    Ok(())
}
