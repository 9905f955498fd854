//! Address translation of the rooms, through `nft`.

use std::fmt::Write as _;
use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::NatRule;

const TABLE: &str = "doorstep_terminal";

/// Replaces the table in one transaction.
pub(super) async fn make(rules: &[NatRule]) -> io::Result<()> {
    // Declaring it first makes the deletion succeed whether or not it exists.
    let mut script = format!("table ip {TABLE}\ndelete table ip {TABLE}\n");
    let chain = "type nat hook postrouting priority srcnat; policy accept;";
    let _ = writeln!(script, "table ip {TABLE} {{\n chain rooms {{\n  {chain}");
    for NatRule { source, link, to } in rules {
        let _ = writeln!(
            script,
            "  ip saddr {source} oifname \"{link}\" snat to {to}"
        );
    }
    script.push_str(" }\n}\n");
    run(&script).await
}

/// Deletes the table, whether or not it exists.
pub(super) async fn undo() -> io::Result<()> {
    run(&format!("table ip {TABLE}\ndelete table ip {TABLE}\n")).await
}

async fn run(script: &str) -> io::Result<()> {
    let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    let nft = nft
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .unwrap_or("nft");
    let spawned = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.map_err(|error| {
        let next = "install nftables, or set masquerade = false in [home]";
        io::Error::new(error.kind(), format!("cannot run nft: {error}; {next}"))
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "nft: {}",
        said.lines().next().unwrap_or("failed")
    )))
}
