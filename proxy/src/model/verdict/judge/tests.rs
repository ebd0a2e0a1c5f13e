//! The judge as a whole: what it pulls, what it leaves alone, what it shows.

use super::*;
use crate::model::outcome::BadReason;
use crate::model::split::{Salt, Unit};
use crate::model::verdict::{Expected, Guards};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

fn spec() -> VerdictSpec {
    VerdictSpec::default()
}

fn outcome(key: u32, percent: f64, address: u32) -> BadOutcome {
    let weight = Weight::from_percent(percent).expect("a weight");
    let unit = Unit::of_key(Salt(1), &key.to_le_bytes());
    let sample = BadSample {
        request_id: format!("{key:x}"),
        method: "GET".into(),
        path: "/".into(),
        status: Some(500),
        reason: BadReason::Status,
        endpoint: "a".into(),
        at: Timestamp::from_millis(key.into()),
    };
    let drawn_at = sample.at;
    BadOutcome {
        arm: unit.arm(weight),
        unit,
        drawn_at,
        weight,
        control: Weight::ZERO,
        address: address.to_be_bytes().into(),
        sample,
    }
}

/// The keys that are on the canary at 10 %.
fn canary_keys() -> impl Iterator<Item = u32> {
    (0..).filter(|key| outcome(*key, 10.0, 0).arm == Arm::Canary)
}

#[test]
fn a_broken_canary_is_pulled_and_the_proof_says_why() {
    let mut judge = Judge::new(&spec());
    let pulled = canary_keys()
        .take(20)
        .position(|key| judge.observe(&outcome(key, 10.0, key), 1_000) == Ruling::Pull(Cause::Evidence));
    assert!(pulled.is_some_and(|n| n <= 6), "{pulled:?}");
    let evidence = judge.evidence(PerArm { stable: 90, canary: 10 });
    assert!(evidence.e >= 1_000.0 && evidence.e_without_any_address.is_some_and(|e| e >= 1_000.0));
    assert_eq!(evidence.arms.canary.units, 10);
    assert_eq!(evidence.first_bad, evidence.samples.first().map(|s| s.at));
}

#[test]
fn the_proof_shows_the_requests_that_decided() {
    let mut judge = Judge::new(&spec());
    let keys: Vec<u32> = canary_keys().take(15).collect();
    for key in &keys {
        judge.observe(&outcome(*key, 10.0, *key), 1_000);
    }
    let evidence = judge.evidence(PerArm::default());
    let shown: Vec<String> = evidence.samples.into_iter().map(|sample| sample.request_id).collect();
    assert_eq!(shown, keys[5..].iter().map(|key| format!("{key:x}")).collect::<Vec<_>>());
    assert_eq!(evidence.first_bad, Some(Timestamp::from_millis(keys[0].into())));
}

/// Outcomes of an outage that fails everybody: one unit each millisecond.
fn outage(units: u32) -> Vec<BadOutcome> {
    (0..units).map(|key| outcome(key, 10.0, key)).collect()
}

#[test]
fn an_arm_that_stalls_in_a_common_outage_is_no_worse() {
    // given an outage of both arms, in which the canary is silent for half a second and then
    // answers all that waited at once
    let mut judge = Judge::new(&spec());
    let stalled = |outcome: &BadOutcome| (300..800).contains(&outcome.drawn_at.as_millis());
    let (mut late, mut met): (Vec<_>, Vec<_>) =
        outage(1_000).into_iter().partition(|outcome| outcome.arm == Arm::Canary && stalled(outcome));
    assert!(late.len() > 30);
    let back = met.partition_point(|outcome| outcome.drawn_at.as_millis() < 800);
    met.splice(back..back, late.drain(..));
    for outcome in &met {
        assert_eq!(judge.observe(outcome, 1_000), Ruling::Hold, "at {:?}", outcome.drawn_at);
    }
}

#[test]
fn evidence_that_stable_may_yet_refute_is_known_as_such() {
    // given an outage of both arms, in which stable falls silent
    let mut judge = Judge::new(&spec());
    let (heard, silent) = outage(600)
        .into_iter()
        .partition::<Vec<_>, _>(|outcome| outcome.arm == Arm::Canary || outcome.drawn_at.as_millis() < 300);
    let last = heard.iter().map(|outcome| judge.observe(outcome, 1_000)).last();
    assert_eq!(last, Some(Ruling::Pull(Cause::Evidence)));
    assert!(judge.stands_if_stable_errs(0) && !judge.stands_if_stable_errs(silent.len() as u64));
    // when it speaks again
    let last = silent.iter().map(|outcome| judge.observe(outcome, 1_000)).last();
    assert_eq!(last, Some(Ruling::Hold));
    // and a canary that errs alone needs no word of a few
    let mut judge = Judge::new(&spec());
    for key in canary_keys().take(10) {
        judge.observe(&outcome(key, 10.0, key), 1_000);
    }
    assert!(judge.stands_if_stable_errs(5));
}

#[test]
fn facts_beyond_those_remembered_still_count() {
    let mut judge = Judge::new(&spec());
    for outcome in outage(6_000) {
        assert_eq!(judge.observe(&outcome, 1_000), Ruling::Hold);
    }
    let after = canary_keys().skip_while(|key| *key < 6_000).take(40);
    let last = after.map(|key| judge.observe(&outcome(key, 10.0, key), 1_000)).last();
    assert_eq!(last, Some(Ruling::Pull(Cause::Evidence)));
}

#[test]
fn one_stuck_user_is_one_fact() {
    let mut judge = Judge::new(&spec());
    let key = canary_keys().next().expect("a key");
    for _ in 0..1_000 {
        assert_eq!(judge.observe(&outcome(key, 10.0, 1), 1), Ruling::Hold);
    }
    assert_eq!(judge.evidence(PerArm::default()).arms.canary.bad, 1);
}

#[test]
fn a_fault_on_both_arms_blames_nobody() {
    let mut judge = Judge::new(&spec());
    for key in 0..20_000 {
        assert_eq!(judge.observe(&outcome(key, 10.0, key), 10_000), Ruling::Hold, "at unit {key}");
    }
}

#[test]
fn one_address_among_many_pulls_nothing_however_it_errs() {
    let mut judge = Judge::new(&spec());
    for key in canary_keys().take(500) {
        assert_eq!(judge.observe(&outcome(key, 10.0, 99), 1_000), Ruling::Hold);
    }
    let why = judge.why(Guards::default(), &Expected::default());
    assert!(why.contains("one client address"), "{why}");
}

#[test]
fn a_service_used_from_one_address_still_pulls() {
    let mut judge = Judge::new(&spec());
    let last = canary_keys().take(10).map(|key| judge.observe(&outcome(key, 10.0, 1), 1)).last();
    assert_eq!(last, Some(Ruling::Pull(Cause::Evidence)));
    assert_eq!(judge.evidence(PerArm::default()).e_without_any_address, None);
}

#[test]
fn at_weight_0_and_100_nothing_is_evidence() {
    let mut judge = Judge::new(&spec());
    for key in 0..1_000 {
        assert_eq!(judge.observe(&outcome(key, 100.0, key), 1_000), Ruling::Hold);
        assert_eq!(judge.observe(&outcome(key, 0.0, key), 1_000), Ruling::Hold);
    }
    assert_eq!(judge.evidence(PerArm::default()).arms.canary.bad, 0);
}

#[test]
fn a_weight_that_rises_on_the_way_keeps_a_healthy_canary() {
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..200 {
        let mut judge = Judge::new(&spec());
        let first: u32 = rng.random();
        for n in 0..300u32 {
            let percent = [1.0, 5.0, 25.0, 50.0][(n / 75) as usize];
            assert_eq!(judge.observe(&outcome(first.wrapping_add(n), percent, n), 300), Ruling::Hold);
        }
    }
}

#[test]
fn the_hard_rule_counts_what_exceeds_stables_share() {
    let mut judge = Judge::new(&VerdictSpec { max_excess_errors: 3, false_pull_rate: 1e-9, ..spec() });
    let rulings: Vec<_> = canary_keys().take(4).map(|key| judge.observe(&outcome(key, 10.0, 1), 1)).collect();
    assert_eq!(rulings[2], Ruling::Hold);
    assert_eq!(rulings[3], Ruling::Pull(Cause::MaxExcessErrors));
}

/// A fact of a key at 10 %.
fn fact(key: u32, signal: Signal, address: u32) -> Fact {
    Fact { signal, ..Fact::from(&outcome(key, 10.0, address)) }
}

#[test]
fn one_address_alone_never_pulls_whatever_it_does() {
    let mut judge = Judge::new(&spec());
    for key in canary_keys().take(300) {
        for signal in Signal::ALL {
            assert_eq!(judge.observe_fact(&fact(key, signal, 99), 1_000), Ruling::Hold);
        }
    }
    assert!(judge.is_against());
}

#[test]
fn a_canary_that_turns_slow_late_is_pulled_by_that_signal_alone() {
    let mut judge = Judge::new(&spec());
    for key in 0..1_000 {
        for signal in [Signal::Errors, Signal::Slow] {
            assert_eq!(judge.observe_fact(&fact(key, signal, key), 1_000), Ruling::Hold);
        }
    }
    let late = canary_keys().skip_while(|key| *key < 1_000).take(30);
    let seconds_apart = late.enumerate().map(|(n, key)| {
        let drawn_at = Timestamp::from_millis(10_000 + n as u64 * 1_000);
        Fact { drawn_at, ..fact(key, Signal::Slow, key) }
    });
    let last = seconds_apart.map(|fact| judge.observe_fact(&fact, 1_000)).last();
    assert_eq!(last, Some(Ruling::Pull(Cause::Evidence)));
    assert_eq!(judge.evidence(PerArm::default()).decisive(), [Signal::Slow]);
    assert!(judge.why(Guards::default(), &Expected::default()).ends_with("(slow)"));
}

#[test]
fn a_pause_of_one_host_is_one_fact_however_many_it_makes_late() {
    // given a host of the canary that pauses for a second: all of its 200 users at that time are late
    let mut judge = Judge::new(&spec());
    let late =
        |n: usize, key| Fact { drawn_at: Timestamp::from_millis(1_000 + 5 * n as u64), ..fact(key, Signal::Slow, key) };
    let pause: Vec<Fact> = canary_keys().take(200).enumerate().map(|(n, key)| late(n, key)).collect();
    for fact in pause.iter().rev() {
        assert_eq!(judge.observe_fact(fact, 1_000), Ruling::Hold);
    }
    // then the users are counted, and in order of their draws no more than two of them are evidence
    let evidence = judge.evidence(PerArm::default());
    assert_eq!(evidence.arms.canary.bad, 200);
    judge.put_in_order();
    assert!((1.0..100.0).contains(&judge.e()), "{}", judge.e());
}

#[test]
fn a_signal_that_is_off_is_no_evidence() {
    let mut judge = Judge::new(&spec());
    for key in canary_keys().take(50) {
        assert_eq!(judge.observe_fact(&fact(key, Signal::ClientErrors, key), 1_000), Ruling::Hold);
    }
    let evidence = judge.evidence(PerArm::default());
    assert_eq!((evidence.signals.client_errors, evidence.arms.canary.bad), (None, 0));
}

#[test]
fn a_unit_that_is_bad_for_two_signals_is_one_bad_unit() {
    let mut judge = Judge::new(&spec());
    for signal in [Signal::Slow, Signal::Errors, Signal::Errors] {
        judge.observe_fact(&fact(1, signal, 1), 1);
    }
    let evidence = judge.evidence(PerArm::default());
    let bad = |arms: PerArm<u64>| arms.stable + arms.canary;
    assert_eq!(evidence.arms.stable.bad + evidence.arms.canary.bad, 1);
    assert_eq!(evidence.signals.errors.map(|part| bad(part.bad)), Some(1));
    assert_eq!(evidence.signals.slow.map(|part| bad(part.bad)), Some(1));
}

#[test]
fn in_whatever_order_facts_come_the_evidence_is_the_same() {
    // given facts of two proxies, some of them told by both, with draws a little apart
    let mut facts: Vec<Fact> =
        (0..600).flat_map(|key| [Signal::Errors, Signal::Slow].map(|signal| fact(key, signal, key % 97))).collect();
    let again = facts
        .iter()
        .step_by(7)
        .map(|fact| Fact { drawn_at: fact.drawn_at + std::time::Duration::from_millis(3), ..*fact });
    facts.extend(again.collect::<Vec<_>>());
    let mut rng = StdRng::seed_from_u64(9);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut judge = Judge::new(&spec());
        for fact in &facts {
            judge.observe_fact(fact, 100);
        }
        judge.put_in_order();
        let evidence = judge.evidence(PerArm::default());
        seen.push((evidence.signals, evidence.e_without_any_address, evidence.arms));
        for last in (1..facts.len()).rev() {
            facts.swap(last, rng.random_range(0..=last));
        }
    }
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:?}");
}

#[test]
fn of_a_fact_told_twice_the_earlier_draw_stands() {
    let mut judge = Judge::new(&spec());
    let key = canary_keys().next().expect("a key");
    let late = Fact { drawn_at: Timestamp::from_millis(50), ..fact(key, Signal::Errors, 1) };
    // the same unit, drawn before the weight was raised: on stable
    let early = Fact { drawn_at: Timestamp::from_millis(10), arm: Arm::Stable, ..late };
    judge.observe_fact(&late, 1);
    judge.observe_fact(&early, 1);
    judge.observe_fact(&late, 1);
    let errors = judge.evidence(PerArm::default()).signals.errors.expect("it counts");
    assert_eq!(errors.bad, PerArm { stable: 1, canary: 0 });
}

#[test]
fn a_fact_survives_the_way_to_another_proxy() {
    let fact = Fact {
        address: ClientNet::from("2001:db8::1".parse::<std::net::IpAddr>().expect("good")),
        ..fact(3, Signal::Missing, 1)
    };
    let text = serde_json::to_string(&fact).expect("plain values");
    assert!(!text.contains("control"), "older versions don't know it: {text}");
    let beside = Fact { control: fact.weight, ..fact };
    let again: Fact = serde_json::from_value(serde_json::to_value(beside).expect("plain values")).expect("its own");
    assert_eq!(again, beside);
    assert_eq!(serde_json::from_str::<Fact>(&text).expect("its own text"), fact, "{text}");
}

#[test]
fn what_older_versions_wrote_is_still_read() {
    let text = r#"{"e":4812.3,"threshold":1000.0,"stable":{"units":9012,"bad":4},"canary":{"units":1003,"bad":31},"addresses":17}"#;
    let evidence: Evidence = serde_json::from_str(text).expect("an older record");
    assert_eq!((evidence.arms.canary.bad, evidence.signals), (31, PerSignal::default()));
    let text = serde_json::to_string(&Judge::new(&spec()).evidence(PerArm::default())).expect("plain values");
    let again: Evidence = serde_json::from_str(&text).expect("its own text");
    assert_eq!(again.signals.slow.map(|part| part.tolerance), Some(1.25));
}
