//! One setting of the host.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dataplane::offload::Feature;

/// One setting of the host, with a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Setting {
    Sysctl {
        name: String,
        value: String,
    },
    Offload {
        port: String,
        feature: Feature,
        on: bool,
    },
    /// Bits of `IFF_*`, linux/if.h.
    Flag {
        port: String,
        flag: u32,
        on: bool,
    },
    /// `fq` at the root of the port, which holds packets until their time.
    Shaper {
        port: String,
        on: bool,
    },
    Address {
        port: String,
        address: IpAddr,
        present: bool,
    },
    Route {
        route: Route,
        present: bool,
    },
    Rule {
        rule: Rule,
        present: bool,
    },
    /// The default route of a table of the gateway's own, which follows the next hop.
    Followed {
        table: u32,
        v6: bool,
        present: bool,
    },
}

/// A route in a table of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataplane) struct Route {
    pub table: u32,
    pub prefix: IpNet,
    pub hop: Hop,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub(in crate::dataplane) enum Hop {
    /// On the link itself; `source` is the address of what the kernel answers.
    Link {
        ifindex: u32,
        source: Option<IpAddr>,
    },
    Via {
        ifindex: u32,
        address: IpAddr,
    },
    /// Nowhere, when no other route of the table fits.
    Unreachable,
}

/// A rule that leads an operator's packets to a table of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataplane) struct Rule {
    pub v6: bool,
    pub priority: u32,
    pub mark: u32,
    /// Only packets that came in there.
    pub from_port: Option<String>,
    pub table: u32,
}

impl Setting {
    /// Whether the fast path does without it, where the kernel refuses it.
    pub(super) fn is_optional(&self) -> bool {
        matches!(self, Self::Shaper { .. })
    }

    /// Whether both are about the same thing, whatever its value.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        use Setting::{Address, Flag, Followed, Offload, Route, Rule, Shaper, Sysctl};
        match (self, other) {
            (Sysctl { name: a, .. }, Sysctl { name: b, .. }) => a == b,
            (
                Offload {
                    port: a,
                    feature: x,
                    ..
                },
                Offload {
                    port: b,
                    feature: y,
                    ..
                },
            ) => a == b && x == y,
            (
                Flag {
                    port: a, flag: x, ..
                },
                Flag {
                    port: b, flag: y, ..
                },
            ) => a == b && x == y,
            (
                Address {
                    port: a,
                    address: x,
                    ..
                },
                Address {
                    port: b,
                    address: y,
                    ..
                },
            ) => a == b && x == y,
            (Shaper { port: a, .. }, Shaper { port: b, .. }) => a == b,
            (Route { route: a, .. }, Route { route: b, .. }) => a == b,
            (Rule { rule: a, .. }, Rule { rule: b, .. }) => a == b,
            (
                Followed {
                    table: a, v6: x, ..
                },
                Followed {
                    table: b, v6: y, ..
                },
            ) => a == b && x == y,
            _ => false,
        }
    }
}
