//! What only the kernel can answer, through tags and back.

use std::process::Command;

use anyhow::ensure;
use doorstep_tests::lab::netns::Netns;
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::ping;
use doorstep_tests::suite::CaseResult;

use crate::support::{connect, counted};

pub fn gateway_answers() -> CaseResult {
    let street = Street::new(Plan::default())?;
    let session = connect(&street, 0)?;
    let home = &street.homes[0].netns;
    let egress = counted(&street.gateways[0], "egress_to_line", || {
        ping(home, Some(session.v4()?), "100.64.1.1".parse()?, 5)
    })?;
    ensure!(egress == 5, "{egress} answers went through TC");
    Ok(())
}

pub fn time_exceeded() -> CaseResult {
    let street = Street::new(Plan::default())?;
    connect(&street, 0)?;
    for (v6, text) in [(false, "Time to live exceeded"), (true, "Hop limit")] {
        let said = ping_once(&street.homes[0].netns, &street.echo(v6).ip().to_string())?;
        ensure!(said.contains(text), "{said}");
    }
    let [from_home, to_home] = ["kernel_upstream", "egress_to_line"];
    let home = &street.homes[0].netns;
    for reason in [from_home, to_home] {
        let packets = counted(&street.gateways[0], reason, || {
            ping_once(home, &street.echo(false).ip().to_string()).map(drop)
        })?;
        ensure!(packets == 1, "{packets} under {reason}");
    }
    Ok(())
}

/// One ping that dies at the gateway; what `ping` says of it.
fn ping_once(netns: &Netns, target: &str) -> anyhow::Result<String> {
    let mut command: Command = netns.command("ping")?;
    let output = command
        .args(["-n", "-c", "1", "-W", "2", "-t", "1", target])
        .output()?;
    ensure!(!output.status.success(), "it was answered");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
