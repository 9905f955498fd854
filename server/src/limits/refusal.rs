//! Refusals of load: counted by reason, with a hint when to come again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// When to come again where nothing says how long it takes.
const PAUSE: Duration = Duration::from_secs(1);

/// Why load was not taken. Names and order are part of `status`; new ones are added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Requests,
    SourceRequests,
    SourceRate,
    RegistrationRate,
    SubscriberRate,
    Store,
    Watches,
    SubscriberWatches,
    Verifications,
    GatewayStreams,
    Connections,
    SourceConnections,
    /// Not refused: read later.
    GatewayMessages,
}

impl Reason {
    pub const ALL: [Reason; 13] = [
        Reason::Requests,
        Reason::SourceRequests,
        Reason::SourceRate,
        Reason::RegistrationRate,
        Reason::SubscriberRate,
        Reason::Store,
        Reason::Watches,
        Reason::SubscriberWatches,
        Reason::Verifications,
        Reason::GatewayStreams,
        Reason::Connections,
        Reason::SourceConnections,
        Reason::GatewayMessages,
    ];

    /// As it stands in `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Requests => "requests",
            Reason::SourceRequests => "source-requests",
            Reason::SourceRate => "source-rate",
            Reason::RegistrationRate => "registration-rate",
            Reason::SubscriberRate => "subscriber-rate",
            Reason::Store => "store",
            Reason::Watches => "watches",
            Reason::SubscriberWatches => "subscriber-watches",
            Reason::Verifications => "verifications",
            Reason::GatewayStreams => "gateway-streams",
            Reason::Connections => "connections",
            Reason::SourceConnections => "source-connections",
            Reason::GatewayMessages => "gateway-messages",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Reason::Requests | Reason::Store => {
                "the server has more to do than it can; ask again a little later"
            }
            Reason::SourceRequests => {
                "too many requests from this address are being worked on; ask again a little later"
            }
            Reason::SourceRate => {
                "too many requests from this address; ask again when the hint says"
            }
            Reason::RegistrationRate => {
                "too many registrations from this address; ask again when the hint says"
            }
            Reason::SubscriberRate => {
                "too many requests with these credentials; ask again when the hint says"
            }
            Reason::Watches => "too many Watch streams are open; try again later",
            Reason::SubscriberWatches => {
                "the subscriber has too many Watch streams open; close some"
            }
            Reason::Verifications => {
                "too many registrations are being verified; register again a little later"
            }
            Reason::GatewayStreams => {
                "the gateway opens streams too often; dial again when the hint says"
            }
            // A connection is closed without a word, a message waits.
            Reason::Connections | Reason::SourceConnections | Reason::GatewayMessages => "",
        }
    }
}

/// How much load has not been taken since the start, by reason.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Reason::ALL.len()]);

impl Refusals {
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal and makes its status; `after` is how long it takes until the limit allows
    /// another try.
    pub fn refuse(&self, reason: Reason, after: Option<Duration>) -> Status {
        self.count(reason);
        exhausted(reason.text(), after)
    }

    /// Each reason with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

/// RESOURCE_EXHAUSTED with a `google.rpc.RetryInfo`. Not all are told the same delay: who was
/// refused together must not come back together.
pub fn exhausted(text: &str, after: Option<Duration>) -> Status {
    let least = after.unwrap_or(PAUSE / 2);
    let delay = least + least.max(PAUSE).mul_f64(rand::random());
    Status::with_error_details(
        Code::ResourceExhausted,
        text,
        ErrorDetails::with_retry_info(Some(delay)),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_name_and_a_count_of_its_own() {
        let refusals = Refusals::default();
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
            for _ in 0..=index {
                refusals.count(reason);
            }
        }
        let names: BTreeSet<_> = refusals.counts().map(|(reason, _)| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(refusals.counts().zip(1..).all(|((_, count), n)| count == n));
    }

    #[test]
    fn the_hint_is_never_shorter_than_the_wait_and_differs() {
        let hint = |after| {
            let status = exhausted("no", after);
            assert_eq!(status.code(), Code::ResourceExhausted);
            status
                .get_details_retry_info()
                .unwrap()
                .retry_delay
                .unwrap()
        };
        for (after, least, most) in [
            (None, 500, 1500),
            (Some(Duration::ZERO), 0, 1000),
            (Some(Duration::from_secs(7)), 7000, 14_000),
        ] {
            let hints: BTreeSet<_> = (0..50).map(|_| hint(after).as_millis()).collect();
            assert!(
                hints.iter().all(|ms| (least..=most).contains(ms)),
                "{hints:?}"
            );
            assert!(hints.len() > 10, "{hints:?}");
        }
    }
}
