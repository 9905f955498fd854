//! The README's recipe by packages: installed, upgraded under traffic, removed.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::netns::{Netns, run};
use doorstep_tests::lab::steady::Steady;
use doorstep_tests::lab::street::Session;
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::{CaseResult, Skip};

use crate::hosts::{Hosts, WORLD, on, state};
use crate::machine::{
    BPFFS, GATEWAY, NAMES, SERVER, TERMINAL, displace, files, is_there, log, package, pins, place,
    process, property, runs, say, start, until,
};

const LOCATION: &str = "110103-xinjingjiayuan-001-002-004";
const SERVER_CONFIG: &str = "/etc/doorstep/server.toml";
const CERTIFICATES: &str = "/var/lib/doorstep-gateway/north-net";
const CA: &str = "/etc/doorstep/north-net-ca.pem";

/// Packets per second, each way: so few that in software emulation the daemon has its share of the time.
const RATE: u32 = 200;

/// Capabilities as bits: NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON, BPF.
const RIGHTS: [(&str, u64); 3] = [
    (SERVER, 0),
    (GATEWAY, 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39),
    (TERMINAL, 1 << 10 | 1 << 12 | 1 << 13),
];

pub fn installed_upgraded_removed() -> CaseResult {
    if !is_there() {
        let why = "needs a machine of its own: cargo xtask test --layer vm installed";
        return Err(Skip(why.to_owned()).into());
    }
    let hosts = Hosts::new()?;
    let before = (files()?, pins()?, states(&hosts)?);

    install()?;
    serve(&hosts.srv)?;
    forward(&hosts.gw)?;
    let session = connect(&hosts)?;
    for (unit, rights) in RIGHTS {
        confined(unit, rights)?;
    }
    upgraded(&hosts, &session)?;
    hung(&hosts, &session)?;
    removed(&hosts)?;

    let after = (files()?, pins()?, states(&hosts)?);
    ensure!(
        before.0 == after.0,
        "files: {:?}",
        before.0.symmetric_difference(&after.0).collect::<Vec<_>>()
    );
    ensure!(before.1 == after.1, "pins: {:?}, {:?}", before.1, after.1);
    ensure!(before.2 == after.2, "{}\n\n{}", before.2, after.2);
    Ok(())
}

fn states(hosts: &Hosts) -> Result<String> {
    Ok(format!("{}\n{}", state(&hosts.gw)?, state(&hosts.term)?))
}

/// Nothing runs before somebody says so.
fn install() -> Result<()> {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--install");
    for name in NAMES {
        dpkg.arg(package(name, 1)?);
    }
    run(&mut dpkg)?;
    for name in NAMES {
        ensure!(property(name, "ActiveState")? == "inactive", "{name} runs");
        ensure!(property(name, "UnitFileState")? == "disabled", "{name}");
        let owner = say(&["stat", "-c", "%a %U:%G", &format!("/var/lib/{name}")])?;
        ensure!(owner.trim() == format!("700 {name}:{name}"), "{owner}");
    }
    Ok(())
}

fn serve(srv: &Netns) -> Result<()> {
    place(SERVER, srv, "")?;
    as_server(&["pki", "init", "--config", SERVER_CONFIG])?;
    start(SERVER)?;
    // Ready is ready.
    say(&[SERVER, "status"]).map(drop)
}

/// `runuser` without PAM.
fn as_server(words: &[&str]) -> Result<String> {
    let user = [
        "setpriv",
        "--reuid=doorstep-server",
        "--regid=doorstep-server",
        "--clear-groups",
        SERVER,
    ];
    say(&[&user, words].concat())
}

fn forward(gw: &Netns) -> Result<()> {
    let token = "/run/token";
    say(&[SERVER, "pki", "token", "gw1", "--out", token])?;
    let server = "https://198.51.100.10:7443";
    let words = [
        GATEWAY,
        "enroll",
        "--server",
        server,
        "--token-file",
        token,
        "--out",
        CERTIFICATES,
    ];
    run(&mut on(gw, &words)?)?;
    fs::remove_file(token)?;
    let config = "/etc/doorstep/gateway.toml";
    run(&mut on(gw, &[GATEWAY, "check", "--config", config])?)?;
    // The usual limit would have the test wait for it.
    place(GATEWAY, gw, "WatchdogSec=15\n")?;
    start(GATEWAY)?;
    let (_, mode) = pins()?;
    ensure!(mode == "1710 root:doorstep-gateway", "{BPFFS}: {mode}");
    connected()
}

/// Waits until the server has its gateway.
fn connected() -> Result<()> {
    until("the gateway is connected", || {
        let rows = say(&[SERVER, "gateways", "-o", "json"])?;
        let rows: serde_json::Value = serde_json::from_str(&rows)?;
        Ok(rows[0]["connected"] == true)
    })
    .with_context(|| log(GATEWAY))
}

fn connect(hosts: &Hosts) -> Result<Session> {
    fs::copy(format!("{CERTIFICATES}/ca.pem"), CA)?;
    place(TERMINAL, &hosts.term, "")?;
    start(TERMINAL)?;
    let sealed = as_server(&["keys", "seal", LOCATION, "--config", SERVER_CONFIG])?;
    say(&[TERMINAL, "register", "--phone", "13800138000"])?;
    let words = [
        TERMINAL,
        "request",
        "--sealed",
        sealed.trim(),
        "--timeout",
        "120s",
        "-o",
        "json",
    ];
    let said = say(&words).with_context(|| format!("{}\n{}", log(TERMINAL), log(GATEWAY)))?;
    let session: Session = serde_json::from_str(&said).with_context(|| said.clone())?;
    ensure!(session.state == "established", "{said}");
    ping(&hosts.term, Some(session.v4()?), WORLD, 3)?;
    // Rooms are served, with the rights that the daemon has.
    until("the rooms are served", || {
        let status = say(&[TERMINAL, "status", "-o", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        Ok(status["rooms"]["served"] == true && runs("dnsmasq")?)
    })
    .with_context(|| log(TERMINAL))?;
    let tables = run(&mut on(&hosts.term, &["nft", "list", "tables"])?)?;
    ensure!(tables.contains("doorstep"), "no translation: {tables}");
    Ok(session)
}

/// It runs as its own user, and may do what it needs and no more.
fn confined(unit: &str, rights: u64) -> Result<()> {
    let user = process(unit, "Uid")?;
    let own = say(&["stat", "-c", "%u", &format!("/var/lib/{unit}")])?;
    let users: Vec<&str> = user.split_whitespace().collect();
    ensure!(users == [own.trim(); 4], "{unit}: {user}");
    ensure!(own.trim() != "0", "{unit} is root");
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        let has = u64::from_str_radix(&process(unit, set)?, 16)?;
        ensure!(has == rights, "{unit}: {set} is {has:x}, not {rights:x}");
    }
    ensure!(process(unit, "Seccomp")? == "2", "{unit} has no filter");
    ensure!(process(unit, "NoNewPrivs")? == "1", "{unit}");
    Ok(())
}

fn traffic(hosts: &Hosts, session: &Session) -> Result<Steady> {
    let home: IpAddr = session.v4()?;
    Steady::start((&hosts.term, home), (&hosts.inet, WORLD), RATE)
}

/// Goes on for some packets more.
fn more(steady: &Steady, packets: u64) -> Result<()> {
    let enough = steady.received() + packets;
    until("packets come", || Ok(steady.received() >= enough))
}

fn upgraded(hosts: &Hosts, session: &Session) -> Result<()> {
    let former = property(GATEWAY, "MainPID")?;
    let steady = traffic(hosts, session)?;
    more(&steady, 500)?;
    let file = package(GATEWAY, 2)?;
    run(Command::new("dpkg").arg("--install").arg(file))?;
    // It is ready again by the time that dpkg has ended.
    ensure!(property(GATEWAY, "ActiveState")? == "active");
    let version = say(&["dpkg-query", "--show", "--showformat=${Version}", GATEWAY])?;
    ensure!(version.ends_with("-2"), "{version}");
    ensure!(property(GATEWAY, "MainPID")? != former, "the former daemon");
    connected()?;
    more(&steady, 500)?;
    let outcome = steady.stop()?;
    ensure!(outcome.lost() == 0, "{outcome:?}");
    let sessions = say(&[GATEWAY, "sessions", "-o", "json"])?;
    ensure!(sessions.contains(&session.session_id), "{sessions}");
    Ok(())
}

/// A daemon that does nothing any more is started anew, and its packets go on.
fn hung(hosts: &Hosts, session: &Session) -> Result<()> {
    let former = property(GATEWAY, "MainPID")?;
    let steady = traffic(hosts, session)?;
    say(&["kill", "-STOP", &former])?;
    until("the daemon is started anew", || {
        let now = property(GATEWAY, "MainPID")?;
        Ok(now != former && now != "0" && property(GATEWAY, "ActiveState")? == "active")
    })
    .with_context(|| log(GATEWAY))?;
    ensure!(property(GATEWAY, "NRestarts")? == "1");
    connected()?;
    let outcome = steady.stop()?;
    ensure!(outcome.lost() == 0, "{outcome:?}");
    Ok(())
}

/// Each on its host, where what it has made is taken down.
fn removed(hosts: &Hosts) -> Result<()> {
    let units = [
        (TERMINAL, &hosts.term),
        (GATEWAY, &hosts.gw),
        (SERVER, &hosts.srv),
    ];
    for (name, host) in units {
        let output = on(host, &["dpkg", "--remove", name])?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {said}");
        ensure!(!said.contains(name), "{said}");
        ensure!(property(name, "ActiveState")? == "inactive", "{name} runs");
    }
    let (pinned, mode) = pins()?;
    ensure!(
        pinned.is_empty() && mode == "1700 root:root",
        "{pinned:?} {mode}"
    );
    ensure!(fs::exists(SERVER_CONFIG)?, "a removal keeps configuration");
    ensure!(fs::exists("/var/lib/doorstep-server/keys")?, "and state");
    // What the recipe itself has written.
    fs::remove_file(CA)?;
    for (name, host) in units {
        displace(name)?;
        run(&mut on(host, &["dpkg", "--purge", name])?)?;
        ensure!(property(name, "LoadState")? == "not-found", "{name}");
        ensure!(!fs::exists(format!("/run/{name}"))?, "{name}");
    }
    Ok(())
}
