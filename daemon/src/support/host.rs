//! What kind of host it is.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::shape::{Picking, Shape};

/// Settings of the kernel that decide about forwarding and BPF.
const SETTINGS: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/core/bpf_jit_enable",
    "net/core/bpf_jit_harden",
    "net/core/netdev_max_backlog",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/neigh/default/gc_thresh3",
    "kernel/unprivileged_bpf_disabled",
    "vm/overcommit_memory",
];
const SHAPE: Shape = Shape::Fields(&[
    ("kernel", Shape::Name),
    ("architecture", Shape::Name),
    ("distribution", Shape::Name),
    ("distribution_version", Shape::Name),
    ("cpus", Shape::Number),
    ("memory_kib", Shape::Number),
    ("memory_available_kib", Shape::Number),
    ("up_s", Shape::Number),
    ("load", Shape::Each(&Shape::Number)),
    ("btf", Shape::Flag),
    ("settings", Shape::ByName(&Shape::Number)),
]);

/// The host's facts.
pub fn facts(picking: &mut Picking) -> Value {
    let release = read("/etc/os-release");
    let os = |key: &str| line(&release, key, '=').map(|value| value.trim_matches('"').to_owned());
    let memory = read("/proc/meminfo");
    let kib = |key: &str| {
        let value = line(&memory, key, ':')?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    let up = read("/proc/uptime");
    let load = read("/proc/loadavg");
    let load: Vec<f64> = load
        .split_whitespace()
        .take(3)
        .filter_map(|text| text.parse().ok())
        .collect();
    let settings: Map<String, Value> = SETTINGS
        .iter()
        .map(|name| {
            let value = read(Path::new("/proc/sys").join(name));
            let value = value.trim().parse::<i64>().ok();
            (name.replace('/', "."), json!(value))
        })
        .collect();
    let facts = json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "architecture": std::env::consts::ARCH,
        "distribution": os("ID"),
        "distribution_version": os("VERSION_ID"),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_kib": kib("MemTotal"),
        "memory_available_kib": kib("MemAvailable"),
        "up_s": up.split('.').next().and_then(|text| text.parse::<u64>().ok()),
        "load": load,
        "btf": Path::new("/sys/kernel/btf/vmlinux").exists(),
        "settings": settings,
    });
    SHAPE.pick(&facts, picking)
}

/// What is in a folder: names, sizes, modes; one level deep.
pub fn folder(path: &Path, picking: &mut Picking) -> Value {
    use std::os::unix::fs::MetadataExt as _;
    const ENTRY: Shape = Shape::Fields(&[
        ("bytes", Shape::Number),
        ("mode", Shape::Name),
        ("modified_unix_ms", Shape::Time),
        ("folder", Shape::Flag),
    ]);
    let Ok(entries) = fs::read_dir(path) else {
        return Value::Null;
    };
    let entries = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let facts = json!({
            "bytes": metadata.len(),
            "mode": format!("{:o}", metadata.mode() & 0o7777),
            "modified_unix_ms": metadata.mtime().saturating_mul(1000),
            "folder": metadata.is_dir(),
        });
        Some((entry.file_name().to_string_lossy().into_owned(), facts))
    });
    let entries = Value::Object(entries.collect());
    Shape::ByName(&ENTRY).pick(&entries, picking)
}

/// The text of a small file; nothing if it cannot be read.
fn read(path: impl AsRef<OsStr>) -> String {
    fs::read_to_string(Path::new(path.as_ref())).unwrap_or_default()
}

fn line<'a>(text: &'a str, key: &str, separator: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_told() {
        let mut picking = Picking::default();
        let facts = facts(&mut picking);
        assert!(
            facts["kernel"]
                .as_str()
                .is_some_and(|text| text.contains('.')),
            "{facts}"
        );
        assert!(facts["memory_kib"].as_u64() > Some(1000), "{facts}");
        assert!(facts["cpus"].as_u64() >= Some(1), "{facts}");
        assert!(
            facts["settings"]["net.ipv4.ip_forward"].is_number(),
            "{facts}"
        );
        assert_eq!(picking, Picking::default(), "{facts}");
    }

    #[test]
    fn folders_are_told_by_names_and_sizes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("server.key"), "secret").unwrap();
        fs::write(folder.path().join("13800138000"), "").unwrap();
        let mut picking = Picking::default();
        let told = super::folder(folder.path(), &mut picking);
        assert_eq!(told["server.key"]["bytes"], 6);
        assert_eq!(
            told.as_object().map(serde_json::Map::len),
            Some(1),
            "{told}"
        );
        assert_eq!(picking.withheld, 1);
        assert_eq!(
            super::folder(&folder.path().join("no"), &mut picking),
            Value::Null
        );
    }
}
