//! `[limits]`: what one client, or all of them, may take.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// What one client, or all of them, may take. A *source* is an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests worked on at once, all connections together; more are refused at once.
    pub concurrent_requests: usize,
    /// Of these, from one source.
    pub concurrent_requests_per_source: usize,
    /// HTTP/2 streams of one connection.
    pub streams_per_connection: u32,
    /// Open connections to the public port.
    pub connections: usize,
    /// Of these, from one source.
    pub connections_per_source: usize,
    /// Milliseconds a unary call may take.
    pub request_timeout_ms: u64,
    /// Open Watch streams.
    pub watches: usize,
    /// Of these, one subscriber's.
    pub watches_per_subscriber: usize,
    /// Sessions of one subscriber that are not released.
    pub sessions_per_subscriber: usize,
    /// Requests of terminals from one source, whatever they ask.
    pub source_rate: Rate,
    /// Registrations from one source: these need no credentials.
    pub registration_rate: Rate,
    /// Requests with the same credentials.
    pub subscriber_rate: Rate,
    /// Streams that one gateway opens, each of which begins with all that the gateway holds.
    pub gateway_stream_rate: Rate,
    /// Messages of one gateway's stream; what comes faster is read later.
    pub gateway_message_rate: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrent_requests: 256,
            concurrent_requests_per_source: 64,
            streams_per_connection: 64,
            connections: 20_000,
            connections_per_source: 256,
            request_timeout_ms: 10_000,
            watches: 16_384,
            watches_per_subscriber: 32,
            sessions_per_subscriber: 8,
            source_rate: Rate::new(6_000, 500),
            registration_rate: Rate::new(60, 60),
            subscriber_rate: Rate::new(120, 60),
            gateway_stream_rate: Rate::new(60, 30),
            gateway_message_rate: Rate::new(600_000, 50_000),
        }
    }
}

impl Limits {
    /// What is wrong with them.
    pub(super) fn check(&self) -> Result<(), String> {
        let numbers = [
            self.concurrent_requests,
            self.concurrent_requests_per_source,
            self.streams_per_connection as usize,
            self.connections,
            self.connections_per_source,
            usize::try_from(self.request_timeout_ms).unwrap_or(usize::MAX),
            self.watches,
            self.watches_per_subscriber,
            self.sessions_per_subscriber,
        ];
        if numbers.contains(&0) {
            return Err("limits: every limit must be at least 1".to_owned());
        }
        let rates = [
            ("source_rate", self.source_rate),
            ("registration_rate", self.registration_rate),
            ("subscriber_rate", self.subscriber_rate),
            ("gateway_stream_rate", self.gateway_stream_rate),
            ("gateway_message_rate", self.gateway_message_rate),
        ];
        for (key, rate) in rates {
            if rate.per_minute > 0 && rate.burst == 0 {
                return Err(format!("limits: {key}: burst must be at least 1"));
            }
        }
        Ok(())
    }
}

/// How often, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run; 0 is no limit.
    pub per_minute: u32,
    /// At once, by whom has been quiet.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

impl Rate {
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        Rate { per_minute, burst }
    }

    /// The two numbers, or `None` for no limit.
    pub fn limited(self) -> Option<(NonZeroU32, NonZeroU32)> {
        NonZeroU32::new(self.per_minute).zip(NonZeroU32::new(self.burst))
    }
}
