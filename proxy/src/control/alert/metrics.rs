//! What this room counts for Prometheus.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::model::alert::AlertMetric;
use crate::model::time::Timestamp;

/// The metrics of mail and rules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    sent: IntCounter,
    temporary: IntCounter,
    permanent: IntCounter,
    queued: IntGauge,
    last_error: Gauge,
    firing: IntGaugeVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has them already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sent = IntCounter::new("serin_mail_sent_total", "Mails that the server took.")?;
        let failures = IntCounterVec::new(
            Opts::new("serin_mail_failures_total", "Attempts that will be repeated, and mails or receivers given up."),
            &["reason"],
        )?;
        let queued = IntGauge::new("serin_mail_queued", "Mails in the outbox that wait to be sent.")?;
        let last_error = Gauge::new("serin_mail_last_error_timestamp_seconds", "When mail last failed; 0 = never.")?;
        let firing = IntGaugeVec::new(
            Opts::new("serin_alert_rule_firing", "Predefined alert rules of the service and metric that fire now."),
            &["service", "metric"],
        )?;
        registry.register(Box::new(sent.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(queued.clone()))?;
        registry.register(Box::new(last_error.clone()))?;
        registry.register(Box::new(firing.clone()))?;
        let temporary = failures.with_label_values(&["temporary"]);
        let permanent = failures.with_label_values(&["permanent"]);
        Ok(Self { sent, temporary, permanent, queued, last_error, firing })
    }

    pub(super) fn sent(&self) {
        self.sent.inc();
    }

    /// An attempt failed and will be repeated.
    pub(super) fn failed_for_now(&self) {
        self.temporary.inc();
        self.note_error(crate::telemetry::now());
    }

    /// A mail, or one receiver of it, was given up.
    pub(super) fn failed_for_good(&self) {
        self.permanent.inc();
        self.note_error(crate::telemetry::now());
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds fit a double for 280,000 years")]
    fn note_error(&self, now: Timestamp) {
        self.last_error.set(now.as_millis() as f64 / 1e3);
    }

    pub(super) fn set_queued(&self, mails: usize) {
        self.queued.set(i64::try_from(mails).unwrap_or(i64::MAX));
    }

    /// Says how many rules of a service on this metric fire; none = the service has no such rule.
    pub(super) fn set_firing(&self, service: &str, metric: AlertMetric, rules: Option<usize>) {
        match rules {
            Some(rules) => {
                let gauge = self.firing.with_label_values(&[service, metric.name()]);
                gauge.set(i64::try_from(rules).unwrap_or(i64::MAX));
            }
            // Refused only where the pair isn't there, which is what is wanted.
            None => drop(self.firing.remove_label_values(&[service, metric.name()])),
        }
    }
}
