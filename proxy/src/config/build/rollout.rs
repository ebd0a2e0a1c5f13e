//! `[service.NAME.rollout]`: the limits of rollouts, and what they do unless they say so.

use crate::config::findings::Findings;
use crate::config::raw::RawRollout;
use crate::config::units;
use crate::config::units::Reason;
use crate::model::rollout::freeze::Freeze;
use crate::model::rollout::plan::{DEADLINE, RolloutSpec, SHORTEST_LEASE, Step, check_steps};
use crate::model::weight::Weight;

/// What rollouts of a service may do.
pub(super) fn rollout(raw: &RawRollout, findings: &mut Findings<'_>) -> RolloutSpec {
    let max_weight = findings.read_or(raw.max_weight.as_ref(), Weight::FULL, |value| match units::weight(value)? {
        Weight::ZERO => Err("no rollout could do anything: give a percent above 0".to_owned()),
        weight => Ok(weight),
    });
    let steps = raw.steps.as_ref().map_or_else(
        || RolloutSpec::default_steps(max_weight),
        |list| {
            let steps: Vec<_> =
                list.get_ref().iter().filter_map(|step| findings.read(step, |text| one(text))).collect();
            // A step that can't be read has its own problem, and leaves a gap.
            if steps.len() == list.get_ref().len()
                && let Err(error) = check_steps(&steps, max_weight)
            {
                findings.problem(list.span(), error.to_string());
            }
            steps
        },
    );
    let freeze = findings.read_distinct(&raw.freeze, |text| text.parse::<Freeze>().map_err(|error| error.to_string()));
    let lease = raw.lease.as_ref().and_then(|raw| {
        findings.read(raw, |value| match units::positive_duration(value)? {
            lease if lease < SHORTEST_LEASE => Err("a lease is at least 1s".to_owned()),
            lease => Ok(lease),
        })
    });
    RolloutSpec {
        max_weight,
        steps,
        freeze: freeze.into_iter().map(|(_, window)| window).collect(),
        deadline: findings.read_or(raw.deadline.as_ref(), DEADLINE, units::positive_duration),
        lease,
    }
}

/// A step; a reason never quotes the value.
fn one(text: &str) -> Result<Step, Reason> {
    text.parse().map_err(|_| {
        "a step is WEIGHT:HOLD, such as \"10%:5m\", and may end in `:verdict`, `:time` or `:manual`, and in `:advance` \
         or `:hold`"
            .to_owned()
    })
}
