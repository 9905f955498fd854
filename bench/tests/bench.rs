//! The benchmarks with few packets and subscribers: that they run, lose none, and tell all that they
//! should. What they measure is not looked at.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use doorstep_tests::lab::cleanup::{self, Folder};
use doorstep_tests::lab::netns::run;
use doorstep_tests::suite::{self, Case, CaseResult, Suite};
use serde_json::Value;

fn main() -> ExitCode {
    cleanup::on_signals();
    suite::main(Suite {
        each_kernel: &[],
        newer_kernels: &[],
        any_kernel: &[
            Case {
                name: "control::smoke",
                run: control,
            },
            Case {
                name: "dataplane::smoke",
                run: dataplane,
            },
            Case {
                name: "dhcp::smoke",
                run: dhcp,
            },
            Case {
                name: "hitless::smoke",
                run: hitless,
            },
            Case {
                name: "switch::smoke",
                run: switch,
            },
        ],
    })
}

const ROUNDS: usize = 1;
const PACKETS: u64 = 20_000;
const SESSIONS: [u64; 2] = [1, 1_000];
/// Ways, times sizes, times numbers of sessions.
const ROWS: usize = 6 * 2 * SESSIONS.len();

fn dataplane() -> CaseResult {
    let folder = Folder::new()?;
    let (json, plot) = (
        folder.path().join("bench.json"),
        folder.path().join("bench.svg"),
    );
    let mut bench = Command::new(env!("CARGO_BIN_EXE_doorstep-bench"));
    bench
        .args(["dataplane", "--rounds", &ROUNDS.to_string()])
        .args(["--packets", &PACKETS.to_string()])
        .args(["--sessions", &SESSIONS.map(|n| n.to_string()).join(",")])
        .args(["--receipts", "20"])
        .arg("--json")
        .arg(&json)
        .arg("--plot")
        .arg(&plot);
    run(&mut bench)?;

    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    for field in [
        "upstream_vs_redirect_1k",
        "downstream_vs_redirect_1k",
        "upstream_vs_kernel",
        "sessions_per_s",
        "kernel_bytes_per_session",
        "receipt_us_p99",
    ] {
        let value = report[field].as_f64();
        ensure!(value.is_some_and(|value| value > 0.0), "{field}: {value:?}");
    }
    for field in ["upstream_vs_redirect_1m", "downstream_vs_redirect_1m"] {
        let absent = report.get(field).is_some_and(Value::is_null);
        ensure!(absent, "{field} was not measured, and is not null");
    }
    let rows = report["rows"].as_array().context("rows")?;
    ensure!(rows.len() == ROWS, "{} rows, not {ROWS}", rows.len());
    for row in rows {
        check_row(row).with_context(|| format!("{row}"))?;
    }
    let closed = report["control"]["receipt"]["closed"].as_u64();
    ensure!(closed == Some(20), "{closed:?} sessions closed");
    let svg = std::fs::read_to_string(&plot)?;
    ensure!(svg.matches("<polyline").count() == 12, "lines are missing");
    Ok(())
}

/// That every packet arrived as the row's way makes it.
fn check_row(row: &Value) -> CaseResult {
    let way = row["way"].as_str().context("way")?;
    ensure!(row["failed"].is_null());
    ensure!(row["generated"].as_u64() == Some(PACKETS * ROUNDS as u64));
    ensure!(row["rounds"].as_array().map(Vec::len) == Some(ROUNDS));
    // Two tags less, two tags more, or as it was; the host's own packets may be among them.
    let small = match way {
        "upstream" | "upstream_policed" => 52.0,
        "downstream" | "downstream_policed" => 68.0,
        _ => 60.0,
    };
    if row["size"] == "64" {
        let bytes = row["arrived_bytes_per_packet"].as_f64();
        let bytes = bytes.context("arrived_bytes_per_packet")?;
        ensure!((bytes - small).abs() < 0.5, "{bytes} bytes on average");
    }
    let forwarded = match way.split('_').next() {
        Some("upstream") => "forwarded_upstream",
        Some("downstream") => "forwarded_downstream",
        _ => return Ok(()),
    };
    let counted = row["reasons"][forwarded].as_u64();
    // A thousandth may be lost before it is counted.
    let least = PACKETS - PACKETS / 1_000;
    ensure!(counted.is_some_and(|counted| counted >= least));
    Ok(())
}

/// That every router gets its address and its prefix.
fn dhcp() -> CaseResult {
    const LINES: u64 = 200;
    let folder = Folder::new()?;
    let json = folder.path().join("dhcp.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_doorstep-bench"));
    bench
        .args(["dhcp", "--lines", &LINES.to_string(), "--seconds", "1"])
        .args(["--at-most", "500", "--in-flight", "16", "--json"])
        .arg(&json);
    run(&mut bench)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    for field in ["dora_per_s", "p99_ms", "daemon_rss_mib"] {
        let value = report[field].as_f64();
        ensure!(value.is_some_and(|value| value > 0.0), "{field}: {value:?}");
    }
    ensure!(report["lines"] == LINES, "{report}");
    for all in ["first", "first_at_half", "delegation"] {
        ensure!(report[all]["exchanges"] == LINES, "{all}: {report}");
    }
    Ok(())
}

/// On both databases; and that nothing is lost when the server is killed.
fn control() -> CaseResult {
    let folder = Folder::new()?;
    let json = folder.path().join("control.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_doorstep-bench"));
    bench
        .args(["control", "--seconds", "1", "--in-flight", "4"])
        .args(["--gateways", "8", "--subscribers", "80"])
        .args(["--kills", "2", "--kill-gateways", "4"])
        .args(["--kill-subscribers", "16", "--json"])
        .arg(&json);
    run(&mut bench)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    ensure!(report["holds"] == true, "{report}");
    for field in [
        "moves_per_s_postgres",
        "moves_per_s_sqlite",
        "move_p99_ms_postgres",
        "move_p99_ms_sqlite",
        "overload_of_peak",
        "streams_up_s",
        "bytes_per_stream",
        "acks_per_s",
        "restart_back_s",
    ] {
        let value = report[field].as_f64();
        ensure!(value.is_some_and(|value| value > 0.0), "{field}: {value:?}");
    }
    ensure!(report["streams"] == 8, "{report}");
    for database in ["sqlite", "postgres"] {
        let found = &report["databases"][database];
        let kills = &found["kill9"];
        let acknowledged = kills["acknowledged"].as_u64();
        ensure!(acknowledged.is_some_and(|moves| moves >= 16), "{kills}");
        ensure!(found["restart"]["instructions"] == 0, "{found}");
        ensure!(found["acks"]["instructions"] == 80, "{found}");
    }
    Ok(())
}

fn hitless() -> CaseResult {
    let folder = Folder::new()?;
    let json = folder.path().join("hitless.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_doorstep-bench"));
    bench
        .args([
            "hitless",
            "--kills",
            "1",
            "--upgrades",
            "1",
            "--refusals",
            "1",
        ])
        .args(["--rate", "2000", "--at-least", "0", "--json"])
        .arg(&json);
    run(&mut bench)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    ensure!(report["holds"] == true, "{report}");
    for nothing in ["packets_lost", "packets_miscounted", "entries_changed"] {
        ensure!(report[nothing] == 0, "{nothing}: {report}");
    }
    for something in ["packets_sent", "packets_per_s"] {
        let value = report[something].as_f64();
        ensure!(
            value.is_some_and(|value| value > 100.0),
            "{something}: {report}"
        );
    }
    Ok(())
}

fn switch() -> CaseResult {
    let folder = Folder::new()?;
    let json = folder.path().join("switch.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_doorstep-bench"));
    bench.args(["switch", "--times", "1", "--json"]).arg(&json);
    run(&mut bench)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    ensure!(report["holds"] == true, "{report}");
    for way in ["switch", "end_and_begin"] {
        let pings = report[way]["pings"].as_u64();
        ensure!(pings.is_some_and(|pings| pings > 50), "{way}: {report}");
        let longest = report[way]["longest_ms_max"].as_f64();
        ensure!(longest.is_some_and(|ms| ms > 0.0), "{way}: {report}");
    }
    Ok(())
}
