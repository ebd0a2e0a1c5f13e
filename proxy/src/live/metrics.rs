//! What `live` knows, as Prometheus metrics: summed over cores when somebody asks.
//!
//! The request path only adds to its own core's counters; nothing here costs it anything.
//! Every label is bounded by the configuration, the pools, or a fixed list.
//!
//! `scrape.rs` is how an answer is put together; each other file has the metrics of one thing.

mod balance;
mod connections;
mod discovery;
mod flags;
mod limits;
mod names;
mod rollout;
mod scaling;
mod scrape;
mod store;
#[cfg(test)]
mod tests;
mod traffic;
mod verdict;

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use self::scrape::{ENDPOINT, Named, Scrape, counter, gauge, histogram};
use super::{Live, ServiceView};
use crate::telemetry::metrics::MetricsError;

const ALL: [&[&Named]; 11] = [
    traffic::ALL,
    balance::ALL,
    limits::ALL,
    discovery::ALL,
    verdict::ALL,
    rollout::ALL,
    scaling::ALL,
    flags::ALL,
    names::ALL,
    connections::ALL,
    store::ALL,
];

/// The metrics of a running daemon, to register once.
#[derive(Debug)]
pub struct LiveMetrics {
    live: Arc<Live>,
    descriptions: Vec<Desc>,
}

impl LiveMetrics {
    /// Metrics over these facts.
    ///
    /// # Errors
    /// When a name or label breaks Prometheus' rules: a mistake in the program.
    pub fn new(live: Arc<Live>) -> Result<Self, MetricsError> {
        let describe = |metric: &&Named| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, HashMap::new())
        };
        let descriptions = ALL.into_iter().flatten().map(describe).collect::<Result<_, _>>()?;
        Ok(Self { live, descriptions })
    }
}

impl Collector for LiveMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut scrape = Scrape::default();
        let snapshot = self.live.snapshot();
        for view in snapshot.services() {
            scrape.traffic(view);
            scrape.balance(view);
            scrape.limits(view);
            scrape.leases(view);
            scrape.verdict(view);
            scrape.rollout(view);
            scrape.scaling(view);
            scrape.gates(view);
        }
        scrape.flags(&self.live, snapshot.flags().len());
        scrape.names(&self.live);
        scrape.connections(&self.live);
        scrape.store(&self.live, snapshot.revision);
        scrape.discovery(&self.live);
        scrape.families()
    }
}
