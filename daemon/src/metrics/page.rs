//! One answer to a scrape.

use anyhow::Context as _;
use prometheus::core::Metric as _;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, TextEncoder};

use super::{Family, Kind};

/// Samples, by family, in the order in which the families first got one.
#[derive(Debug, Default)]
pub struct Page(Vec<(&'static Family, Vec<Metric>)>);

impl Page {
    /// A sample of a counter or gauge, with a value for each label of the family.
    ///
    /// # Panics
    ///
    /// If there is not a value for each label, or the family is a histogram.
    #[expect(
        clippy::cast_precision_loss,
        reason = "samples are floating point numbers; counts above 2^53 are rounded"
    )]
    pub fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.value(family, labels, value as f64);
    }

    /// The same of what is no count.
    ///
    /// # Panics
    ///
    /// As [`Page::count`].
    pub fn value(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut sample = Metric::from_label(pairs.collect());
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
            Kind::Histogram(_) => panic!("{} is a histogram", family.name),
        }
        self.add(family, sample);
    }

    /// Unix milliseconds as the seconds that Prometheus counts in.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 have 41 bits"
    )]
    pub fn time(&mut self, family: &'static Family, labels: &[&str], unix_ms: i64) {
        self.value(family, labels, unix_ms as f64 / 1000.0);
    }

    /// What has been observed until now.
    pub fn histogram(&mut self, family: &'static Family, observed: &Histogram) {
        self.add(family, observed.metric());
    }

    fn add(&mut self, family: &'static Family, sample: Metric) {
        let mut known = self.0.iter_mut();
        match known.find(|(known, _)| known.name == family.name) {
            Some((_, samples)) => samples.push(sample),
            None => self.0.push((family, vec![sample])),
        }
    }

    /// In the text format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    ///
    /// If a family has a name that Prometheus would not take.
    pub fn text(self) -> anyhow::Result<String> {
        let families: Vec<_> = self
            .0
            .into_iter()
            .map(|(family, samples)| {
                let mut written = MetricFamily::default();
                written.set_name(family.name.to_owned());
                written.set_help(family.help.to_owned());
                written.set_field_type(match family.kind {
                    Kind::Counter => MetricType::COUNTER,
                    Kind::Gauge => MetricType::GAUGE,
                    Kind::Histogram(_) => MetricType::HISTOGRAM,
                });
                written.set_metric(samples);
                written
            })
            .collect();
        TextEncoder::new()
            .encode_to_string(&families)
            .context("cannot write the metrics")
    }
}
