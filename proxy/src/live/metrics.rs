//! What `live` knows, as Prometheus metrics: summed over cores when somebody asks.
//!
//! The request path only adds to its own core's counters; nothing here costs it anything.
//! Every label is bounded by the configuration, the pools, or a fixed list.

mod balance;
mod flags;
mod limits;
mod names;
mod scaling;

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::counters::HistogramSum;
use super::service::CLASS_NAMES;
use super::{Live, ServiceView, VerdictStatus};
use crate::model::discovery::Standing;
use crate::model::outcome::BadReason;
use crate::model::rollout::Phase;
use crate::model::split::Arm;
use crate::model::time::Timestamp;
use crate::model::verdict::Expected;
use crate::telemetry;

/// A metric: its name, what it says, and its labels.
struct Named {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
}

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Named {
    Named { name, help, kind: MetricType::COUNTER, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Named {
    Named { name, help, kind: MetricType::GAUGE, labels }
}

const ENDPOINT: &[&str] = &["service", "arm", "endpoint"];

const REQUESTS: Named =
    counter("serin_requests_total", "Requests by arm and class of the response.", &["service", "arm", "code_class"]);
const BAD: Named = counter("serin_bad_requests_total", "Bad first attempts by reason.", &["service", "arm", "reason"]);
const HEAD: Named = Named {
    name: "serin_response_head_seconds",
    help: "Time to the response head.",
    kind: MetricType::HISTOGRAM,
    labels: &["service", "arm"],
};
const RETRIES: Named = counter("serin_retries_total", "Attempts beyond the first.", &["service"]);
const IN_FLIGHT: Named =
    gauge("serin_endpoint_in_flight", "Requests and tunnels that are with the endpoint now.", ENDPOINT);
const ENDPOINT_REQUESTS: Named = counter("serin_endpoint_requests_total", "Requests sent to the endpoint.", ENDPOINT);
const TUNNELS: Named = gauge("serin_tunnels", "Tunnels through the endpoint that are open now.", ENDPOINT);
const READY: Named = gauge("serin_endpoint_ready", "1 while the endpoint may get new work.", ENDPOINT);
const LEASED: Named = gauge(
    "serin_discovery_endpoints",
    "Endpoints that are there by heartbeat, by how they stand.",
    &["service", "standing"],
);
const LAPSES: Named =
    counter("serin_discovery_lapses_total", "Leases that ran out without their endpoint leaving on purpose.", &[]);
const MASSES: Named =
    counter("serin_discovery_mass_expiries_total", "Times that too many leases ran out together.", &[]);
const SILENT: Named =
    gauge("serin_discovery_mass_expiry", "1 while endpoints serve on because too many leases ran out together.", &[]);
const WEIGHT: Named =
    gauge("serin_weight_percent", "The canary weight: as asked for, and in effect.", &["service", "kind"]);
const OPEN: Named = gauge("serin_circuit_open", "1 while the circuit is open.", &["service"]);
const EVIDENCE: Named = gauge(
    "serin_verdict_combined_evidence",
    "E: the evidence that the canary is worse, over all signals.",
    &["service"],
);
const SIGNAL_EVIDENCE: Named =
    gauge("serin_verdict_evidence", "The evidence that the canary is worse, by one signal.", &["service", "signal"]);
const PASS_EVIDENCE: Named =
    gauge("serin_verdict_pass_evidence", "The evidence that the canary is good enough.", &["service"]);
const EXPECTED: Named = gauge(
    "serin_verdict_expected_seconds",
    "Time to a decision at today's traffic; NaN where it can't be told.",
    &["service", "decision"],
);
const SPLIT_BROKEN: Named =
    gauge("serin_verdict_split_broken", "1 once the sample-ratio check says that the split is broken.", &["service"]);
const STABLE_FAILING: Named = gauge("serin_verdict_stable_failing", "1 while stable itself is failing.", &["service"]);
const UNITS: Named = gauge("serin_verdict_units", "Distinct units seen in the episode.", &["service", "arm"]);
const BAD_UNITS: Named = gauge("serin_verdict_bad_units", "Units of the episode that went bad.", &["service", "arm"]);
const SIGNAL_BAD_UNITS: Named = gauge(
    "serin_verdict_signal_bad_units",
    "Units of the episode that went bad for a signal.",
    &["service", "arm", "signal"],
);
const PHASE: Named =
    gauge("serin_rollout_phase", "1 for the phase of the latest rollout, 0 for all others.", &["service", "phase"]);
const STEP: Named = gauge("serin_rollout_step", "The step in force, from 1; 0 before the first.", &["service"]);
const ROLLOUT_WEIGHT: Named =
    gauge("serin_rollout_weight_percent", "The weight that the latest rollout wants.", &["service"]);
const CONNECTIONS: Named = gauge("serin_connections", "Open downstream connections.", &[]);
const HANDSHAKES_FAILED: Named =
    counter("serin_tls_handshakes_failed_total", "Downstream connections that never came to TLS.", &[]);
const FLOODS: Named =
    counter("serin_http2_floods_total", "Downstream connections of HTTP/2 that were ended as floods.", &[]);
const PREFACES_REFUSED: Named =
    counter("serin_proxy_headers_refused_total", "Downstream connections refused for their PROXY header.", &[]);
const CROWDED: Named =
    counter("serin_client_connections_refused_total", "Downstream connections beyond what one client may have.", &[]);
const CERTIFICATE_EXPIRY: Named = gauge(
    "serin_tls_certificate_expiry_timestamp_seconds",
    "When a certificate's time is over, in seconds since 1970.",
    &["listener", "certificate"],
);
const DROPPED: Named =
    counter("serin_reports_dropped_total", "Bad outcomes that the verdict was too far behind to take.", &[]);
const REACHABLE: Named = gauge("serin_store_reachable", "1 while the last read came from the store itself.", &[]);
const AGE: Named =
    gauge("serin_store_age_seconds", "Age of the state in force; absent until the store was read once.", &[]);
const POISONED: Named =
    gauge("serin_store_poisoned_values", "Values in the store that make no sense and are passed over.", &[]);
const MIRROR_AGE: Named =
    gauge("serin_store_mirror_age_seconds", "How far the mirror is behind; absent while that can't be told.", &[]);
const MIRROR_IN_USE: Named =
    gauge("serin_store_mirror_in_use", "1 while the mirror is read; absent where there is none.", &[]);
const REVISION: Named = gauge("serin_snapshot_revision", "Revision of the snapshot in force.", &[]);

const SLOW: Named = gauge(
    "serin_slow_threshold_seconds",
    "From when on an answer is slow; absent while that isn't known.",
    &["service"],
);

const ALL: [&Named; 57] = [
    &REQUESTS,
    &BAD,
    &HEAD,
    &RETRIES,
    &IN_FLIGHT,
    &ENDPOINT_REQUESTS,
    &TUNNELS,
    &READY,
    &LEASED,
    &LAPSES,
    &MASSES,
    &SILENT,
    &WEIGHT,
    &OPEN,
    &EVIDENCE,
    &SIGNAL_EVIDENCE,
    &SIGNAL_BAD_UNITS,
    &PASS_EVIDENCE,
    &EXPECTED,
    &SPLIT_BROKEN,
    &STABLE_FAILING,
    &UNITS,
    &BAD_UNITS,
    &PHASE,
    &STEP,
    &ROLLOUT_WEIGHT,
    &balance::EJECTED,
    &balance::EJECTIONS,
    &balance::PANIC,
    &scaling::INSTANCES,
    &scaling::CUT,
    &scaling::FAILURES,
    &limits::WAITING,
    &limits::WAITS,
    &limits::REFUSED,
    &limits::TOO_EARLY,
    &names::ADDRESSES,
    &names::FAILING,
    &names::LOOKUPS,
    &CONNECTIONS,
    &HANDSHAKES_FAILED,
    &FLOODS,
    &PREFACES_REFUSED,
    &CROWDED,
    &CERTIFICATE_EXPIRY,
    &DROPPED,
    &REACHABLE,
    &AGE,
    &POISONED,
    &MIRROR_AGE,
    &MIRROR_IN_USE,
    &REVISION,
    &SLOW,
    &flags::FLAGS,
    &flags::REFUSED,
    &flags::EVALUATIONS,
    &flags::TURNED_AWAY,
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
    pub fn new(live: Arc<Live>) -> Result<Self, telemetry::metrics::MetricsError> {
        let describe = |metric: &&Named| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, std::collections::HashMap::new())
        };
        let descriptions = ALL.iter().map(describe).collect::<Result<_, _>>()?;
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
        for service in snapshot.services() {
            scrape.service(service);
        }
        scrape.process(&self.live, snapshot.revision);
        scrape.names(&self.live);
        scrape.flags(&self.live, snapshot.flags().len());
        scrape.families.into_values().collect()
    }
}

/// One answer to a scrape, as it is put together.
#[derive(Default)]
struct Scrape {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Scrape {
    fn service(&mut self, view: &ServiceView) {
        let service = view.spec.name.as_str();
        let verdict = view.live.verdict();
        for arm in Arm::BOTH {
            self.arm(view, arm);
            let evidence = verdict.evidence.arms.get(arm);
            self.number(&UNITS, &[service, arm.name()], evidence.units);
            self.number(&BAD_UNITS, &[service, arm.name()], evidence.bad);
        }
        self.verdict(service, &verdict);
        self.leases(view);
        self.gates(view);
        self.number(&RETRIES, &[service], view.live.retries());
        self.value(&WEIGHT, &[service, "asked"], view.asked.percent());
        self.value(&WEIGHT, &[service, "effective"], view.effective().percent());
        self.number(&OPEN, &[service], view.live.is_open().into());
        if view.spec.split.is_some()
            && let Some(threshold) = view.live.slow_threshold(view.spec.verdict.slow)
        {
            self.value(&SLOW, &[service], threshold.as_secs_f64());
        }
        // Shown as none where there is no rollout, so that an alert on its absence needs no guess.
        let rollout = view.rollout.as_ref();
        for phase in Phase::ALL {
            let holds = rollout.is_some_and(|rollout| rollout.phase == phase);
            self.number(&PHASE, &[service, phase.name()], holds.into());
        }
        self.number(&STEP, &[service], rollout.map_or(0, |rollout| rollout.step as u64));
        self.value(&ROLLOUT_WEIGHT, &[service], rollout.map_or(0.0, |rollout| rollout.weight().percent()));
        self.scaling(view);
        self.limits(view);
    }

    fn verdict(&mut self, service: &str, verdict: &VerdictStatus) {
        self.value(&EVIDENCE, &[service], verdict.evidence.e);
        for (signal, evidence) in verdict.evidence.signals.iter() {
            let evidence = evidence.unwrap_or_default();
            self.value(&SIGNAL_EVIDENCE, &[service, signal.name()], evidence.e);
            for arm in Arm::BOTH {
                self.number(&SIGNAL_BAD_UNITS, &[service, arm.name(), signal.name()], *evidence.bad.get(arm));
            }
        }
        self.value(&PASS_EVIDENCE, &[service], verdict.pass.e);
        self.number(&SPLIT_BROKEN, &[service], verdict.sample_ratio.off.into());
        self.number(&STABLE_FAILING, &[service], verdict.stable_failing.into());
        let Expected { pull, pass } = verdict.expected;
        for (what, outlook) in [("pull", pull), ("pass", pass)] {
            let time = outlook.and_then(|outlook| outlook.time).map_or(f64::NAN, |time| time.as_secs_f64());
            self.value(&EXPECTED, &[service, what], time);
        }
    }

    fn arm(&mut self, view: &ServiceView, arm: Arm) {
        let service = view.spec.name.as_str();
        let totals = view.live.totals(arm);
        for (class, count) in CLASS_NAMES.iter().zip(totals.by_class) {
            self.number(&REQUESTS, &[service, arm.name(), class], count);
        }
        for (reason, count) in BadReason::ALL.iter().zip(totals.bad) {
            self.number(&BAD, &[service, arm.name(), reason.name()], count);
        }
        self.times(&HEAD, &[service, arm.name()], &totals.latency);
        for endpoint in view.pools.get(arm) {
            let labels = [service, arm.name(), &endpoint.id];
            self.number(&IN_FLIGHT, &labels, endpoint.live.in_flight());
            self.number(&ENDPOINT_REQUESTS, &labels, endpoint.live.requests());
            self.number(&TUNNELS, &labels, endpoint.live.tunnels());
            self.number(&READY, &labels, endpoint.is_ready().into());
        }
        self.balance(view, arm);
    }

    fn leases(&mut self, view: &ServiceView) {
        for standing in Standing::ALL {
            let endpoints = Arm::BOTH.into_iter().flat_map(|arm| view.pools.get(arm));
            let stand = endpoints.filter(|endpoint| endpoint.is_leased() && endpoint.standing == standing).count();
            self.number(&LEASED, &[view.spec.name.as_str(), standing.name()], stand as u64);
        }
    }

    fn process(&mut self, live: &Live, revision: u64) {
        let store = live.store_health();
        self.number(&CONNECTIONS, &[], live.connections());
        self.number(&HANDSHAKES_FAILED, &[], live.failed_handshakes());
        self.number(&FLOODS, &[], live.floods());
        self.number(&PREFACES_REFUSED, &[], live.refused_prefaces());
        self.number(&CROWDED, &[], live.crowded());
        for (listener, certificates) in live.certificates() {
            for certificate in certificates {
                let name = certificate.names.first().map_or("", String::as_str);
                let expiry = certificate.expires.since(Timestamp::from_millis(0)).as_secs_f64();
                self.value(&CERTIFICATE_EXPIRY, &[&listener, name], expiry);
            }
        }
        self.number(&DROPPED, &[], live.reports_dropped());
        self.number(&REACHABLE, &[], store.reachable.into());
        if let Some(read_at) = store.read_at {
            self.value(&AGE, &[], telemetry::now().since(read_at).as_secs_f64());
        }
        self.number(&POISONED, &[], store.poisoned.len() as u64);
        if let Some(mirror) = &store.mirror {
            self.number(&MIRROR_IN_USE, &[], mirror.in_use.into());
            if let Some(age) = mirror.age {
                self.value(&MIRROR_AGE, &[], age.as_secs_f64());
            }
        }
        self.number(&REVISION, &[], revision);
        let discovery = live.discovery();
        self.number(&LAPSES, &[], discovery.lapses);
        self.number(&MASSES, &[], discovery.masses);
        self.number(&SILENT, &[], discovery.mass_since.is_some().into());
    }

    fn number(&mut self, metric: &Named, labels: &[&str], n: u64) {
        self.value(metric, labels, n as f64);
    }

    fn value(&mut self, metric: &Named, labels: &[&str], value: f64) {
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

    fn times(&mut self, metric: &Named, labels: &[&str], sum: &HistogramSum) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::sample::{self, publish};
    use super::super::service::Ending;
    use super::super::{Health, StoreHealth};
    use super::*;
    use crate::model::naming::NameFacts;
    use crate::model::redis::Mirrored;
    use crate::model::state::State;
    use crate::model::tls::Certificate;
    use crate::telemetry::metrics::Registry;

    /// A daemon of two cores that served two requests, one of them bad.
    fn served() -> Arc<Live> {
        let (live, _) = Live::new(2);
        let mut spec = sample::service("checkbox");
        spec.gates.push(sample::gate("study.create", "/api/study/create"));
        spec.limits = sample::limits();
        publish(&live, &[Arc::new(spec)], &State::default());
        let service = live.service("checkbox");
        service.turned_away_by("study.create").count(1);
        service.turned_away_by("of-another-day").count(1);
        service.count(0, Arm::Canary, Ending::Status(200), Some(Duration::from_millis(3)));
        service.count(1, Arm::Canary, Ending::Status(500), Some(Duration::from_secs(100)));
        service.count_bad(1, Arm::Canary, BadReason::Status);
        service.set_learned_slow(Duration::from_millis(80));
        service.endpoint(Arm::Canary, "127.0.0.1:4001", Health::Up).begin(0);
        let expires = Timestamp::from_millis(1_800_000_000_000);
        live.show_certificates("https", vec![Certificate { names: vec!["a.example".to_owned()], expires }]);
        let facts = Arc::new(NameFacts::default());
        live.names().set([(Arc::from("app.internal"), facts)].into());
        let mirror = Some(Mirrored { age: Some(Duration::from_millis(250)), in_use: true, detail: None });
        let read_at = Some(telemetry::now());
        live.set_store_health(StoreHealth { reachable: true, read_at, mirror, ..Default::default() });
        live
    }

    fn scrape() -> String {
        let registry = Registry::new("0").expect("a fresh registry takes anything");
        registry.register(LiveMetrics::new(served()).expect("the names are fine")).expect("the names are new");
        registry.encode().expect("text")
    }

    #[test]
    fn what_was_counted_on_every_core_is_shown_summed() {
        let text = scrape();
        for line in [
            "serin_requests_total{service=\"checkbox\",arm=\"canary\",code_class=\"2xx\"} 1",
            "serin_requests_total{service=\"checkbox\",arm=\"canary\",code_class=\"5xx\"} 1",
            "serin_bad_requests_total{service=\"checkbox\",arm=\"canary\",reason=\"status\"} 1",
            "serin_response_head_seconds_bucket{service=\"checkbox\",arm=\"canary\",le=\"+Inf\"} 2",
            "serin_response_head_seconds_bucket{service=\"checkbox\",arm=\"canary\",le=\"0.004096\"} 1",
            "serin_response_head_seconds_count{service=\"checkbox\",arm=\"canary\"} 2",
            "serin_endpoint_in_flight{service=\"checkbox\",arm=\"canary\",endpoint=\"127.0.0.1:4001\"} 1",
            "serin_endpoint_ready{service=\"checkbox\",arm=\"canary\",endpoint=\"127.0.0.1:4001\"} 1",
            "serin_weight_percent{service=\"checkbox\",kind=\"asked\"} 0",
            "serin_weight_percent{service=\"checkbox\",kind=\"effective\"} 0",
            "serin_slow_threshold_seconds{service=\"checkbox\"} 0.08",
            "serin_store_reachable 1",
            "serin_store_mirror_age_seconds 0.25",
            "serin_store_mirror_in_use 1",
            "serin_snapshot_revision 1",
            "serin_gate_closed_total{service=\"checkbox\",flag=\"study.create\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("of-another-day"), "a gate that is gone has a series");
    }

    #[test]
    fn the_registry_and_the_table_of_the_manual_agree() {
        let manual = include_str!("../../../docs/operating.md");
        let told: BTreeSet<&str> =
            manual.lines().filter_map(|line| line.strip_prefix("| `serin_")?.split(['`', '{']).next()).collect();
        let text = scrape();
        let shown: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE serin_")?.split(' ').next()).collect();
        assert_eq!(told, shown);
    }

    #[test]
    fn every_metric_that_is_described_is_shown_with_its_labels() {
        let text = scrape();
        for metric in ALL {
            let line = text.lines().find(|line| line.starts_with(metric.name)).expect(metric.name);
            for label in metric.labels {
                assert!(line.contains(&format!("{label}=\"")), "{line} lacks {label}");
            }
        }
    }
}
