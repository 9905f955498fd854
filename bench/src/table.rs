//! The result for people.

use std::fmt::{self, Display, Formatter};

use crate::report::Report;
use crate::rows::Row;

/// The report as text.
pub struct Table<'r>(pub &'r Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        throughput(f, report)?;
        verdicts(f, report)?;
        control(f, report)?;
        headline(f, report)
    }
}

fn throughput(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(
        f,
        "\n{:<22}{:>6}{:>10}{:>8}{:>16}{:>11}",
        "way", "size", "sessions", "Mpps", "slowest–fastest", "ns/packet"
    )?;
    for row in &report.rows {
        let Row {
            way,
            size,
            sessions,
            mpps,
            mpps_min,
            mpps_max,
            ns_per_packet,
            ..
        } = row;
        let range = format!("{mpps_min:.2}–{mpps_max:.2}");
        writeln!(
            f,
            "{:<22}{:>6}{sessions:>10}{mpps:>8.2}{range:>16}{ns_per_packet:>11.0}",
            way.name(),
            size.name()
        )?;
    }
    if !report.gateway_polices {
        writeln!(
            f,
            "The gateway does not police yet: its policed rows are like the others."
        )?;
    }
    for (row, why) in report.failed() {
        writeln!(
            f,
            "FAILED: {}, {}, {} sessions: {why}",
            row.way.name(),
            row.size.name(),
            row.sessions
        )?;
    }
    Ok(())
}

fn verdicts(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f, "\n{:<36}{:<22}{:>8}", "verdict", "counted as", "ns")?;
    for verdict in &report.verdicts {
        writeln!(
            f,
            "{:<36}{:<22}{:>8.1}",
            verdict.case, verdict.reason, verdict.ns
        )?;
    }
    Ok(())
}

fn control(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let control = &report.control;
    writeln!(
        f,
        "\n{} sessions: {:.0} per second at one go, {:.0} with making the plan, {:.0} singly",
        control.sessions,
        control.sessions_per_s,
        control.sessions_per_s_with_plan,
        control.sessions_per_s_singly
    )?;
    writeln!(
        f,
        "kernel memory: {:.0} bytes per session; MemAvailable fell by {:.0}",
        control.memory.bytes_per_session,
        control
            .memory
            .available_fell_by_bytes_per_session
            .unwrap_or(f64::NAN)
    )?;
    let receipt = &control.receipt;
    writeln!(
        f,
        "closing a session: {:.0} µs, {:.0} at the 99th percentile of {}",
        receipt.us_p50, receipt.us_p99, receipt.closed
    )
}

fn headline(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f)?;
    for (name, value, target) in [
        (
            "upstream_vs_redirect_1k",
            report.upstream_vs_redirect_1k,
            "≥ 0.75",
        ),
        (
            "downstream_vs_redirect_1k",
            report.downstream_vs_redirect_1k,
            "≥ 0.75",
        ),
        (
            "upstream_vs_redirect_1m",
            report.upstream_vs_redirect_1m,
            "≥ 0.38",
        ),
        (
            "downstream_vs_redirect_1m",
            report.downstream_vs_redirect_1m,
            "≥ 0.38",
        ),
        ("upstream_vs_kernel", report.upstream_vs_kernel, "≥ 2.5"),
        (
            "upstream_cost_1m_vs_1k",
            report.upstream_cost_1m_vs_1k,
            "≤ 2.2",
        ),
        (
            "downstream_cost_1m_vs_1k",
            report.downstream_cost_1m_vs_1k,
            "≤ 2.2",
        ),
        ("sessions_per_s", Some(report.sessions_per_s), "≥ 100000"),
        (
            "kernel_bytes_per_session",
            Some(report.kernel_bytes_per_session),
            "≤ 1024",
        ),
        ("receipt_us_p99", Some(report.receipt_us_p99), ""),
    ] {
        match value {
            Some(value) => writeln!(f, "{name:<28}{value:>12.2}   {target}")?,
            None => writeln!(f, "{name:<28}{:>12}   {target}", "–")?,
        }
    }
    Ok(())
}
