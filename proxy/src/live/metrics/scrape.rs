//! One answer to a scrape, as it is put together, and how metrics are described.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::live::counters::HistogramSum;

/// A metric: its name, what it says, and its labels.
pub(super) struct Named {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    kind: MetricType,
    pub(super) labels: &'static [&'static str],
}

pub(super) const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Named {
    Named { name, help, kind: MetricType::COUNTER, labels }
}

pub(super) const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Named {
    Named { name, help, kind: MetricType::GAUGE, labels }
}

pub(super) const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Named {
    Named { name, help, kind: MetricType::HISTOGRAM, labels }
}

/// The labels of what is told of each endpoint.
pub(super) const ENDPOINT: &[&str] = &["service", "arm", "endpoint"];

/// What was put together up to now.
#[derive(Default)]
pub(super) struct Scrape {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Scrape {
    /// All of it.
    pub(super) fn families(self) -> Vec<MetricFamily> {
        self.families.into_values().collect()
    }

    pub(super) fn number(&mut self, metric: &Named, labels: &[&str], n: u64) {
        self.value(metric, labels, n as f64);
    }

    pub(super) fn value(&mut self, metric: &Named, labels: &[&str], value: f64) {
        let mut sample = Metric::default();
        if metric.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.push(metric, labels, sample);
    }

    pub(super) fn times(&mut self, metric: &Named, labels: &[&str], sum: &HistogramSum) {
        let buckets = sum.octaves().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(sum.count());
        histogram.set_sample_sum(sum.seconds());
        let mut sample = Metric::default();
        sample.set_histogram(histogram);
        self.push(metric, labels, sample);
    }

    fn push(&mut self, metric: &Named, labels: &[&str], mut sample: Metric) {
        let pair = |(name, value): (&&str, &&str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        sample.set_label(metric.labels.iter().zip(labels).map(pair).collect());
        let family = self.families.entry(metric.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(metric.kind);
            family
        });
        family.mut_metric().push(sample);
    }
}
