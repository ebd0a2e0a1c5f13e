//! What a plan may hold, and how its steps are written.

use super::super::plan::{PlanError, check_steps};
use super::*;

#[test]
fn a_step_reads_as_it_is_written() {
    for text in ["1%:5m", "10%:10m:manual", "50%:1m30s:time", "0.5%:0ms", "10%:10m:advance"] {
        assert_eq!(text.parse::<Step>().expect(text).to_string(), text);
    }
    assert_eq!(steps("10:5m:verdict:hold"), steps("10%:5m"));
    for text in ["", "10%", "10%:", "10%:5", "x:5m", "10%:5m:never", "10%:5m:time:time", "101%:5m", "0.001%:5m"] {
        assert!(text.parse::<Step>().is_err(), "{text}");
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused_with_the_reason() {
    for (text, cap, says) in [
        ("0%:5m", 100.0, "step 1 is 0"),
        ("10%:5m,5%:5m", 100.0, "falls at step 2"),
        ("10%:5m,60%:5m", 50.0, "step 2 wants 60 %, and the service allows 50 %"),
        ("10%:400d", 100.0, "366 days"),
    ] {
        let error = check_steps(&steps(text), weight(cap)).expect_err(text).to_string();
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(check_steps(&[], Weight::FULL), Err(PlanError::Steps));
    for version in ["", "1.5\n", "a\tb", &"x".repeat(129)] {
        let plan = Plan { subject: Subject::Version(version.to_owned()), ..plan(1, "10%:5m") };
        assert_eq!(plan.check(), Err(PlanError::Version), "{version:?}");
    }
    assert!(Plan { deadline_ms: 0, ..plan(1, "10%:5m") }.check().is_err());
    assert!(Plan { lease_ms: Some(10), ..plan(1, "10%:5m") }.check().is_err());
}

#[test]
fn the_steps_of_a_service_that_names_none_keep_to_its_cap() {
    let shown =
        |cap| RolloutSpec::default_steps(weight(cap)).iter().map(|step| step.weight.percent()).collect::<Vec<_>>();
    assert_eq!(shown(100.0), [1.0, 10.0, 50.0, 100.0]);
    assert_eq!(shown(50.0), [1.0, 10.0, 50.0]);
    assert_eq!(shown(0.5), [0.5]);
}
