//! Names of programs and maps in the object, and of their pins.

/// Part of the pin path: pins of another version are never adopted.
pub const SCHEMA_VERSION: u32 = 2;

pub mod program {
    pub const XDP_ACCESS: &str = "xdp_access";
    pub const XDP_UPLINK: &str = "xdp_uplink";
    pub const TC_INGRESS: &str = "tc_ingress";
    pub const TC_EGRESS: &str = "tc_egress";
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
    pub const REASONS: &str = "REASONS";
    pub const LIMITS: &str = "LIMITS";
    pub const LIMIT_ALL: &str = "LIMIT_ALL";
    pub const PUNT: &str = "PUNT";
    pub const TRACE: &str = "TRACE";
    pub const TRACE_FILTERS: &str = "TRACE_FILTERS";
    /// Of each set of programs its own, and not pinned.
    pub const TRACE_SCRATCH: &str = "TRACE_SCRATCH";

    /// The maps that are pinned and outlive the daemon.
    pub const PINNED: [&str; 16] = [
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
        REASONS,
        LIMITS,
        LIMIT_ALL,
        PUNT,
        TRACE,
        TRACE_FILTERS,
    ];
}

/// UDP port of the establishment exchange.
pub const ESTABLISH_PORT: u16 = 52525;

/// The object's global with a [`crate::globals::Globals`].
pub const GLOBALS: &str = "GLOBALS";
