//! Bad input of every kind: a clear error, and nothing that works is disturbed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use doorstep_tests::frames::{Ether, udp_v6_to};
use doorstep_tests::lab::daemon::{Daemon, bin_dir};
use doorstep_tests::lab::netns::{Netns, cable};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::{mac, send_frames};
use doorstep_tests::suite::CaseResult;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};

use crate::support::{connect, flows, packets};

/// Runs a daemon's command with a configuration that it must refuse.
fn refused(binary: &str, words: &[&str], file: &Path) -> Result<String> {
    let mut command = std::process::Command::new(bin_dir()?.join(binary));
    let output = command.args(words).arg("--config").arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(if words[0] == "check" { 3 } else { 1 }),
        "{binary} {words:?}: {}: {said}",
        output.status
    );
    Ok(said + &String::from_utf8_lossy(&output.stdout))
}

pub fn configurations() -> CaseResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("bad.toml");
    // Each has its mistake in line 2.
    for (binary, words, text) in [
        (
            "doorstep-gateway",
            &["check"][..],
            "id = \"gw1\"\nacces_port = []\n",
        ),
        (
            "doorstep-gateway",
            &["run"],
            "id = \"gw1\"\nmax_sessions = \"many\"\n",
        ),
        (
            "doorstep-gateway",
            &["load"],
            "id = \"gw1\"\ndelegated_prefix_len = \n",
        ),
        (
            "doorstep-server",
            &["run"],
            "operator = \"n\"\nlisten = \"here\"\n",
        ),
        (
            "doorstep-server",
            &["keys", "show"],
            "operator = \"n\"\nport = 1\n",
        ),
        (
            "doorstep-terminal",
            &["run"],
            "state_dir = \"s\"\nwan = 5\n",
        ),
    ] {
        std::fs::write(&file, text)?;
        let said = refused(binary, words, &file)?;
        ensure!(said.contains("bad.toml"), "{binary}: no file in {said:?}");
        ensure!(
            said.contains("bad.toml:2:") || said.contains("line 2, column"),
            "{binary}: no place in {said:?}"
        );
        let said = refused(binary, words, &dir.path().join("absent.toml"))?;
        ensure!(said.contains("absent.toml"), "{binary}: {said:?}");
    }
    Ok(())
}

pub fn inventories() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let gateway = &street.gateways[0];
    let folder = gateway.config.parent().expect("a folder");
    std::fs::write(
        folder.join("inventory.csv"),
        "location,port,s_vlan,c_vlan\n\
         110103-xinjingjiayuan-001-002-004,access0,101,1004\n\
         110103-xinjingjiayuan-001-002-005,access0,101,1004\n\
         110103-xinjingjiayuan-001-002-004,access0,101,1006\n\
         110103-XIN-001-002-007,access0,101,1007\n\
         110103-xinjingjiayuan-001-002-008,access9,101,1008\n\
         110103-xinjingjiayuan-001-002-009,access0,101,4095\n",
    )?;
    let mut check = gateway.netns.command(bin_dir()?.join("doorstep-gateway"))?;
    let output = check
        .args(["check", "--config"])
        .arg(&gateway.config)
        .output()?;
    ensure!(output.status.code() == Some(3), "{}", output.status);
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    for line in 3..=7 {
        ensure!(
            said.contains(&format!("inventory.csv:{line}:")),
            "line {line} is not in {said}"
        );
    }
    // The daemon that runs has not noticed.
    connect(&street, 0).map(drop)
}

pub fn certificates() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let gateway = &street.gateways[0];
    let config = std::fs::read_to_string(&gateway.config)?;

    // A certificate for another name, one of another authority, and a file that is none.
    let folder = street.dir().join("impostor");
    std::fs::create_dir(&folder)?;
    street.operators[0].issue("gw9", &folder)?;
    let host = Netns::new("impostor")?;
    cable((&host, "access0"), (&host, "access1"))?;
    cable((&host, "uplink0"), (&host, "uplink1"))?;
    street.join_mgmt(&host, 200)?;
    std::fs::copy(
        gateway.config.with_file_name("inventory.csv"),
        folder.join("inventory.csv"),
    )?;
    let bpffs = gateway.config.with_file_name("bpf");
    let text = config
        .replace("op0/ca.pem", "ca.pem")
        .replace(
            "cert = \"op0/gw1.pem\"",
            "cert = \"gw9.pem\"\nkey = \"gw9.key\"",
        )
        .replace("bpf/doorstep", &format!("{}/impostor", bpffs.display()));
    let file = folder.join("gateway.toml");
    std::fs::write(&file, &text)?;
    let impostor = Daemon::start(
        "doorstep-gateway",
        &host,
        &file,
        &folder.join("gateway.sock"),
    )?;
    let said = last_error(&impostor)?;
    ensure!(
        said.contains("gw1") || said.contains("certificate"),
        "{said}"
    );
    impostor.stop()?;

    std::fs::write(folder.join("gw9.pem"), "not a certificate")?;
    let mut broken = host.command(bin_dir()?.join("doorstep-gateway"))?;
    let output = broken.args(["check", "--config"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(3) && said.contains("gw9.pem"),
        "{said}"
    );

    flows(&street, &street.homes[0], &session)
}

/// Why a gateway has no stream, once it says so.
fn last_error(gateway: &Daemon) -> Result<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let status: serde_json::Value = gateway.ask_json(&["status"])?;
        let server = &status["servers"][0];
        ensure!(server["connected"] == false, "the server took it: {status}");
        if let Some(error) = server["last_error"].as_str() {
            return Ok(error.to_owned());
        }
        ensure!(Instant::now() < end, "no error is shown: {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Frames of noise, and noise where establishment replies are expected.
pub fn frames() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let gateway_mac = mac(&street.gateways[0].netns, "access0")?;
    let home_mac = mac(&street.homes[0].netns, "wan0")?;
    let mut rng = StdRng::seed_from_u64(0xbad);
    let mut noise = Vec::new();
    for _ in 0..2000 {
        let mut frame = vec![0; rng.random_range(14..1514)];
        rng.fill_bytes(&mut frame);
        if rng.random() {
            frame[..6].copy_from_slice(&gateway_mac);
            frame[6..12].copy_from_slice(&home_mac);
            frame[12..14].copy_from_slice(&[0x08, 0x00]);
        }
        noise.push(frame);
    }
    let ether = Ether {
        source: home_mac,
        destination: gateway_mac,
        tags: &[],
    };
    let link_local = doorstep_establish::Mac(home_mac).link_local().octets();
    let gateway = doorstep_establish::GATEWAY_LINK_LOCAL.octets();
    for _ in 0..200 {
        let mut frame = udp_v6_to(
            ether,
            link_local,
            gateway,
            255,
            doorstep_establish::UDP_PORT,
        );
        let at = frame.len() - 8;
        rng.fill_bytes(&mut frame[at..]);
        noise.push(frame);
    }
    // Some of it the building's bridge refuses; what comes must be seen, and dropped by name.
    let before = packets(&street.gateways[0])?;
    send_frames(&street.homes[0].netns, "wan0", noise)?;
    let end = Instant::now() + Duration::from_secs(10);
    for reason in ["bad_ipv4", "punt_establish"] {
        let seen = || -> Result<u64> { Ok(packets(&street.gateways[0])?[reason] - before[reason]) };
        while seen()? < 20 {
            ensure!(
                Instant::now() < end,
                "only {} frames under {reason}",
                seen()?
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // The same toward the home.
    let mut noise = vec![vec![0; 200]; 200];
    for frame in &mut noise {
        rng.fill_bytes(frame);
        frame[..6].copy_from_slice(&home_mac);
    }
    send_frames(&street.street, "home0", noise)?;
    flows(&street, &street.homes[0], &session)?;
    street.homes[0].release(&session.session_id)
}
