//! What a scrape tells, and that the manual tells of the same.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::live::sample::{self, publish};
use crate::live::service::Ending;
use crate::live::{Health, StoreHealth};
use crate::model::naming::NameFacts;
use crate::model::outcome::BadReason;
use crate::model::redis::Mirrored;
use crate::model::split::Arm;
use crate::model::state::State;
use crate::model::time::Timestamp;
use crate::model::tls::Certificate;
use crate::telemetry;
use crate::telemetry::metrics::Registry;

/// A daemon of two cores that served two requests, one of them bad.
fn served() -> Arc<Live> {
    let (live, _) = Live::new(2);
    let mut spec = sample::service("checkbox");
    spec.gates.push(sample::gate("study.create", "/api/study/create"));
    spec.limits = sample::limits();
    spec.limits.rates[0].fleet = true;
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
    live.names().set([(Arc::from("app.internal"), Arc::new(NameFacts::default()))].into());
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
    let manual = include_str!("../../../../docs/operating.md");
    let (_, metrics) = manual.split_once("\n## Metrics\n").expect("a chapter on metrics");
    let told: BTreeSet<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("| `serin_")?.split(['`', '{']).next()).collect();
    let text = scrape();
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE serin_")?.split(' ').next()).collect();
    assert_eq!(told, shown);
}

#[test]
fn every_metric_that_is_described_is_shown_with_its_labels() {
    let text = scrape();
    for metric in ALL.into_iter().flatten() {
        let line = text.lines().find(|line| line.starts_with(metric.name)).expect(metric.name);
        for label in metric.labels {
            assert!(line.contains(&format!("{label}=\"")), "{line} lacks {label}");
        }
    }
}
