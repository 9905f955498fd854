//! The packages, and what their files are made from.

use crate::cargo::SERVER;

/// A package: a daemon with all that belongs to it.
pub struct Package {
    /// Of package, binary, unit and user.
    pub name: &'static str,
    pub summary: &'static str,
    /// Paragraph of the description, in lines of at most 80 characters.
    pub description: &'static [&'static str],
    pub recommends: Option<&'static str>,
    /// Packages of the workspace whose crates are in its binary.
    pub linked: &'static [&'static str],
    /// Files of `deploy/etc/doorstep`, the first with the daemon's configuration.
    pub configuration: &'static [&'static str],
    /// Files of `docs/reference` that are about it.
    pub reference: &'static [&'static str],
    /// Whether the operator's guide is among its documents.
    pub has_guide: bool,
    /// Whether something of it outlives the daemon, which its removal takes down.
    pub takes_down: bool,
}

/// One for each daemon.
pub const PACKAGES: [Package; 3] = [
    Package {
        name: SERVER,
        summary: "broadband gateway for shared buildings: the operator's server",
        description: &[
            "The server knows an operator's subscribers and their homes. It takes terminals'",
            "requests, and instructs the gateways.",
        ],
        recommends: Some("ca-certificates"),
        linked: &[SERVER],
        configuration: &["server.toml"],
        reference: &["cli.md", "configuration.md", "metrics.md"],
        has_guide: true,
        takes_down: false,
    },
    Package {
        name: "doorstep-gateway",
        summary: "broadband gateway for shared buildings: the data plane",
        description: &[
            "The gateway's XDP and TC programs forward the packets of homes, of several",
            "operators on the same lines. They need Linux 5.18 or newer.",
        ],
        recommends: None,
        linked: &["doorstep-gateway", "doorstep-gateway-ebpf"],
        configuration: &["gateway.toml", "inventory.csv"],
        reference: &["cli.md", "configuration.md", "metrics.md", "reasons.md"],
        has_guide: true,
        takes_down: true,
    },
    Package {
        name: "doorstep-terminal",
        summary: "broadband gateway for shared buildings: the subscriber's device",
        description: &[
            "The terminal asks operators for broadband, sets up the home's links and gives the",
            "devices in its rooms their addresses.",
        ],
        recommends: Some("nftables, dnsmasq-base"),
        linked: &["doorstep-terminal"],
        configuration: &["terminal.toml"],
        reference: &["cli.md", "configuration.md", "metrics.md"],
        has_guide: false,
        takes_down: true,
    },
];
