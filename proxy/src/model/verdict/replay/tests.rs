//! What a replay finds, beside what the judge finds that is told the same.

use super::*;
use crate::model::split::Salt;

fn spec() -> VerdictSpec {
    VerdictSpec::default()
}

/// A request of a user, answered after `took` milliseconds; each user has its own address.
fn request(key: u32, drawn: u64, took: u64, bad: bool) -> Entry {
    let weight = Weight::from_percent(10.0).expect("a weight");
    let unit = Unit::of_key(Salt(1), &key.to_le_bytes());
    Entry {
        at: Timestamp::from_millis(drawn + took),
        drawn_at: Timestamp::from_millis(drawn),
        arm: unit.arm(weight),
        unit,
        weight,
        control: Weight::ZERO,
        address: key.to_be_bytes().into(),
        bad: PerSignal { errors: bad.then_some(BadReason::Status), ..PerSignal::default() },
        request_id: format!("{key:x}"),
        method: "GET".into(),
        path: "/".into(),
        status: if bad { 500 } else { 200 },
        endpoint: "a".into(),
    }
}

/// Users come every ten milliseconds; the canary fails those from `breaks` on.
fn day(users: u32, breaks: u32) -> Vec<Entry> {
    let of = |key: u32| {
        let healthy = request(key, 1_000 + u64::from(key) * 10, 5, false);
        if healthy.arm == Arm::Canary && key >= breaks {
            request(key, 1_000 + u64::from(key) * 10, 5, true)
        } else {
            healthy
        }
    };
    (0..users).map(of).collect()
}

fn replayed(log: &[Entry], awaited: u64) -> Findings<usize> {
    let mut replay = Replay::new(&spec(), Duration::from_secs(30));
    log.iter().enumerate().for_each(|(line, entry)| replay.take(line, entry, || awaited));
    replay.finish()
}

#[test]
fn a_replay_pulls_at_the_outcome_at_which_the_judge_does() {
    let log = day(2_000, 700);
    let mut judge = Judge::new(&spec());
    let by_judge = log.iter().position(|entry| {
        entry.bad.errors.is_some_and(|reason| judge.observe(&entry.outcome(reason), 1_000) != Ruling::Hold)
    });
    let found = replayed(&log, 0);
    let pulled = found.pulled.expect("the canary broke");
    assert_eq!(Some(pulled.reached.place), by_judge);
    assert_eq!(pulled.reached, pulled.decided);
    assert!((found.evidence.e - judge.e()).abs() < 1e-9);
    assert_eq!(found.evidence.samples.last().expect("a sample").request_id, pulled.request_id);
    assert!(pulled.after[0] > 50 && pulled.after[0] == pulled.after[1], "{:?}", pulled.after);
}

#[test]
fn a_pull_waits_for_stable_and_no_longer_than_it_would() {
    let pulled = replayed(&day(2_000, 700), 10_000).pulled.expect("the canary broke");
    let waited = pulled.decided.at.since(pulled.reached.at);
    let answered = Duration::from_millis(5);
    assert!(waited >= WAIT - answered && waited < WAIT + LOOK, "{waited:?}");
}

#[test]
fn evidence_that_stable_refutes_meanwhile_pulls_nothing() {
    // given an outage of both arms, in which stable answers 400 ms later than the canary
    let mut log: Vec<Entry> = (0..1_000).map(|key| request(key, 1_000 + u64::from(key) * 2, 5, true)).collect();
    for entry in log.iter_mut().filter(|entry| entry.arm == Arm::Stable) {
        entry.at = entry.at + Duration::from_millis(400);
    }
    log.sort_by_key(|entry| entry.at);
    let mut replay = Replay::new(&spec(), Duration::from_secs(30));
    for (line, entry) in log.iter().enumerate() {
        let is_awaited = |later: &&Entry| later.arm == Arm::Stable && later.drawn_at <= entry.at;
        replay.take(line, entry, || log[line + 1..].iter().filter(is_awaited).count() as u64);
    }
    let found = replay.finish();
    assert!(found.pulled.is_none() && found.stable_failing, "{:?}", found.pulled);
}

#[test]
fn a_healthy_canary_stays_and_passes_once_its_users_had_time_to_fail() {
    let found = replayed(&day(13_000, u32::MAX), 0);
    assert_eq!((found.pulled.is_none(), found.decision), (true, Decision::Pass), "{}", found.why);
    let [step] = &found.steps[..] else { panic!("one weight, one step: {:?}", found.steps) };
    assert_eq!(step.units.stable + step.units.canary, 13_000);
    let passed = step.passed.expect("it passed");
    assert!(passed.exposed > 7_000 && passed.at.at.as_millis() > 100_000, "{passed:?}");
    assert!(!step.is_off() && found.one_in == 1 && found.on_both == 0);
}

#[test]
fn a_step_begins_with_its_weight_and_not_with_a_late_line_of_the_one_before() {
    let mut log = day(300, u32::MAX);
    for entry in &mut log[200..] {
        entry.weight = Weight::from_percent(20.0).expect("a weight");
        entry.arm = entry.unit.arm(entry.weight);
    }
    log.swap(199, 210);
    let weights: Vec<f64> = replayed(&log, 0).steps.iter().map(|step| step.weight.percent()).collect();
    assert_eq!(weights, [10.0, 20.0]);
}

#[test]
fn users_beyond_the_bound_are_estimated() {
    let mut seen = Distinct::default();
    for key in 0..400_000_u32 {
        seen.note(Unit::of_key(Salt(1), &key.to_le_bytes()), Arm::Stable);
    }
    assert!(seen.one_in() > 1 && seen.units(Arm::Stable).abs_diff(400_000) < 4_000);
}
