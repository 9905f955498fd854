//! How fast a policed session may be: never so slow that the benchmark's own packets are too many.

use doorstep_gateway::session::Service;

/// More than one CPU can offer, in bits of IP per second.
const ALL_BPS: u64 = 100_000_000_000;
/// What a subscriber has at least, in bits of IP per second.
const LEAST_BPS: u64 = 100_000_000;

/// A session's rate each way where so many share what is offered, in bits of IP per second.
pub fn bps(sessions: u32) -> u64 {
    (ALL_BPS / u64::from(sessions.max(1))).max(LEAST_BPS)
}

/// The policed service.
pub fn policed(sessions: u32) -> Service {
    Service {
        upstream_bps: bps(sessions),
        downstream_bps: bps(sessions),
        ..Service::default()
    }
}
