//! The metrics registry: what `/metrics` shows, in Prometheus' text format.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Opts, TextEncoder};

use super::log;

/// All metrics of this process. Clones share them.
#[derive(Clone, Debug)]
pub struct Registry(prometheus::Registry);

/// Why metrics couldn't be registered or shown.
#[derive(Debug, thiserror::Error)]
#[error("the metrics are wrong")]
pub struct MetricsError(#[from] prometheus::Error);

impl Registry {
    /// A registry that holds `serin_build_info`, what the log dropped, and what the system says of this process.
    ///
    /// # Errors
    /// When one of them can't be registered: a mistake in the program.
    pub fn new(version: &str) -> Result<Self, MetricsError> {
        let registry = prometheus::Registry::new();
        let build = Opts::new("serin_build_info", "Always 1; the label says which version of serin runs.");
        let build = IntGauge::with_opts(build.const_label("version", version))?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(DroppedLines::new()?))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(Self(registry))
    }

    /// Adds metrics.
    ///
    /// # Errors
    /// When one of that name is there already.
    pub fn register(&self, collector: impl Collector + 'static) -> Result<(), MetricsError> {
        Ok(self.0.register(Box::new(collector))?)
    }

    /// The registry as its library knows it, for rooms that register several metrics at once.
    pub const fn inner(&self) -> &prometheus::Registry {
        &self.0
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// When a collector's answer breaks the format's rules: a mistake in the program.
    pub fn encode(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.0.gather())?)
    }
}

/// Counts what the log dropped: asked for at each look.
struct DroppedLines(IntCounter);

impl DroppedLines {
    fn new() -> Result<Self, prometheus::Error> {
        let help = "Log lines that were dropped since whoever reads them was too slow.";
        Ok(Self(IntCounter::new("serin_log_lines_dropped_total", help)?))
    }
}

impl Collector for DroppedLines {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Two looks at once may count some of them twice, and the next one mends it.
        self.0.reset();
        self.0.inc_by(log::dropped_lines());
        self.0.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_and_the_process_are_shown() {
        let registry = Registry::new("1.2.3").expect("a fresh registry takes anything");
        let text = registry.encode().expect("text");
        assert!(text.contains("serin_build_info{version=\"1.2.3\"} 1"), "{text}");
        assert!(text.contains("process_open_fds"), "{text}");
    }

    #[test]
    fn a_name_is_taken_once() {
        let registry = Registry::new("1").expect("a fresh registry takes anything");
        let gauge = IntGauge::new("serin_twice", "Twice.").expect("a gauge");
        registry.register(gauge.clone()).expect("the first is taken");
        assert!(registry.register(gauge).is_err());
    }
}
