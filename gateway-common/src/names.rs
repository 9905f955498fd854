//! Names of programs and maps in the object, and of their pins.

/// Version of the maps' layout, and part of the pin path. A map of another version is adopted only
/// where both versions mean the same by it ([`map::layout_since`]).
pub const SCHEMA_VERSION: u32 = 3;

/// Section of the object that has [`SCHEMA_VERSION`], as four bytes, little end first.
pub const SCHEMA_SECTION: &str = "doorstep_schema";

pub mod program {
    pub const XDP_ACCESS: &str = "xdp_access";
    pub const XDP_UPLINK: &str = "xdp_uplink";
    pub const TC_INGRESS: &str = "tc_ingress";
    pub const TC_EGRESS: &str = "tc_egress";

    pub const ALL: [&str; 4] = [XDP_ACCESS, XDP_UPLINK, TC_INGRESS, TC_EGRESS];
}

pub mod map {
    pub const UPSTREAM_V4: &str = "UPSTREAM_V4";
    pub const UPSTREAM_V6: &str = "UPSTREAM_V6";
    pub const DOWNSTREAM_V4: &str = "DOWNSTREAM_V4";
    pub const DOWNSTREAM_V6: &str = "DOWNSTREAM_V6";
    pub const LINES: &str = "LINES";
    pub const OPERATORS: &str = "OPERATORS";
    pub const UPLINKS: &str = "UPLINKS";
    pub const GARDEN: &str = "GARDEN";
    pub const ACCOUNTS: &str = "ACCOUNTS";
    pub const POLICERS: &str = "POLICERS";
    pub const LIVENESS: &str = "LIVENESS";
    pub const REASONS: &str = "REASONS";
    pub const LIMITS: &str = "LIMITS";
    pub const LIMIT_ALL: &str = "LIMIT_ALL";
    pub const PUNT: &str = "PUNT";
    pub const TRACE: &str = "TRACE";
    pub const TRACE_FILTERS: &str = "TRACE_FILTERS";
    /// Of each set of programs its own, and not pinned.
    pub const TRACE_SCRATCH: &str = "TRACE_SCRATCH";

    /// The maps that are pinned and outlive the daemon.
    pub const PINNED: [&str; 17] = [
        UPSTREAM_V4,
        UPSTREAM_V6,
        DOWNSTREAM_V4,
        DOWNSTREAM_V6,
        LINES,
        OPERATORS,
        UPLINKS,
        GARDEN,
        ACCOUNTS,
        POLICERS,
        LIVENESS,
        REASONS,
        LIMITS,
        LIMIT_ALL,
        PUNT,
        TRACE,
        TRACE_FILTERS,
    ];

    /// Packets and bytes by slot, per CPU, in version 1; `ACCOUNTS` since.
    pub const COUNTERS: &str = "COUNTERS";

    /// Maps that earlier versions pinned and this one has no more.
    pub const FORMER: [&str; 1] = [COUNTERS];

    /// The first version that has a map with the layout and meaning of today. Raise it, with
    /// [`SCHEMA_VERSION`](super::SCHEMA_VERSION), when either changes.
    pub fn layout_since(name: &str) -> u32 {
        match name {
            REASONS => 1,
            POLICERS | LIVENESS => 3,
            _ => 2,
        }
    }
}

/// UDP port of the establishment exchange.
pub const ESTABLISH_PORT: u16 = 52525;

/// The object's global with a [`crate::globals::Globals`].
pub const GLOBALS: &str = "GLOBALS";
