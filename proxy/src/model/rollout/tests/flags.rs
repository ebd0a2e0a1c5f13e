//! Rollouts of a flag's new definition: what is other about them than about versions.

use serde_json::{Value, json};

use super::super::plan::PlanError;
use super::super::subject::{InForce, Trial};
use super::*;

fn definition(default: &str) -> Value {
    json!({"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": default})
}

fn trial() -> Trial {
    Trial { key: "editor".into(), from: definition("off"), to: definition("on") }
}

pub(super) fn flag_plan(id: u64, text: &str) -> Plan {
    Plan { subject: Subject::Flag(trial()), ..plan(id, text) }
}

fn started(text: &str) -> ServiceState {
    ServiceState::default().apply(&Change::Rollout(RolloutChange::Start { plan: flag_plan(1, text) }))
}

#[test]
fn a_flag_waits_for_a_canary_that_is_under_way_to_end() {
    let start = Change::Rollout(RolloutChange::Start { plan: flag_plan(2, "10%:5m") });
    let by_hand = ServiceState::default().apply(&set(20.0));
    assert_eq!(by_hand.apply(&start), by_hand, "two canaries at once");
    let version = begun("10%:5m").apply(&advance(0, 1));
    assert_eq!(version.apply(&start), version, "two canaries at once");
    assert_eq!(phase(&by_hand.apply(&set(0.0)).apply(&start)), Phase::Pending);
    // and the other way round
    let flag = started("10%:5m").apply(&advance(0, 1));
    assert_eq!(flag.apply(&super::start(3, "10%:5m")), flag);
}

#[test]
fn a_promoted_flag_has_no_canary_any_more_and_is_over_once_it_is_in_force() {
    let state = started("10%:5m,50%:5m").apply(&advance(0, 1));
    is_at(&state, Phase::Progressing, 1, 10.0);
    let promoted = state.apply(&promote());
    is_at(&promoted, Phase::Promoted, 1, 0.0);
    assert!(rollout(&promoted).is_live());
    let (enforce, why) = moves(&promoted, |seen| seen.carried = Carried::NotInForce, 0);
    assert!(enforce == Move::Enforce && why.contains("editor"), "{why}");
    assert_eq!(moves(&promoted, |seen| seen.carried = Carried::ByAll, 0).0, Move::Finish);
    // a trip is about a canary, and there is none
    let tripped = promoted.apply(&trip());
    assert!(tripped.circuit.is_open());
    is_at(&tripped, Phase::Promoted, 1, 0.0);
    let open = |seen: &mut Observed| (seen.circuit_open, seen.carried) = (true, Carried::NotInForce);
    assert_eq!(moves(&tripped, open, 0).0, Move::Enforce);
    is_at(&promoted.apply(&abort(1)), Phase::Aborted, 1, 0.0);
    let done = promoted.apply(&finish(1));
    assert!(!rollout(&done).is_live() && rollout(&done).why.contains("in force"), "{}", rollout(&done).why);
}

#[test]
fn a_trip_pulls_a_flag_on_trial_and_says_which_trip_it_was() {
    let pulled = started("10%:5m").apply(&advance(0, 1)).apply(&trip());
    is_at(&pulled, Phase::Pulled, 1, 0.0);
    let mut trip = pulled.circuit.trip.clone().expect("a trip");
    assert!(rollout(&pulled).is_pulled_by(&trip));
    trip.at = Timestamp::from_millis(77);
    assert!(!rollout(&pulled).is_pulled_by(&trip));
}

#[test]
fn whoever_changes_the_flag_past_its_trial_ends_it_in_whatever_phase() {
    let state = started("10%:5m").apply(&advance(0, 1));
    for state in [started("10%:5m"), state.clone(), state.apply(&pause()), state.apply(&promote())] {
        let (step, _) = moves(&state, |seen| seen.overtaken = Some("it was changed".into()), 0);
        assert_eq!(step, Move::Abort("it was changed".into()), "{}", phase(&state));
    }
}

#[test]
fn a_definition_is_known_again_however_it_is_written() {
    let trial = trial();
    let spaced = r#"{ "variants": {"off":false, "on":true}, "defaultVariant":"off", "state":"ENABLED" }"#;
    assert_eq!(trial.in_force(Some(spaced)), InForce::Former);
    assert_eq!(trial.in_force(Some(&definition("on").to_string())), InForce::New);
    for other in [None, Some("spoiled"), Some("{}")] {
        assert_eq!(trial.in_force(other), InForce::Other);
    }
}

#[test]
fn a_plan_names_its_subject_in_the_store_and_a_flag_must_differ() {
    let stored = |plan: &Plan| serde_json::to_value(plan).expect("JSON");
    let (version, flag) = (plan(1, "10%:5m"), flag_plan(2, "10%:5m"));
    assert_eq!(stored(&version)["version"], "1.5");
    assert_eq!(stored(&flag)["flag"], json!({"key": "editor", "from": definition("off"), "to": definition("on")}));
    for plan in [version, flag] {
        assert_eq!(serde_json::from_value::<Plan>(stored(&plan)).expect("a plan"), plan);
    }
    for spoiled in [Trial { key: "a:b".into(), ..trial() }, Trial { to: definition("off"), ..trial() }] {
        let plan = Plan { subject: Subject::Flag(spoiled), ..plan(1, "10%:5m") };
        assert_eq!(plan.check(), Err(PlanError::Trial));
    }
}
