//! An operator that gives IPv6 only.

use anyhow::{Result, ensure};
use doorstep_tests::lab::street::{Plan, Street};
use doorstep_tests::lab::traffic::{answers, download, ping};
use doorstep_tests::suite::CaseResult;

use crate::support::{at_server, silent};

/// A street whose operator has no IPv4 addresses to give.
fn street() -> Result<Street> {
    let mut street = Street::new(Plan::default())?;
    let file = &street.operators[0].config;
    let text = std::fs::read_to_string(file)?;
    let without = text.lines().filter(|line| !line.starts_with("ipv4_"));
    let without: Vec<&str> = without.collect();
    ensure!(without.len() + 2 == text.lines().count(), "{text}");
    std::fs::write(file, without.join("\n") + "\n")?;
    street.operators[0].server.stop()?;
    street.restart_server()?;
    Ok(street)
}

/// A terminal's session is one as any other. A router's, which DHCPv4 would find, is refused by name.
pub fn sessions() -> CaseResult {
    let street = street()?;
    let home = &street.homes[0];
    home.register()?;
    let session = home.request(&street.seal(0, 0)?)?;
    ensure!(session.ipv4_address.is_none(), "{session:?}");
    let own = session.v6()?;
    ping(&home.netns, Some(own), street.echo(true).ip(), 3)?;
    download(&home.netns, street.http(true), Some(own), 1_000_000, |_| {})?;
    ping(&street.inet, None, own, 3)?;
    ensure!(
        !answers(&home.netns, None, street.echo(false).ip())?,
        "IPv4 without an address"
    );
    let shown = at_server(street.server(), &session.session_id)?;
    ensure!(
        shown["ipv4_address"].as_str().is_none_or(str::is_empty),
        "{shown}"
    );

    let all: serde_json::Value = street.server().ask_json(&["subscribers"])?;
    let subscriber = all["subscribers"][0]["subscriber_id"]
        .as_str()
        .unwrap_or_default();
    let location = street.location(0, 0);
    let words = ["sessions", "connect", &location, "--subscriber", subscriber];
    let words = [&words[..], &["--additional", "--establishment", "dhcp"]].concat();
    let said = street.server().refuse(&words)?;
    ensure!(
        said.contains("gw1 has no ipv4_pool, of which DHCP gives addresses"),
        "{said}"
    );

    home.release(&session.session_id)?;
    silent(&street.inet, street.echo(true).ip(), own)
}
