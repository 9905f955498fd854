//! A network namespace of the test's own, with the two ends of a line and of two room cables.

pub mod connected;
pub mod declared;
pub mod home;
pub mod online;
pub mod operator;
pub mod room;

use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Runs `test` on a thread in a new network namespace, which ends with the thread. Where that is
/// not possible the reason is printed and the test is skipped.
pub fn in_namespace<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: {name}: needs root");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("skipped: {name}: needs ip (iproute2)");
        return;
    }
    let thread = thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
        ip("link set lo up");
        for (ours, theirs) in [("wan0", "gw0"), ("room0", "tv0"), ("room1", "pc1")] {
            ip(&format!("link add {ours} type veth peer name {theirs}"));
        }
        ip("link set wan0 up");
        ip("link set gw0 up");
        wait_for_link_local(&["wan0", "gw0"]);
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until the kernel, which notices a carrier in its own time, has given each link its
/// link-local address: later it would look like a change of the test's.
fn wait_for_link_local(links: &[&str]) {
    let end = Instant::now() + Duration::from_secs(60);
    for link in links {
        while !ip(&format!("-6 addr show dev {link} scope link -tentative")).contains("fe80::") {
            assert!(Instant::now() < end, "{link} gets no link-local address");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .unwrap();
    stdout(words, output)
}

fn stdout(what: &str, output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that the terminal could have changed.
pub fn dump() -> String {
    let mut out = String::new();
    for words in [
        "-j addr",
        "-j -4 route show table all",
        "-j -6 route show table all",
        "-j -4 rule",
        "-j -6 rule",
        "-j neigh show nud permanent",
    ] {
        let mut json: Value = serde_json::from_str(&ip(words)).unwrap_or_default();
        forget_ephemeral(&mut json);
        for line in json.as_array().into_iter().flatten() {
            // The kernel adds it by itself to whatever has been up once.
            if line["dst"] != "ff00::/8" {
                out.push_str(&format!("{words}: {line}\n"));
            }
        }
    }
    for path in [
        "ipv4/conf/wan0/forwarding",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/wan0/accept_ra",
    ] {
        let value = std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap();
        out.push_str(&format!("{path} = {value}"));
    }
    let nft = Command::new("nft").args(["list", "tables"]).output();
    out.push_str(
        &nft.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default(),
    );
    out
}

/// Everything is as it was, or the lines that are not are shown.
#[track_caller]
pub fn assert_unchanged(before: &str, what: &str) {
    let now = dump();
    let missing: Vec<_> = before
        .lines()
        .filter(|line| !now.lines().any(|l| l == *line))
        .collect();
    let extra: Vec<_> = now
        .lines()
        .filter(|line| !before.lines().any(|l| l == *line))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{what}\nmissing:\n{}\nextra:\n{}",
        missing.join("\n"),
        extra.join("\n")
    );
}

/// Fields that change by themselves.
fn forget_ephemeral(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(forget_ephemeral),
        Value::Object(fields) => {
            fields.retain(|name, _| !["operstate", "qdisc", "used"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_ephemeral);
        }
        _ => {}
    }
}

/// Whether `nft` is there.
pub fn has_nft() -> bool {
    Command::new("nft").arg("-v").output().is_ok()
}
