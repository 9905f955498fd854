//! Daemons that are gone, and traffic that does not notice.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{Netns, run};
use doorstep_tests::lab::street::{Plan, Session, Street};
use doorstep_tests::suite::CaseResult;

use crate::support::{at_server, connect, flows, silent, unnoticed};

pub fn server_away() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    unnoticed(&mut street, |street| {
        street.server().kill()?;
        std::thread::sleep(Duration::from_millis(500));
        street.restart_server()
    })?;
    flows(&street, &street.homes[0], &session)?;
    street.homes[0].release(&session.session_id)
}

pub fn gateway_killed() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    unnoticed(&mut street, |street| {
        street.gateways[0].daemon.kill()?;
        std::thread::sleep(Duration::from_millis(200));
        street.restart_gateway(0)
    })?;
    flows(&street, &street.homes[0], &session)?;
    // The daemon that came after knows the session well enough to end it.
    street.plug(0, 1)?;
    let moved = street.homes[0].relocate(&street.seal(1, 0)?, None)?;
    flows(&street, &street.homes[0], &moved)
}

pub fn terminal_killed() -> CaseResult {
    let mut street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    unnoticed(&mut street, |street| {
        street.homes[0].terminal.kill()?;
        std::thread::sleep(Duration::from_millis(200));
        street.restart_terminal(0)
    })?;
    flows(&street, &street.homes[0], &session)?;
    // The daemon that came after knows what to undo.
    street.homes[0].release(&session.session_id)?;
    let addresses = street.homes[0].netns.ip("-o addr show")?;
    ensure!(
        !addresses.contains(&session.v4()?.to_string()),
        "{addresses}"
    );
    Ok(())
}

/// A gateway without its server ends a session with a time to live by itself, and only after that a
/// move that could not wait for its receipt goes on.
pub fn time_to_live() -> CaseResult {
    let mut street = Street::new(Plan {
        gateways: 2,
        time_to_live_s: 10,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    street.set_managed(0, false)?;
    let cut = Instant::now();
    let words = [
        "move",
        "--sealed",
        &street.seal(1, 0)?,
        "--timeout",
        "180s",
        "-o",
        "json",
    ];
    let mut asking = street.homes[0].terminal.client(&words)?;
    let asking = asking.stdout(Stdio::piped()).spawn()?;
    // It stays connected for its time, and a little more.
    let held = |street: &Street| -> Result<Vec<serde_json::Value>> {
        street.gateways[0].daemon.ask_json(&["sessions"])
    };
    while !held(&street)?.is_empty() {
        ensure!(
            cut.elapsed() < Duration::from_secs(90),
            "gateway 1 ends nothing"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(
        cut.elapsed() >= Duration::from_secs(10),
        "{:?}",
        cut.elapsed()
    );
    let server = at_server(street.server(), &session.session_id)?;
    let state = server["state"].as_str().unwrap_or_default();
    ensure!(state.starts_with("disconnecting"), "{server}");
    silent(
        &street.homes[0].netns,
        session.v4()?,
        street.echo(false).ip(),
    )?;
    street.plug(0, 1)?;
    let moved: Session = serde_json::from_slice(&asking.wait_with_output()?.stdout)?;
    ensure!(moved.gateway_id == "gw2", "{}", moved.gateway_id);
    flows(&street, &street.homes[0], &moved)?;
    // Back again, the first gateway is told to disconnect what it does not hold, and disturbs nothing.
    street.set_managed(0, true)?;
    let end = Instant::now() + Duration::from_secs(30);
    let streams = |street: &Street| {
        let log = street.gateways[0].daemon.log();
        log.matches("stream to the server is up").count()
    };
    while streams(&street) < 2 {
        ensure!(Instant::now() < end, "gateway 1 does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    flows(&street, &street.homes[0], &moved)?;
    street.homes[0].release(&moved.session_id)
}

/// Probing takes a second or two, and longer where the machine is busy.
const SETTLED: Duration = Duration::from_secs(60);

/// What a load may change and an unload must put back.
///
/// Without the routers' anycast addresses, which follow from forwarding: the kernel adds them some time
/// after it has said that an address is no longer tentative.
fn state(netns: &Netns) -> Result<String> {
    let mut state = String::new();
    for words in [
        "-d -o link show",
        "-o addr show",
        "route show table all",
        "-6 route show table all",
        "rule show",
        "-6 rule show",
    ] {
        let text = netns.ip(words)?;
        let lines = text.lines().filter(|line| !line.starts_with("anycast "));
        state.extend(lines.flat_map(|line| [line, "\n"]));
    }
    for port in ["access0", "uplink0"] {
        let mut features = netns.command("ethtool")?;
        state.push_str(&run(features.args(["-k", port]))?);
    }
    let sysctls = netns.run(|| -> std::io::Result<String> {
        [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/ipv4/fwmark_reflect",
        ]
        .iter()
        .map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")))
        .collect()
    })??;
    Ok(state + &sysctls)
}

/// Waits until the kernel has finished probing for duplicate addresses: what follows from that,
/// such as routes, appears at a time of its own.
fn settle(netns: &Netns) -> Result<()> {
    let end = Instant::now() + SETTLED;
    while !netns.ip("-6 -o addr show tentative")?.is_empty() {
        ensure!(Instant::now() < end, "{}", netns.ip("-6 addr show")?);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The lines that only one of two texts has.
fn difference(before: &str, after: &str) -> String {
    let only = |sign, these: &str, those: &str| -> String {
        let lines = these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line));
        lines.map(|line| format!("\n{sign} {line}")).collect()
    };
    only('-', before, after) + &only('+', after, before)
}

pub fn load_and_unload() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let gateway = &street.gateways[0];
    let client = |word: &str| -> Result<Command> {
        let mut command = gateway.netns.command(bin_dir()?.join("doorstep-gateway"))?;
        command.arg(word).arg("--config").arg(&gateway.config);
        Ok(command)
    };
    gateway.daemon.stop()?;
    run(&mut client("detach")?)?;
    settle(&gateway.netns)?;
    let before = state(&gateway.netns)?;
    ensure!(!before.contains("prog/xdp"), "a program is left: {before}");
    run(&mut client("load")?)?;
    let loaded = state(&gateway.netns)?;
    ensure!(loaded.contains("prog/xdp"), "no program is there: {loaded}");
    run(&mut client("load")?)?;
    // Its other name.
    run(&mut client("unload")?)?;
    settle(&gateway.netns)?;
    let after = state(&gateway.netns)?;
    ensure!(before == after, "{}", difference(&before, &after));
    ensure!(
        !gateway
            .config
            .with_file_name("bpf")
            .join("doorstep")
            .exists(),
        "pins are left"
    );
    Ok(())
}
