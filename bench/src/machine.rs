//! Where and when it was measured.

use anyhow::Result;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// UTC, RFC 3339.
    pub date: String,
    pub kernel: String,
    pub architecture: String,
    /// CPUs that are online.
    pub cpus: usize,
    pub cpu_model: String,
    /// The CPU that everything is measured on, if it is one.
    pub measured_on_cpu: Option<usize>,
    /// Main memory in bytes.
    pub memory_bytes: u64,
    /// Bits of `/proc/sys/net/core/bpf_jit_*`, as they stand there.
    pub bpf_jit_enable: Option<String>,
    pub bpf_jit_harden: Option<String>,
    /// Load average of the last minute at the start: other work on the machine shows here.
    pub load_average: Option<f64>,
}

impl Machine {
    pub fn read(measured_on_cpu: Option<usize>) -> Result<Self> {
        let system = nix::sys::utsname::uname()?;
        let text = |path: &str| std::fs::read_to_string(path).ok();
        let setting = |name: &str| {
            text(&format!("/proc/sys/net/core/{name}")).map(|value| value.trim().to_owned())
        };
        let cpuinfo = text("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let load = text("/proc/loadavg");
        Ok(Self {
            date: OffsetDateTime::now_utc().format(&Rfc3339)?,
            kernel: system.release().to_string_lossy().into_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            cpus: online_cpus()?.len(),
            cpu_model: model.to_owned(),
            measured_on_cpu,
            memory_bytes: memory_kib("MemTotal").unwrap_or(0) * 1024,
            bpf_jit_enable: setting("bpf_jit_enable"),
            bpf_jit_harden: setting("bpf_jit_harden"),
            load_average: load.and_then(|load| load.split(' ').next()?.parse().ok()),
        })
    }
}

/// The CPUs of this host.
pub fn online_cpus() -> Result<Vec<u32>> {
    aya::util::online_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))
}

/// A line of `/proc/meminfo`, in KiB.
pub fn memory_kib(name: &str) -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}
