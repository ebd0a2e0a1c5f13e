//! What the leader of a rollout does next, by what it sees: pure, with time passed in.

use std::time::Duration;

use super::plan::{Gate, OnNoData, RolloutSpec, Step};
use super::{Phase, Rollout};
use crate::model::span;
use crate::model::time::Timestamp;
use crate::model::verdict::Decision;
use crate::model::weight::Weight;

/// Whether every stable endpoint carries the rollout's version, or the flag's new definition is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Every one that is neither draining nor removed.
    ByAll,
    /// So many of all; what the others say is for people.
    BySome {
        /// Endpoints that carry it.
        carry: usize,
        /// All endpoints that count.
        of: usize,
    },
    /// The flag's new definition isn't in force yet.
    NotInForce,
    /// No endpoint says which version it carries.
    Unknown,
}

/// What a proxy sees of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What the verdict says of the running episode.
    pub decision: Decision,
    /// Why, in its own sentence.
    pub why: String,
    /// Whether the canary got any request through this proxy since the step began.
    pub canary_was_asked: bool,
    /// Whether stable itself fails so that nothing can be compared with it.
    pub stable_failing: bool,
    /// Whether the split gives the arms other shares than it should.
    pub ratio_broken: bool,
    /// Whether the circuit is open.
    pub circuit_open: bool,
    /// Whether the store can be reached.
    pub store_reachable: bool,
    /// Why users can't be given what is on trial, if they can't.
    pub canary_unready: Option<String>,
    /// Whether all is where a promotion leads.
    pub carried: Carried,
    /// What somebody did to the flag on trial past the rollout, which so is over.
    pub overtaken: Option<String>,
    /// The weight asked for: another than the rollout's was set by a person straight at the store.
    pub asked: Weight,
}

/// Times as the leader knows them, each the more careful of what its clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The wall clock.
    pub now: Timestamp,
    /// For how long the step has been in force: the shorter of wall clock and own observation.
    pub held: Duration,
    /// For how long the rollout has been going on: the longer of the two.
    pub age: Duration,
    /// For how long no renewal was seen, by own observation.
    pub silent: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Wait,
    /// Go to the next step, or from none to the first.
    Advance,
    /// Approve the version.
    Promote,
    /// Put the new definition of a promoted flag in force.
    Enforce,
    /// Empty the canary of a promoted version; nothing is left to do of a flag.
    Finish,
    /// End it, for this reason.
    Abort(String),
    /// A person set this weight straight at the store: bring the rollout in line with it.
    Yield(Weight),
}

/// What to do, and the sentence that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// What to do.
    pub step: Move,
    /// Why, for people: what is awaited.
    pub why: String,
}

fn wait(why: impl Into<String>) -> Next {
    Next { step: Move::Wait, why: why.into() }
}

/// What the leader does next.
pub fn next(rollout: &Rollout, spec: &RolloutSpec, seen: &Observed, clock: &Clock) -> Next {
    if !rollout.is_live() {
        return wait(rollout.why.clone());
    }
    if seen.circuit_open && !rollout.is_settled() {
        return wait("the circuit is open");
    }
    if !seen.store_reachable {
        return wait("frozen: the store is unreachable");
    }
    if let Some(what) = &seen.overtaken {
        return Next { step: Move::Abort(what.clone()), why: format!("aborted: {what}") };
    }
    if seen.asked != rollout.weight() {
        let yields = Move::Yield(seen.asked);
        match rollout.phase {
            // Paused already, and any weight but zero was a person's wish.
            Phase::Paused if !seen.asked.is_zero() => {}
            Phase::Promoted if !seen.asked.is_zero() => {}
            _ => return Next { step: yields, why: format!("the weight was set to {} % by hand", seen.asked) },
        }
    }
    if rollout.phase == Phase::Promoted {
        return empty(rollout, seen);
    }
    if let Some(reason) = overdue(rollout, clock) {
        return Next { why: format!("aborted: {reason}"), step: Move::Abort(reason) };
    }
    if rollout.phase == Phase::Paused {
        return wait(rollout.why.clone());
    }
    if let Some(obstacle) = obstacle(spec, seen, clock) {
        return wait(obstacle);
    }
    match rollout.current() {
        None => advance(rollout, spec, "the canary is ready"),
        Some(step) => match gate(rollout, step, seen, clock) {
            Err(awaited) => wait(awaited),
            Ok(why) if rollout.is_at_last() => Next { step: Move::Promote, why },
            Ok(why) => advance(rollout, spec, &why),
        },
    }
}

fn advance(rollout: &Rollout, spec: &RolloutSpec, why: &str) -> Next {
    let Some(following) = rollout.plan.steps.get(rollout.step) else { return wait(rollout.why.clone()) };
    if following.weight > spec.max_weight {
        return wait(format!(
            "the next step wants {} %, and the service now allows {} % at most (rollout.max_weight)",
            following.weight, spec.max_weight
        ));
    }
    Next { step: Move::Advance, why: why.to_owned() }
}

fn empty(rollout: &Rollout, seen: &Observed) -> Next {
    let subject = &rollout.plan.subject;
    let awaits = format!("promoted: {}", subject.awaits());
    match seen.carried {
        Carried::ByAll => Next { step: Move::Finish, why: subject.arrived() },
        Carried::NotInForce => Next { step: Move::Enforce, why: awaits },
        Carried::BySome { carry, of } => wait(format!("{awaits}; {carry} of {of} do")),
        Carried::Unknown => wait(format!(
            "{awaits}, and none says what it carries: register them with a version, or set the weight to 0 when they are \
             rolled"
        )),
    }
}

fn overdue(rollout: &Rollout, clock: &Clock) -> Option<String> {
    let deadline = rollout.deadline();
    if clock.age >= deadline {
        return Some(format!("it was not decided within its deadline of {}", span::show(deadline)));
    }
    let lease = rollout.lease()?;
    let ended = clock.silent >= lease;
    ended.then(|| format!("whoever drove it gave no sign for {}: its lease ended", span::show(lease)))
}

/// What forbids any advance.
fn obstacle(spec: &RolloutSpec, seen: &Observed, clock: &Clock) -> Option<String> {
    if let Some((window, end)) = spec.freeze.iter().find_map(|window| Some((window, window.until(clock.now)?))) {
        return Some(format!("a freeze window ({window}) lasts until {end}"));
    }
    if let Some(why) = &seen.canary_unready {
        return Some(format!("the canary isn't ready: {why}"));
    }
    if seen.stable_failing {
        return Some("stable itself is failing: nothing can be compared with it".to_owned());
    }
    if seen.ratio_broken {
        return Some("the split is off: the arms get other shares than they should".to_owned());
    }
    None
}

/// Whether the step may end: why, or what is awaited.
fn gate(rollout: &Rollout, step: &Step, seen: &Observed, clock: &Clock) -> Result<String, String> {
    if seen.decision == Decision::Pull {
        return Err("the verdict is to pull the canary".to_owned());
    }
    let (at, of) = (rollout.step, rollout.plan.steps.len());
    let left = step.hold().saturating_sub(clock.held);
    if !left.is_zero() {
        let left = Duration::from_secs(left.as_secs() + 1);
        return Err(format!("step {at} of {of} holds {} % for another {}", step.weight, span::show(left)));
    }
    let alone = step.weight == Weight::FULL;
    match step.gate {
        Gate::Time => Ok(format!("step {at} held for its time")),
        Gate::Verdict if alone => Ok(format!("step {at} held for its time, with nobody left to compare with")),
        Gate::Verdict if seen.decision == Decision::Pass => Ok(format!("step {at} passed: {}", seen.why)),
        Gate::Verdict if seen.canary_was_asked => {
            Err(format!("step {at} of {of} waits for the verdict to pass: {}", seen.why))
        }
        Gate::Verdict if step.on_no_data == OnNoData::Advance => {
            Ok(format!("step {at} held for its time, and the canary got no request"))
        }
        Gate::Verdict => Err(format!("step {at} of {of} waits for data: the canary got no request since it began")),
        Gate::Manual if rollout.waits_for_a_person() => {
            Err(format!("step {at} of {of} waits for a person to resume or promote"))
        }
        Gate::Manual => Ok(format!("step {at} was approved")),
    }
}
