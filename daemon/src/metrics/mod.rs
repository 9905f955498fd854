//! Metrics for Prometheus: what a daemon has, how it is written, and who may read it.
//!
//! A daemon lists its [`Family`]s once. That list is what a [`Page`] takes samples for, what the
//! reference is made of ([`reference()`]), and what tests compare both with. Samples are collected when
//! somebody asks, from counts that are kept anyway; only what has to be measured at its time, such as
//! durations, is a [`Histogram`] that is written to beforehand.
//!
//! No label may have values without a bound: no subscriber, session, line, address or number.

mod page;
mod serve;

use std::fmt::Write as _;
use std::net::SocketAddr;

use prometheus::HistogramOpts;
use serde::{Deserialize, Serialize};

pub use page::Page;
pub use prometheus::Histogram;
pub use serve::{Metrics, Source};

/// `[metrics]` of a daemon's configuration. Without it nothing listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where `GET /metrics` is answered, without encryption or credentials.
    pub listen: SocketAddr,
}

/// What a family's samples are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows, from the daemon's start on or from earlier.
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// Upper bounds for durations of a fast disk or network up to a stuck one, in seconds.
pub const SHORT_SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Upper bounds for durations that people wait for, in seconds.
pub const LONG_SECONDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0,
];

/// Samples of one name.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// With the unit (a base unit) and, for counters, `_total` at its end.
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

impl Family {
    #[must_use]
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family {
        Family {
            name,
            kind: Kind::Counter,
            help,
            labels,
        }
    }

    #[must_use]
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Family {
        Family {
            name,
            kind: Kind::Gauge,
            help,
            labels,
        }
    }

    #[must_use]
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        buckets: &'static [f64],
    ) -> Family {
        Family {
            name,
            kind: Kind::Histogram(buckets),
            help,
            labels: &[],
        }
    }

    /// What the durations or sizes of this family are counted in.
    ///
    /// # Panics
    ///
    /// If the family is no histogram, or its name or buckets are not good: a mistake in the code,
    /// which every test of the daemon finds.
    #[must_use]
    pub fn observer(&self) -> Histogram {
        let Kind::Histogram(buckets) = self.kind else {
            panic!("{} is no histogram", self.name);
        };
        let options = HistogramOpts::new(self.name, self.help).buckets(buckets.to_vec());
        Histogram::with_opts(options).expect("a name and growing buckets")
    }
}

/// The families as a table of the reference, in Markdown.
#[must_use]
pub fn reference(families: &[&Family]) -> String {
    let mut text = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for family in families {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind, help) = (family.name, family.kind.name(), family.help);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{name}` | {kind} | {} | {help} |",
            labels.join(", ")
        );
    }
    text
}

#[cfg(test)]
mod tests;
