//! Decisions: what rules want, which limit cuts it to what, and what holds whatever is measured.

mod last_week;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::super::time::Timestamp;
use super::*;

fn target(metric: Metric, value: f64) -> RuleSpec {
    RuleSpec { measure: Measure::Own(metric), want: Want::Target { value, forecast: Duration::ZERO, last_week: false } }
}

fn step(above: f64, below: Option<f64>) -> RuleSpec {
    let threshold = Threshold { above, add: Stride::Count(2), below, remove: None, hold: Duration::ZERO };
    RuleSpec { measure: Measure::Own(Metric::P95), want: Want::Step(threshold) }
}

fn spec(rules: Vec<RuleSpec>) -> ScalingSpec {
    let at_once = Pace {
        cooldown: Duration::ZERO,
        shrink_after: Duration::ZERO,
        max_grow: Stride::Count(100),
        max_shrink: Stride::Count(100),
        ..Pace::default()
    };
    ScalingSpec {
        min: 2,
        max: 20,
        rules,
        schedules: Vec::new(),
        pace: at_once,
        starts_per_hour: None,
        in_rollout: InRollout::Hold,
        freeze: Vec::new(),
        dry_run: false,
        prometheus: String::new(),
        driver: None,
    }
}

fn ready(ready: u32) -> Sizes {
    Sizes { ready, ..Sizes::default() }
}

const NOON: Timestamp = Timestamp::from_millis(1_775_000_000_000);

fn seen<'a>(sizes: Sizes, values: &'a [Option<f64>], bars: &'a [Bar]) -> Seen<'a> {
    Seen { now: NOON, sizes, values, bars, set: None, week: None }
}

fn decided(spec: &ScalingSpec, sizes: Sizes, values: &[Option<f64>]) -> Decision {
    decide(spec, &Ledger::default(), &mut Memory::default(), &seen(sizes, values, &[]))
}

fn limits(decision: &Decision) -> Vec<Limit> {
    decision.cuts.iter().map(|cut| cut.limit).collect()
}

#[test]
fn a_target_is_followed_in_proportion_and_pending_ones_count() {
    let spec = spec(vec![target(Metric::Requests, 80.0)]);
    assert_eq!(decided(&spec, ready(4), &[Some(160.0)]).size, 8);
    assert_eq!(decided(&spec, Sizes { ready: 4, warming: 0, pending: 4, down: 0 }, &[Some(160.0)]).size, 8);
    assert_eq!(decided(&spec, ready(8), &[Some(20.0)]).size, 2);
    assert_eq!(decided(&spec, ready(8), &[Some(83.0)]).size, 8, "within the deadband");
    assert_eq!(decided(&spec, ready(8), &[Some(85.0)]).size, 9);
}

#[test]
fn what_the_ceiling_cuts_is_said_to_be_cut_by_it() {
    let decision = decided(&spec(vec![target(Metric::Requests, 80.0)]), ready(18), &[Some(160.0)]);
    assert_eq!((decision.size, decision.wanted, limits(&decision)), (20, 36, vec![Limit::Max]));
}

#[test]
fn the_largest_wish_counts_and_each_says_what_it_wants() {
    let spec = spec(vec![target(Metric::Requests, 80.0), target(Metric::InFlight, 10.0)]);
    let decision = decided(&spec, ready(4), &[Some(40.0), Some(15.0)]);
    assert_eq!((decision.size, decision.wanted), (6, 6));
    assert_eq!(decision.why(), "requests at 40 wants 2, in_flight at 15 wants 6");
    let json = serde_json::to_value(&decision).expect("JSON");
    assert_eq!(json["voices"][1]["says"], "wants");
}

#[test]
fn what_saturates_asks_for_no_more_than_double_and_waits_for_those_that_warm_up() {
    let spec = spec(vec![target(Metric::InFlight, 10.0)]);
    assert_eq!(decided(&spec, ready(4), &[Some(4_000.0)]).size, 8);
    assert_eq!(decided(&spec, Sizes { ready: 8, warming: 4, pending: 0, down: 0 }, &[Some(4_000.0)]).size, 8);
}

#[test]
fn a_time_never_shrinks_a_pool() {
    let spec = spec(vec![target(Metric::P95, 0.25)]);
    assert_eq!(decided(&spec, ready(8), &[Some(0.001)]).size, 8);
    assert_eq!(decided(&spec, ready(8), &[Some(0.5)]).size, 16);
}

#[test]
fn a_missing_value_takes_none_away_and_adds_none() {
    let spec = spec(vec![target(Metric::Requests, 80.0), target(Metric::InFlight, 10.0)]);
    for nothing in [None, Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)] {
        let decision = decided(&spec, ready(8), &[Some(10.0), nothing]);
        assert_eq!((decision.size, limits(&decision)), (8, vec![Limit::Missing]), "{nothing:?}");
        assert_eq!(decision.voices[1].opinion, Opinion::Missing);
        assert_eq!(decided(&spec, ready(8), &[nothing, nothing]).size, 8);
        assert_eq!(decided(&spec, ready(4), &[Some(160.0), nothing]).size, 8, "others may still grow it");
    }
    assert_eq!(decided(&spec, ready(8), &[]).size, 8, "no values at all");
    assert_eq!(decided(&spec, ready(0), &[Some(5.0), Some(5.0)]).size, 2, "of nobody there is no average");
}

#[test]
fn a_threshold_steps_once_and_waits_to_see_the_help() {
    let spec = spec(vec![step(0.25, Some(0.1)), target(Metric::Requests, 80.0)]);
    assert_eq!(decided(&spec, ready(8), &[Some(0.3), Some(80.0)]).size, 10);
    let warming = Sizes { ready: 10, warming: 2, pending: 0, down: 0 };
    assert_eq!(decided(&spec, warming, &[Some(0.3), Some(60.0)]).size, 10);
    assert_eq!(decided(&spec, ready(10), &[Some(0.2), Some(40.0)]).size, 10, "between the two it stays");
    assert_eq!(decided(&spec, ready(10), &[Some(0.05), Some(40.0)]).size, 5, "below it leaves it to others");
}

#[test]
fn a_threshold_is_crossed_for_its_whole_time() {
    let mut rule = step(0.25, None);
    let Want::Step(threshold) = &mut rule.want else { panic!("a step") };
    threshold.hold = Duration::from_secs(30);
    let (spec, mut memory) = (spec(vec![rule]), Memory::default());
    let mut size_at = |second, value| {
        let values = [Some(value)];
        let seen = Seen { now: NOON + Duration::from_secs(second), ..seen(ready(8), &values, &[]) };
        decide(&spec, &Ledger::default(), &mut memory, &seen).size
    };
    assert_eq!([size_at(0, 0.3), size_at(25, 0.3), size_at(26, 0.2)], [8, 8, 8]);
    assert_eq!([size_at(27, 0.3), size_at(56, 0.3), size_at(57, 0.3)], [8, 8, 10]);
}

#[test]
fn it_shrinks_only_to_what_was_enough_all_the_time() {
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    spec.pace.shrink_after = Duration::from_secs(60);
    let mut memory = Memory::default();
    let mut at = |second, value| {
        let values = [Some(value)];
        let seen = Seen { now: NOON + Duration::from_secs(second), ..seen(ready(10), &values, &[]) };
        decide(&spec, &Ledger::default(), &mut memory, &seen)
    };
    assert_eq!(limits(&at(0, 8.0)), [Limit::ShrinkAfter], "a new leader has seen nothing");
    assert_eq!(at(30, 48.0).size, 10);
    assert_eq!(at(60, 8.0).size, 6, "six were wanted half a minute ago");
    assert_eq!(at(89, 8.0).size, 6);
    assert_eq!(at(91, 8.0).size, 2, "and that is over");
}

#[test]
fn after_a_step_nothing_is_taken_back_lightly() {
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    spec.pace.cooldown = Duration::from_secs(300);
    let mut ledger = Ledger::default();
    ledger.note_grow(NOON - Duration::from_secs(299), 2);
    let at =
        |ledger: &Ledger, value| decide(&spec, ledger, &mut Memory::default(), &seen(ready(10), &[Some(value)], &[]));
    assert_eq!(limits(&at(&ledger, 8.0)), [Limit::Cooldown]);
    assert_eq!(at(&ledger, 85.0).size, 11, "growing on is no taking back");
    let mut ledger = Ledger::default();
    ledger.note_shrink(NOON - Duration::from_secs(299));
    assert_eq!(at(&ledger, 87.0).size, 10, "within twice the deadband");
    assert_eq!(at(&ledger, 89.0).size, 12);
    assert_eq!(at(&ledger, 40.0).size, 5, "shrinking on is no taking back");
}

#[test]
fn a_bar_leaves_the_pool_as_it_is_and_a_rollout_may_let_it_grow() {
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    for (bar, limit) in [
        (Bar::StoreGone, Limit::StoreGone),
        (Bar::Rollout, Limit::Rollout),
        (Bar::Freeze(NOON), Limit::Freeze),
        (Bar::Paused(NOON), Limit::Paused),
    ] {
        for value in [24.0, 160.0] {
            let bars = [bar.clone()];
            let decision =
                decide(&spec, &Ledger::default(), &mut Memory::default(), &seen(ready(8), &[Some(value)], &bars));
            assert_eq!((decision.size, limits(&decision)), (8, vec![limit]), "{bar:?}");
        }
    }
    spec.in_rollout = InRollout::Grow;
    let at = |value| {
        decide(&spec, &Ledger::default(), &mut Memory::default(), &seen(ready(8), &[Some(value)], &[Bar::Rollout])).size
    };
    assert_eq!([at(24.0), at(160.0)], [8, 16]);
}

#[test]
fn a_person_waits_for_nothing_but_the_store_and_the_bounds() {
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    spec.pace = Pace { max_grow: Stride::Count(100), ..Pace::default() };
    spec.starts_per_hour = Some(1);
    let at = |set, bars: &[Bar]| {
        let seen = Seen { set: Some(set), ..seen(ready(8), &[None], bars) };
        decide(&spec, &Ledger::default(), &mut Memory::default(), &seen).size
    };
    assert_eq!(at(12, &[Bar::Rollout, Bar::Freeze(NOON), Bar::Paused(NOON)]), 12);
    assert_eq!(at(5_000, &[]), 20);
    assert_eq!(at(12, &[Bar::StoreGone]), 8);
}

#[test]
fn the_budget_of_an_hour_is_spent_once() {
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    spec.starts_per_hour = Some(5);
    let mut ledger = Ledger::default();
    ledger.note_grow(NOON - Duration::from_secs(3_599), 3);
    let decision = decide(&spec, &ledger, &mut Memory::default(), &seen(ready(8), &[Some(160.0)], &[]));
    assert_eq!((decision.size, limits(&decision)), (10, vec![Limit::Budget]));
    ledger.starts[0].at = NOON - Duration::from_secs(3_600);
    let decision = decide(&spec, &ledger, &mut Memory::default(), &seen(ready(8), &[Some(160.0)], &[]));
    assert_eq!(decision.size, 13);
}

#[test]
fn what_is_down_leaves_no_room_for_others() {
    let spec = spec(vec![target(Metric::Requests, 80.0)]);
    let at = |down| decided(&spec, Sizes { down, ..ready(10) }, &[Some(160.0)]);
    assert_eq!((at(0).size, at(4).size, at(10).size, at(99).size), (20, 16, 10, 10));
    assert_eq!((limits(&at(4)), at(4).held_up_by_down(), at(0).held_up_by_down()), (vec![Limit::Down], 4, 0));
}

#[test]
fn while_a_proxy_is_not_heard_a_pool_grows_and_does_not_shrink() {
    let spec = spec(vec![target(Metric::Requests, 80.0)]);
    let at = |value| {
        decide(&spec, &Ledger::default(), &mut Memory::default(), &seen(ready(8), &[Some(value)], &[Bar::Unheard])).size
    };
    assert_eq!((at(24.0), at(160.0)), (8, 16));
}

#[test]
fn a_schedule_moves_the_bounds_within_the_usual_most() {
    let window = |text: &str| text.parse().expect(text);
    let mut spec = spec(vec![target(Metric::Requests, 80.0)]);
    // NOON is a Tuesday, 23:33 UTC.
    spec.schedules = vec![Schedule { window: window("daily 23:00 - 00:00"), min: Some(9), max: None }];
    assert_eq!(decided(&spec, ready(3), &[Some(10.0)]).size, 9);
    spec.schedules.push(Schedule { window: window("tue 00:00 - wed 00:00"), min: None, max: Some(5) });
    assert_eq!(spec.bounds(NOON), (9, 9), "the fewest count before the most");
    assert_eq!(spec.bounds(NOON + Duration::from_secs(7 * 3_600)), (2, 20));
}

// === whatever happens ===

fn any_value(rng: &mut StdRng) -> Option<f64> {
    match rng.random_range(0..12) {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(f64::INFINITY),
        3 => Some(-rng.random::<f64>()),
        4 => Some(f64::MAX),
        _ => Some(rng.random::<f64>() * 400.0),
    }
}

fn any_rule(rng: &mut StdRng) -> RuleSpec {
    let metric = Metric::ALL[rng.random_range(0..3)];
    let stride = |rng: &mut StdRng| {
        if rng.random() { Stride::Count(rng.random_range(1..10)) } else { Stride::Share(rng.random_range(0.01..3.0)) }
    };
    let want = if rng.random() {
        let forecast = Duration::from_secs(rng.random_range(0..120));
        Want::Target { value: rng.random_range(0.1..200.0), forecast, last_week: rng.random() }
    } else {
        let above = rng.random_range(1.0..300.0);
        let below = rng.random::<bool>().then(|| above * rng.random::<f64>());
        let remove = rng.random::<bool>().then(|| stride(rng));
        let hold = Duration::from_secs(rng.random_range(0..60));
        Want::Step(Threshold { above, add: stride(rng), below, remove, hold })
    };
    RuleSpec { measure: Measure::Own(metric), want }
}

fn any_spec(rng: &mut StdRng) -> ScalingSpec {
    let min = rng.random_range(1..6);
    let seconds = |rng: &mut StdRng| Duration::from_secs(rng.random_range(0..400));
    let rules: Vec<RuleSpec> = (0..rng.random_range(0..4)).map(|_| any_rule(rng)).collect();
    let mut spec = spec(rules);
    (spec.min, spec.max) = (min, min + rng.random_range(0..30));
    spec.pace.cooldown = seconds(rng);
    spec.pace.grow_after = seconds(rng);
    spec.pace.shrink_after = seconds(rng);
    spec.pace.max_grow = Stride::Share(rng.random_range(0.1..9.0));
    spec.starts_per_hour = rng.random::<bool>().then(|| rng.random_range(1..40));
    spec
}

/// Loads of the last week that know no bounds.
fn any_week(rng: &mut StdRng) -> Week {
    let ago = |slots: u64| NOON - Duration::from_secs(300 * slots);
    let first = Week::of(Lesson::of(ago(2_020), 1.0));
    (1..2_020).rev().fold(first, |week, slots| week.and(Lesson::of(ago(slots), any_value(rng).unwrap_or(0.0))))
}

/// A pool in which instances appear late, never, or go by themselves.
fn live_through(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let spec = any_spec(&mut rng);
    let (mut ledger, mut memory) = (Ledger::default(), Memory::default());
    let week = any_week(&mut rng);
    let (mut sizes, mut now) = (ready(rng.random_range(0..spec.max + 5)), NOON);
    for _ in 0..300 {
        // Clocks mostly go on.
        now = if rng.random_bool(0.01) { now - Duration::from_secs(500) } else { now + Duration::from_secs(5) };
        let values: Vec<_> = (0..spec.rules.len()).map(|_| any_value(&mut rng)).collect();
        let bars: Vec<Bar> = if rng.random_bool(0.1) { vec![Bar::Rollout] } else { Vec::new() };
        let set = rng.random_bool(0.02).then(|| rng.random());
        let week = rng.random_bool(0.9).then_some(&week);
        let seen = Seen { now, sizes, values: &values, bars: &bars, set, week };
        let before = sizes.total();
        let decision = decide(&spec, &ledger, &mut memory, &seen);
        assert!(decision.size <= spec.max.max(before), "seed {seed}: {decision:?}");
        assert!(decision.grow() == 0 || decision.size + sizes.down <= spec.max, "seed {seed}: {decision:?}");
        let all_missing = values.iter().all(|value| value.is_none_or(|value| !value.is_finite() || value < 0.0));
        if all_missing && set.is_none() && (spec.min..=spec.max).contains(&before) {
            assert_eq!(decision.size, before, "seed {seed}: {decision:?}");
        }
        if !bars.is_empty() && set.is_none() {
            assert_eq!(decision.size, before, "seed {seed}: {decision:?}");
        }
        if decision.grow() > 0 {
            ledger.note_grow(now, decision.grow());
            if let (Some(budget), None) = (spec.starts_per_hour, set) {
                assert!(ledger.started_lately(now) <= budget.max(decision.grow()), "seed {seed}: {ledger:?}");
            }
            sizes.pending += decision.grow();
        } else if decision.shrink() > 0 {
            assert!(decision.size >= spec.min.min(before), "seed {seed}: {decision:?}");
            ledger.note_shrink(now);
            let from_pending = decision.shrink().min(sizes.pending);
            sizes.pending -= from_pending;
            sizes.ready -= decision.shrink() - from_pending;
        }
        if rng.random_bool(0.2) {
            sizes.ready += sizes.pending;
            sizes.pending = 0;
        }
        sizes.ready -= u32::from(sizes.ready > 0 && rng.random_bool(0.02));
        sizes.warming = rng.random_range(0..=sizes.ready);
        sizes.down = if rng.random_bool(0.2) { rng.random_range(0..5) } else { 0 };
    }
}

#[test]
fn whatever_is_measured_no_more_than_max_are_asked_for() {
    (0..1_500).for_each(live_through);
}

#[test]
fn a_pool_without_values_finds_back_to_its_bounds() {
    let spec = spec(vec![target(Metric::Requests, 80.0)]);
    assert_eq!(decided(&spec, ready(0), &[None]).size, 2);
    assert_eq!(decided(&spec, ready(25), &[None]).size, 20);
}
