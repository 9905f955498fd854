//! Daemons that are gone, and traffic that does not notice.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::{Netns, run};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, flows, unnoticed};

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
