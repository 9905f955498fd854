//! What can go wrong between the daemon and the kernel.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::elf::ObjectError;

#[derive(Debug, Error)]
pub enum DataplaneError {
    #[error("no port is named {name:?}; `ip link` lists what this host has")]
    NoPort { name: String },
    #[error("port {name:?} has no Ethernet address; it cannot carry lines")]
    NoMac { name: String },
    #[error("{}: not on a BPF file system; mount one: mount -t bpf bpf {}", .path.display(), .mount.display())]
    NotBpffs { path: PathBuf, mount: PathBuf },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the pinned map {} is a {found}, this version wants a {wanted}; \
         `doorstep-gateway detach` removes it (sessions are then programmed anew)", .path.display()
    )]
    PinnedMap {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("the object is refused: {0}")]
    Object(#[from] ObjectError),
    #[error(
        "{} has maps of a newer version of doorstep-gateway than this one; run that version, or \
         have `doorstep-gateway detach` remove them (sessions are then programmed anew)",
        .path.display()
    )]
    NewerPins { path: PathBuf },
    #[error(
        "no programs of this version are attached; `doorstep-gateway run` or `load` puts them on \
         the ports"
    )]
    NotLoaded,
    #[error("cannot load the programs: {0}{hint}", hint = hint(.0))]
    Load(#[from] aya::EbpfError),
    #[error("program {program}: {source}")]
    Program {
        program: &'static str,
        source: Box<aya::programs::ProgramError>,
    },
    #[error("cannot attach {program} to {port}: {what}")]
    Attach {
        program: &'static str,
        port: String,
        what: String,
    },
    #[error("map {map}: {source}{}", full(map, source))]
    Map {
        map: &'static str,
        source: Box<aya::maps::MapError>,
    },
    #[error("map {map} has no room for another row; raise max_sessions")]
    Full { map: &'static str },
    #[error("{what}: {source}")]
    Netlink {
        what: String,
        source: Box<rtnetlink::Error>,
    },
    #[error(
        "port {port}: somebody has set up {kind} at its root, which is left as it is: downstream \
         rates are kept by dropping (`tc qdisc del dev {port} root` and a restart make room for fq)"
    )]
    ForeignQdisc { port: String, kind: String },
    #[error("{what}: {source}")]
    Kernel { what: String, source: io::Error },
    #[error("{}: {source}; remove it if the ports need not be put back", .path.display())]
    Record {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(
        "pin_path {}: the root of a file system; name a folder in it, such as {}",
        .path.display(), .path.join("doorstep").display()
    )]
    PinPath { path: PathBuf },
    #[error(
        "is another doorstep-gateway running? it holds {}; stop it first", .path.display()
    )]
    Locked { path: PathBuf },
}

/// Explains the errors whose text does not say what to do.
fn hint(error: &aya::EbpfError) -> &'static str {
    let text = format!("{error:?}");
    if text.contains("PermissionDenied") || text.contains("code: 1,") {
        "; this takes CAP_BPF and CAP_NET_ADMIN: run as root, or grant them"
    } else {
        ""
    }
}

fn full(map: &str, error: &aya::maps::MapError) -> String {
    match error {
        aya::maps::MapError::SyscallError(error)
            if error.io_error.raw_os_error() == Some(libc::E2BIG) =>
        {
            format!(" ({map} is full; raise max_sessions)")
        }
        _ => String::new(),
    }
}
