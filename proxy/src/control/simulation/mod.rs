//! The whole control loop in simulated time: syncs, drivers and courts of two to five proxies before a store
//! that fails in every way a store can, with clocks that jump, processes that die at any step, and people and
//! pipelines who want things. A seed decides all of it, and the oracle looks after each step.
//!
//! `cargo test -p serin --lib simulation` runs the seeds. What breaks is printed with its seed, and
//! `SERIN_SEED=… cargo test -p serin --lib simulation::one_seed -- --nocapture` tells that seed's story.

mod oracle;
mod people;
mod proxy;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

use prometheus::Registry;

use self::world::World;
use super::alert::{Mailer, Metrics};
use crate::store::simulated::set_seed;
use crate::telemetry::simulated::set_clock;

/// As many seeds run unless `SERIN_SEEDS` says otherwise.
const SEEDS: u64 = 10_000;

/// As much of a story is told unasked.
const LINES: usize = 40;
/// What must have happened in as many seeds as there are by default: else they show nothing.
const MUST_HAPPEN: [&str; 12] = [
    "abort asked for",
    "circuit opened",
    "circuit opened by evidence",
    "clock jumped",
    "cut off",
    "death",
    "ended aborted",
    "ended promoted",
    "ended pulled",
    "fail-over",
    "flush",
    "new leader",
];

type Counts = BTreeMap<&'static str, u64>;

/// What became of a seed.
struct Outcome {
    broken: Option<String>,
    counts: Counts,
    log: Vec<String>,
}

fn mailer() -> Mailer {
    let metrics = Metrics::register(&Registry::new()).expect("a registry of its own");
    Mailer::start(None, PathBuf::new(), String::new(), metrics).expect("nothing to open").0
}

fn run(seed: u64, mailer: &Mailer, logs: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed, mailer, logs);
        world.run().await;
        set_clock(None);
        set_seed(None);
        let oracle = world.oracle;
        Outcome { broken: oracle.broken.into_iter().next(), counts: oracle.counts, log: world.log.unwrap_or_default() }
    })
}

#[expect(clippy::disallowed_methods, reason = "how a seed is given to a test: there is no configuration")]
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs every second seed from `first` on, and says what happened and what broke.
fn run_many(first: u64, seeds: u64) -> (Counts, Vec<(u64, String)>) {
    let mailer = mailer();
    let (mut counts, mut broken) = (Counts::new(), Vec::new());
    for seed in (first..seeds).step_by(2) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, &mailer, false)));
        match outcome {
            Ok(outcome) => {
                broken.extend(outcome.broken.map(|broken| (seed, broken)));
                outcome.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
            }
            Err(_) => broken.push((seed, "it panicked: see above".to_owned())),
        }
    }
    (counts, broken)
}

#[test]
fn no_seed_loses_a_trip_promotes_twice_or_leaves_a_rollout_stuck() {
    let seeds = from_environment("SERIN_SEEDS").unwrap_or(SEEDS);
    let others = std::thread::spawn(move || run_many(1, seeds));
    let (mut counts, mut broken) = run_many(0, seeds);
    let (more, broken_too) = others.join().expect("it catches panics");
    more.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    broken.extend(broken_too);
    println!("{seeds} seeds: {counts:#?}");
    broken.sort();
    for (seed, what) in broken.iter().take(10) {
        println!("seed {seed}: {}", what.chars().take(400).collect::<String>());
    }
    if let Some((seed, _)) = broken.first() {
        println!("The end of the story of seed {seed}:");
        let story = run(*seed, &mailer(), true).log;
        story.iter().skip(story.len().saturating_sub(LINES)).for_each(|line| println!("{line}"));
    }
    let replay = "SERIN_SEED=… cargo test -p serin --lib simulation::one_seed -- --nocapture";
    if seeds >= SEEDS {
        for what in MUST_HAPPEN {
            assert!(counts.get(what).is_some_and(|count| *count >= 50), "too few to show anything: {what}");
        }
    }
    assert!(broken.is_empty(), "{} of {seeds} seeds broke something; for the story of one: {replay}", broken.len());
}

#[test]
fn one_seed_tells_the_same_story_twice() {
    let seed = from_environment("SERIN_SEED").unwrap_or(1);
    let mailer = mailer();
    let story = run(seed, &mailer, true);
    assert!(!story.log.is_empty());
    for line in &story.log {
        println!("{line}");
    }
    assert_eq!(story.broken, None, "seed {seed}");
    assert!(run(seed, &mailer, true).log == story.log, "something isn't decided by the seed");
}
