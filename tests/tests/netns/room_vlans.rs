//! Rooms behind a managed switch or access point: VLANs of one port of the terminal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Home, Plan, Street};
use doorstep_tests::lab::traffic::{answers, download, ping};
use doorstep_tests::suite::CaseResult;
use serde_json::Value;

use crate::support::{connect, needs_vlan_links};

/// What an emulated machine may take to repair a link.
const PATIENCE: Duration = Duration::from_secs(30);

/// One room is a VLAN of the first port, another one a VLAN with a network of its own, and what is
/// untagged there is nobody's.
pub fn tagged() -> CaseResult {
    needs_vlan_links()?;
    let street = Street::new(Plan {
        rooms: 2,
        ..Plan::default()
    })?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0];
    let before = home.netns.ip("-o link show")?;
    let file = tagged_rooms(home)?;

    // Told, taken back, and taken up.
    let told: Value = home.terminal.ask_json(&["apply", "--dry-run", &file])?;
    let told = told["links"].to_string();
    for link in ["VLAN 20 on room0", "VLAN 30 on room0"] {
        ensure!(told.contains(link), "{link}: {told}");
    }
    ensure!(
        home.netns.ip("-o link show")? == before,
        "a dry run changes links"
    );
    home.terminal.ask(&["apply", "--confirm", "60s", &file])?;
    ensure!(home.netns.ip("-o link show room0.20")?.contains("br-home"));
    home.terminal.ask(&["confirm", "--refuse"])?;
    let links = home.netns.ip("-o link show")?;
    ensure!(!links.contains("room0.20"), "{links}");
    home.terminal.ask(&["apply", &file])?;

    let device = &home.rooms[0];
    for (vlan, network) in [(20, "192.168.77"), (30, "192.168.78")] {
        let link = format!("eth0.{vlan}");
        device.ip(&format!(
            "link add link eth0 name {link} type vlan id {vlan}"
        ))?;
        device.ip(&format!("addr add {network}.10/24 dev {link}"))?;
        device.ip(&format!("link set {link} up"))?;
        device.ip(&format!("route add default via {network}.1"))?;
        reaches_the_world(&street, device)?;
        device.ip(&format!("route del default via {network}.1"))?;
    }
    device.ip("route add default via 192.168.77.1")?;
    // An untagged room beside them, on the same bridge.
    home.rooms[1].ip("addr add 192.168.77.11/24 dev eth0")?;
    ping(&home.rooms[1], None, "192.168.77.10".parse()?, 3)?;
    ping(device, None, "192.168.77.11".parse()?, 3)?;
    untagged_is_nobodys(&street, device)?;

    // Deleted by hand, it comes back.
    home.netns.ip("link del room0.20")?;
    let deleted = Instant::now();
    while !home.netns.ip("-o link show")?.contains("room0.20@room0") {
        ensure!(deleted.elapsed() < PATIENCE, "{}", home.terminal.log_tail());
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("room0.20: there again after {:?}", deleted.elapsed());
    reaches_the_world(&street, device).with_context(|| home.terminal.log_tail())?;

    home.release(&session.session_id)?;
    let links = home.netns.ip("-o link show")?;
    ensure!(!links.contains("room0."), "{links}");
    Ok(())
}

/// A configuration in which the first room's port carries VLANs; its file.
fn tagged_rooms(home: &Home) -> Result<String> {
    let text = std::fs::read_to_string(&home.config)?;
    let joined = "[\"room0\", \"room1\"]";
    ensure!(text.contains(joined), "{text}");
    let operator =
        "\n[home.rooms.\"room0.30\"]\nsession = \"default\"\nipv4 = \"192.168.78.1/24\"\n";
    let text = text.replace(joined, "[\"room0.20\", \"room1\"]") + operator;
    let file = home.config.with_file_name("tagged.toml");
    std::fs::write(&file, text)?;
    Ok(file.to_string_lossy().into_owned())
}

fn reaches_the_world(street: &Street, device: &Netns) -> Result<()> {
    ping(device, None, street.echo(false).ip(), 3)?;
    download(device, street.http(false), None, 1_000_000, |_| {}).map(drop)
}

/// Without a tag there is no way to the world.
fn untagged_is_nobodys(street: &Street, device: &Netns) -> Result<()> {
    let world = street.echo(false).ip();
    device.ip("addr add 192.168.77.12/32 dev eth0")?;
    let way = format!("route add {world}/32 via 192.168.77.1 dev eth0 onlink src 192.168.77.12");
    device.ip(&way)?;
    let answered = answers(device, None, world)?;
    ensure!(!answered, "what is untagged has a way");
    device.ip("addr del 192.168.77.12/32 dev eth0").map(drop)
}
