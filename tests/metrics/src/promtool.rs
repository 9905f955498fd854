//! Debian's `promtool`, where it is.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where `cargo xtask setup` unpacks it, below the target folder.
const UNPACKED: &str = "tools/prometheus/usr/bin";

/// Runs it on a text: whether it is content, and what it says. None, and a word about it, where it is
/// not on this host.
///
/// # Panics
///
/// If it is there and cannot be run.
#[expect(clippy::print_stdout, reason = "tests say whether it has looked")]
#[must_use]
pub fn run(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let Some(program) = program() else {
        println!(
            "promtool is not on this host, so it has not looked: `cargo xtask setup` brings it"
        );
        return None;
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut pipe = child.stdin.take().expect("its standard input");
    pipe.write_all(input.as_bytes()).expect("it reads");
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let told = [&output.stdout[..], &output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    println!("promtool {} has looked", arguments.join(" "));
    Some((output.status.success(), told))
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let own = std::env::current_exe().ok()?;
    let unpacked = own.ancestors().map(|folder| folder.join(UNPACKED));
    let mut files = folders
        .chain(unpacked)
        .map(|folder| folder.join("promtool"));
    files.find(|file| file.is_file())
}
