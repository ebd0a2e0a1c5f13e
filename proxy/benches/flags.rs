//! How long a flag takes to evaluate: `cargo bench -p serin --bench flags`.
//!
//! Criterion gives the typical time; the 99th percentile, which includes reading the clock, is
//! printed behind it. The aim is 1 µs for a boolean flag and 5 µs for a rule of three.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use serin::model::flag::{Context, FlagSet};
use serin::model::time::Timestamp;
use tokio::time::Instant;

const NOW: Timestamp = Timestamp::from_millis(1_780_272_000_000);
const LOOKS: usize = 200_000;

fn flags() -> FlagSet {
    let on_off = json!({"on": true, "off": false});
    let document = json!({
        "flags": {
            "static": {"state": "ENABLED", "variants": on_off, "defaultVariant": "on"},
            "boolean": {"state": "ENABLED", "variants": on_off, "defaultVariant": "off",
                "targeting": {"if": [{"==": [{"var": "plan"}, "pro"]}, "on"]}},
            "split": {"state": "ENABLED", "variants": on_off, "defaultVariant": "off",
                "targeting": {"fractional": [["on", 10], ["off", 90]]}},
            "three-rules": {"state": "ENABLED", "variants": {"a": "A", "b": "B", "c": "C"}, "defaultVariant": "a",
                "targeting": {"if": [
                    {"and": [{"$ref": "staff"}, {"in": [{"var": "country"}, ["DE", "AT", "CH", "FR"]]}]}, "a",
                    {"sem_ver": [{"var": "app.version"}, "<", "2.0.0"]}, "b",
                    {"fractional": [{"cat": [{"var": "$flagd.flagKey"}, {"var": "email"}]},
                        ["a", 25], ["b", 25], ["c", 50]]}]}},
        },
        "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@example.com"]}},
    });
    let (flags, refusals) = FlagSet::update(&FlagSet::default(), document.to_string().as_bytes());
    assert!(refusals.is_empty(), "{refusals:?}");
    flags
}

fn context() -> Value {
    json!({"plan": "pro", "country": "IT", "email": "somebody@shop.test", "app": {"version": "2.4.1"}})
}

fn evaluations(criterion: &mut Criterion) {
    let (flags, data) = (flags(), context());
    let Ok(context) = Context::new(&data, NOW) else { return };
    let context = context.with_targeting_key("kJ8vQ0m1T2eXo4rC6yZ9Aw");
    for key in ["static", "boolean", "split", "three-rules"] {
        criterion.bench_function(key, |bencher| bencher.iter(|| flags.evaluate(black_box(key), black_box(&context))));
        report_percentile(key, || {
            black_box(flags.evaluate(black_box(key), black_box(&context)));
        });
    }
}

#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
fn report_percentile(key: &str, mut evaluate: impl FnMut()) {
    let mut times: Vec<Duration> = (0..LOOKS)
        .map(|_| {
            let begin = Instant::now();
            evaluate();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{key:<23} p50 {:?}, p99 {:?}", times[LOOKS / 2], times[LOOKS * 99 / 100]);
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = evaluations
}
criterion_main!(benches);
