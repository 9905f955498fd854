//! Daemons and programs that are replaced under traffic, which loses nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, PerCpuArray, PerCpuValues};
use doorstep_gateway_common::Slot;
use doorstep_gateway_common::account::{self, Account};
use doorstep_gateway_common::names::{SCHEMA_VERSION, map};
use doorstep_tests::hitless::{self, Phase, Rig, answers, pinned, programs};
use doorstep_tests::lab::daemon::bin_dir;
use doorstep_tests::lab::netns::run;
use doorstep_tests::lab::street::{Gateway, Plan, Street};
use doorstep_tests::suite::CaseResult;
use serde::Deserialize;

use crate::support::{connect, flows, packets};

/// Each way. Even an emulated machine has the time for some of them.
const RATE: u32 = 2_000;

fn rig() -> Result<Rig> {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    Ok(Rig {
        street,
        session,
        rate: RATE,
    })
}

/// The gateway's binary with a word, to be followed by the configuration file.
fn client(gateway: &Gateway, word: &str) -> Result<Command> {
    let mut command = gateway.netns.command(bin_dir()?.join("doorstep-gateway"))?;
    command.args([word, "--config"]);
    Ok(command)
}

fn unnoticed(phase: &Phase) -> CaseResult {
    ensure!(phase.holds() && phase.entries > 4, "{phase:?}");
    Ok(())
}

pub fn killed() -> CaseResult {
    let mut rig = rig()?;
    unnoticed(&rig.kill(3)?)?;
    flows(&rig.street, &rig.street.homes[0], &rig.session)
}

pub fn upgraded() -> CaseResult {
    let mut rig = rig()?;
    unnoticed(&rig.upgrade(3)?)?;
    // Without a daemon, too, and to what the binary was built with.
    rig.street.gateways[0].daemon.stop()?;
    let steady = rig.start()?;
    let gateway = &rig.street.gateways[0];
    let before = programs(gateway)?;
    let done = hitless::upgrade(gateway, None)?;
    done.check(&before, &programs(gateway)?)?;
    let traffic = steady.stop()?;
    ensure!(traffic.lost() == 0, "{traffic:?}");
    // The same traffic tells when there are no programs.
    let steady = rig.start()?;
    run(client(gateway, "detach")?.arg(&gateway.config))?;
    let traffic = steady.stop()?;
    ensure!(traffic.lost() > 0, "{traffic:?}");
    let file = rig.street.dir().join("good.o");
    let said = hitless::refused(gateway, &file)?;
    ensure!(said.contains("no programs of this version"), "{said}");
    Ok(())
}

pub fn refused() -> CaseResult {
    let mut rig = rig()?;
    unnoticed(&rig.refuse(5)?)?;
    flows(&rig.street, &rig.street.homes[0], &rig.session)
}

/// Packets that programs of version 1 have counted for a session, each way.
const FORMER: u64 = 1_000_000;

/// Makes the pins what a gateway with the first layout of maps has left. The programs that run
/// meanwhile are today's, by maps that nobody can find any more, as if they were the former ones.
fn age(pins: &Path, slot: Slot) -> Result<()> {
    let (now, former) = (pins.join(format!("v{SCHEMA_VERSION}")), pins.join("v1"));
    fs::create_dir_all(former.join("maps"))?;
    fs::rename(now.join("links"), former.join("links"))?;
    fs::rename(
        now.join("maps").join(map::REASONS),
        former.join("maps").join(map::REASONS),
    )?;
    for entry in fs::read_dir(now.join("maps"))? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir(now.join("maps"))?;
    fs::remove_dir(now)?;
    let mut counters = PerCpuArray::<MapData, [u64; 2]>::create(2 * 1024, 0)?;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    for index in [2 * slot, 2 * slot + 1] {
        // All of it on the last CPU, and as many bytes again.
        let mut values = vec![[0; 2]; cpus];
        values[cpus - 1] = [FORMER, 60 * FORMER];
        counters.set(index, PerCpuValues::try_from(values)?, 0)?;
    }
    counters.pin(former.join("maps").join(map::COUNTERS))?;
    Ok(())
}

/// `ACCOUNTS`, by words.
struct Accounts(Array<MapData, [u64; ACCOUNT_WORDS]>);

const ACCOUNT_WORDS: usize = size_of::<Account>() / 8;

impl Accounts {
    fn open(version: &Path) -> Result<Self> {
        let data = MapData::from_pin(version.join("maps").join(map::ACCOUNTS))?;
        Ok(Self(aya::maps::Map::from_map_data(data)?.try_into()?))
    }

    /// The only session's slot, and its packets, upstream and downstream.
    fn session(&self) -> Result<(Slot, [u64; 2])> {
        let mut used = 0;
        let mut sum = [0; 2];
        for index in 0..self.0.len() {
            let words = self.0.get(&index, 0)?;
            let counted = [words[0], words[ACCOUNT_WORDS / 2]];
            if counted != [0; 2] {
                used = index % account::slots(1024);
                sum = [sum[0] + counted[0], sum[1] + counted[1]];
            }
        }
        Ok((used, sum))
    }
}

/// Makes the pins what a gateway of version 2 has left, which had another form of rates and of what is heard of
/// terminals, as [`age`] does.
fn age_by_one(version: &Path) -> Result<()> {
    for name in [map::POLICERS, map::LIVENESS] {
        fs::remove_file(version.join("maps").join(name))?;
    }
    Ok(fs::rename(version, version.with_file_name("v2"))?)
}

/// Most maps mean the same to the version before: sessions' rows and counters are gone on with.
pub fn version_before() -> CaseResult {
    let mut rig = rig()?;
    rig.street.gateways[0].daemon.stop()?;
    let pins = fs::canonicalize(pinned(&rig.street.gateways[0], ".."))?;
    let version = pins.join(format!("v{SCHEMA_VERSION}"));
    let accounts = Accounts::open(&version)?;
    let (_, before) = accounts.session()?;
    let steady = rig.start()?;
    age_by_one(&version)?;
    rig.street.start_gateway(0)?;
    answers(&rig.street.gateways[0])?;
    ensure!(!pins.join("v2").exists(), "the former pins are left");
    // The terminal's questions are answered by what the new daemon has written.
    let asked = packets(&rig.street.gateways[0])?["probe_answered"];
    let end = Instant::now() + Duration::from_secs(10);
    while packets(&rig.street.gateways[0])?["probe_answered"] == asked {
        ensure!(Instant::now() < end, "the terminal is not answered");
        std::thread::sleep(Duration::from_millis(20));
    }
    let traffic = steady.stop()?;
    ensure!(traffic.lost() == 0, "{traffic:?}");
    let counters = &sessions(&rig)?[0].counters;
    for (now, before, sent) in [
        (counters.upstream_packets, before[0], traffic.upstream.sent),
        (
            counters.downstream_packets,
            before[1],
            traffic.downstream.sent,
        ),
    ] {
        ensure!(now - before == sent, "{now} - {before} counted of {sent}");
    }
    let log = rig.street.homes[0].terminal.log();
    ensure!(!log.contains("the gateway is silent"), "{log}");
    flows(&rig.street, &rig.street.homes[0], &rig.session)
}

pub fn former_version() -> CaseResult {
    let mut rig = rig()?;
    rig.street.gateways[0].daemon.stop()?;
    let pins = fs::canonicalize(pinned(&rig.street.gateways[0], ".."))?;
    let before = reasons(&pins.join(format!("v{SCHEMA_VERSION}")))?;
    let accounts = Accounts::open(&pins.join(format!("v{SCHEMA_VERSION}")))?;
    let (slot, accounts_before) = accounts.session()?;
    let steady = rig.start()?;
    age(&pins, slot)?;
    // Starts that come to no end are gone on with.
    for moment in [30, 150, 300] {
        rig.street.start_gateway(0)?;
        std::thread::sleep(Duration::from_millis(moment));
        rig.street.gateways[0].daemon.kill()?;
    }
    rig.street.start_gateway(0)?;
    answers(&rig.street.gateways[0])?;
    ensure!(
        !pins.join("v1").exists(),
        "the former version's pins are left"
    );
    std::thread::sleep(Duration::from_millis(100));
    let traffic = steady.stop()?;
    ensure!(traffic.lost() == 0, "{traffic:?}");
    let sent = traffic.upstream.sent + traffic.downstream.sent;

    // Both versions' programs count by the same map of reasons.
    let after = packets(&rig.street.gateways[0])?;
    let forwarded = |counts: &dyn Fn(&str) -> u64| {
        counts("forwarded_upstream") + counts("forwarded_downstream")
    };
    let grown = forwarded(&|name| after[name]) - before;
    ensure!(grown == sent, "{grown} packets counted of {sent}");
    let counters = &sessions(&rig)?[0].counters;
    let (_, accounts_after) = accounts.session()?;
    for (number, now, sent) in [
        (0, counters.upstream_packets, traffic.upstream.sent),
        (1, counters.downstream_packets, traffic.downstream.sent),
    ] {
        // What the programs before have counted is not in version 1's map here, as it would be.
        let by_former = accounts_after[number] - accounts_before[number];
        let by_new = now
            .checked_sub(FORMER)
            .context("the former counts are lost")?;
        ensure!(
            by_new > 0 && by_former + by_new == sent,
            "{by_former} and {by_new} packets counted of {sent}"
        );
    }
    flows(&rig.street, &rig.street.homes[0], &rig.session)?;

    // What a newer gateway has left is not touched.
    rig.street.gateways[0].daemon.stop()?;
    let newer = pins.join(format!("v{}", SCHEMA_VERSION + 1));
    fs::create_dir(&newer)?;
    let gateway = &rig.street.gateways[0];
    let output = client(gateway, "load")?.arg(&gateway.config).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("newer version of doorstep-gateway"), "{said}");
    flows(&rig.street, &rig.street.homes[0], &rig.session)
}

/// Packets forwarded, as a version's map says.
fn reasons(version: &Path) -> Result<u64> {
    use doorstep_gateway_common::Reason::{ForwardedDownstream, ForwardedUpstream};
    let data = MapData::from_pin(version.join("maps").join(map::REASONS))?;
    let reasons: PerCpuArray<_, u64> = aya::maps::Map::from_map_data(data)?.try_into()?;
    let mut sum = 0;
    for reason in [ForwardedUpstream, ForwardedDownstream] {
        sum += reasons.get(&reason.number().into(), 0)?.iter().sum::<u64>();
    }
    Ok(sum)
}

#[derive(Deserialize)]
struct Shown {
    counters: Counters,
}

#[derive(Deserialize)]
struct Counters {
    upstream_packets: u64,
    downstream_packets: u64,
}

fn sessions(rig: &Rig) -> Result<Vec<Shown>> {
    rig.street.gateways[0].daemon.ask_json(&["sessions"])
}

/// A gateway has no room for another session: it says so, and nobody else notices.
pub fn full() -> CaseResult {
    let street = Street::new(Plan {
        homes: 2,
        max_sessions: 1,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    street.homes[1].register()?;
    let sealed = street.seal(0, 1)?;
    let said = street.homes[1]
        .terminal
        .refuse(&["request", "--sealed", &sealed])?;
    ensure!(said.contains("max_sessions"), "{said}");
    flows(&street, &street.homes[0], &session)?;
    let status: serde_json::Value = street.gateways[0].daemon.ask_json(&["status"])?;
    let slots = &status["sessions"];
    ensure!(
        slots["slots_used"] == 1 && slots["slots_max"] == 1,
        "{slots}"
    );
    for name in [
        "UPSTREAM_V4",
        "UPSTREAM_V6",
        "DOWNSTREAM_V4",
        "DOWNSTREAM_V6",
    ] {
        let map = &status["maps"][name];
        let max = map["max"].as_f64().context("no max")?;
        ensure!(map["used"] == 1, "{name}: {map}");
        ensure!(map["pressure"].as_f64() == Some(1.0 / max), "{name}: {map}");
    }
    Ok(())
}
