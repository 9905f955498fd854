//! The kernel and what this process may ask of it.

use std::fs;
use std::path::Path;

use aya::programs::ProgramType;
use aya::sys::is_program_supported;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Report;

/// linux/capability.h
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
/// `bpf_xdp_load_bytes`, the youngest thing that the programs need.
const OLDEST: (u32, u32) = (5, 18);
/// The oldest kernel that the project is tested on.
const TESTED: (u32, u32) = (6, 1);

pub(super) fn check(report: &mut Report) {
    kernel(report);
    capabilities(report);
    programs(report);
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
        Ok(text) if text.trim() == "0" => report.warn(
            "BPF JIT",
            "off: programs are interpreted; sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(_) => report.ok("BPF JIT", "on"),
        // A kernel with the JIT always on may not show the setting.
        Err(_) => report.ok("BPF JIT", "the kernel does not show the setting"),
    }
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        report.ok("BTF", "/sys/kernel/btf/vmlinux");
    } else {
        report.warn(
            "BTF",
            "the kernel has none; the programs work, but bpftool shows their maps without types",
        );
    }
}

fn kernel(report: &mut Report) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim_end();
    match version(release) {
        Some(version) if version < OLDEST => {
            report.fail("kernel", format_args!("{release}: 5.18 or newer is needed"))
        }
        Some(version) if version < TESTED => report.warn(
            "kernel",
            format_args!("{release}: not tested; 6.1 or newer is"),
        ),
        Some(_) => report.ok("kernel", release),
        None => report.warn("kernel", format_args!("'{release}' is no version")),
    }
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn capabilities(report: &mut Report) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(effective) = effective(&status) else {
        return report.warn("capabilities", "/proc/self/status does not tell them");
    };
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
        .collect();
    if missing.is_empty() {
        report.ok(
            "capabilities",
            CAPABILITIES.map(|(_, name)| name).join(", "),
        );
    } else {
        report.fail(
            "capabilities",
            format_args!(
                "{} missing: run as root, or grant them (systemd: AmbientCapabilities=)",
                missing.join(", ")
            ),
        );
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn programs(report: &mut Report) {
    for (kind, name) in [
        (ProgramType::Xdp, "XDP programs"),
        (ProgramType::SchedClassifier, "TC programs"),
    ] {
        match is_program_supported(kind) {
            Ok(true) => report.ok(name, "the kernel loads them"),
            Ok(false) => report.fail(
                name,
                "the kernel has no support: CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF are needed",
            ),
            Err(error) => report.fail(
                name,
                format_args!("cannot try ({error}); run this check with the capabilities above"),
            ),
        }
    }
}

pub(super) fn check_pins(report: &mut Report, path: &Path) {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    let on_bpffs = existing
        .and_then(|existing| statfs(existing).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if on_bpffs {
        return report.ok("BPF file system", path.display());
    }
    let mount = path.parent().unwrap_or(path).display();
    report.fail(
        "BPF file system",
        format_args!(
            "{} is not on one; mount one: mount -t bpf bpf {mount}",
            path.display()
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases() {
        for (release, expected) in [
            ("6.12.41+deb13-cloud-amd64", Some((6, 12))),
            ("5.4.0-200-generic", Some((5, 4))),
            ("7.0", Some((7, 0))),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn effective_capabilities() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapEff:\tx\n"), None);
        assert_eq!(effective(""), None);
    }

    #[test]
    fn a_path_that_is_not_on_a_bpf_file_system() {
        let mut report = Report::default();
        check_pins(&mut report, Path::new("/proc/doorstep"));
        assert!(report.failed());
        assert!(report.checks[0].detail.contains("mount -t bpf bpf /proc"));
    }
}
