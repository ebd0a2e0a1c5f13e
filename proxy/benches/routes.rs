//! How long it takes to find the route of a request: `cargo bench -p serin --bench routes`.
//!
//! Among 1, 1,000 and 10,000 routes of one host the time must stay the same, but for what a larger table does to caches.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use serin::config;
use serin::live::routes::{Asked, RouteTree};
use serin::model::path::{self, Matched};

/// A host whose services have so many routes together: prefixes and exact paths in turn, and one expression.
fn tree(routes: usize) -> RouteTree {
    let mut text = String::from("[service.rest]\nhosts = [\"a\"]\n[service.shop]\nhosts = [\"a\"]\nroute = [\n");
    for nth in 0..routes {
        let kind = if nth % 2 == 0 { "path_prefix" } else { "path" };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{{ {kind} = \"/api/{}/items-{nth}\" }},", nth % 50);
    }
    text.push_str("{ path_regex = '/v[0-9]+/.*' },\n]\n");
    match config::parse(&text, "routes.toml") {
        Ok((spec, _)) => RouteTree::of(spec.services.iter().map(|service| &**service).enumerate(), 1),
        Err(error) => panic!("{error}"),
    }
}

fn finding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    let headers = HeaderMap::new();
    for routes in [1, 1_000, 10_000] {
        let tree = tree(routes);
        for (what, path) in [("prefix", "/api/0/items-0/x/y"), ("expression", "/v2/x/y"), ("rest", "/img/logo.svg")] {
            let asked = Asked { path, method: &Method::GET, headers: &headers, core: 0 };
            group.bench_function(BenchmarkId::new(what, routes), |bencher| {
                bencher.iter(|| black_box(&tree).find(black_box(&asked)));
            });
        }
        // Every time another one, so that its part of the table is cold.
        let paths: Vec<String> = (0..routes).step_by(2).map(|nth| format!("/api/{}/items-{nth}/x", nth % 50)).collect();
        let mut nth = 0;
        group.bench_function(BenchmarkId::new("each in turn", routes), |bencher| {
            bencher.iter(|| {
                nth = (nth + 7_919) % paths.len();
                tree.find(&Asked { path: &paths[nth], method: &Method::GET, headers: &headers, core: 0 })
            });
        });
    }
    group.finish();
}

fn settling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("settle");
    for (what, path) in
        [("plain", "/api/study/load/5e7f3a9c1d2b4c6e8f000001"), ("strange", "/api//x/%2e%2e/%40a%2fb;c=d")]
    {
        group.bench_function(what, |bencher| bencher.iter(|| path::settle(black_box(path))));
        group.bench_function(BenchmarkId::new("matched", what), |bencher| {
            bencher.iter(|| {
                path::settle(black_box(path)).map(|settled| {
                    let path = settled.normal.as_deref().unwrap_or(path);
                    if settled.is_plain { Matched::plain(path).text().len() } else { Matched::of(path).text().len() }
                })
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = finding, settling
}
criterion_main!(benches);
