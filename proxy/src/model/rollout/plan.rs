//! What a rollout is asked to do: its steps, and the limits that a service sets.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RolloutId;
use super::freeze::Freeze;
use super::subject::Subject;
use crate::model::flag::limits;
use crate::model::span::{self, SpanError};
use crate::model::time::Timestamp;
use crate::model::weight::{Weight, WeightError};

/// More steps than this are a mistake.
pub const MOST_STEPS: usize = 100;
/// A version has no more characters than this.
pub const LONGEST_VERSION: usize = 128;
/// No hold, deadline or lease is longer.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// No lease is shorter: a slow network would end rollouts.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(1);
/// The whole rollout's deadline, unless something else is asked for.
pub const DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// What lets a step end, once its hold is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// The verdict must be `pass`. At a weight of 100, where nobody is left to compare with, as [`Gate::Time`].
    #[default]
    Verdict,
    /// Nothing more.
    Time,
    /// A person.
    Manual,
}

/// What a verdict gate does when its hold is over and the canary got no request at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNoData {
    /// It stays closed.
    #[default]
    Hold,
    /// It opens.
    Advance,
}

/// One step: a weight, for how long at least, and what lets it end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The canary weight.
    pub weight: Weight,
    /// How long it holds at least, in milliseconds.
    pub hold_ms: u64,
    /// What lets it end then.
    #[serde(default)]
    pub gate: Gate,
    /// What a verdict gate does without data.
    #[serde(default)]
    pub on_no_data: OnNoData,
}

impl Step {
    /// How long it holds at least.
    pub const fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

/// Text that is no step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It isn't of the right form.
    #[error(
        "a step is WEIGHT:HOLD, such as 10%:5m, and may end in :verdict, :time or :manual, and in :advance or :hold"
    )]
    Form,
    /// Its weight is none.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// Its hold is none.
    #[error(transparent)]
    Hold(#[from] SpanError),
}

/// `10%:5m`, `10%:5m:manual`, `10%:5m:verdict:advance`.
impl FromStr for Step {
    type Err = StepError;

    fn from_str(text: &str) -> Result<Self, StepError> {
        let mut parts = text.trim().split(':').map(str::trim);
        let (Some(weight), Some(hold)) = (parts.next(), parts.next()) else { return Err(StepError::Form) };
        let weight = weight.strip_suffix('%').unwrap_or(weight).trim_end().parse()?;
        let hold_ms = u64::try_from(span::parse(hold)?.as_millis()).unwrap_or(u64::MAX);
        let (mut gate, mut on_no_data) = (None, None);
        for part in parts {
            let known = match part {
                "verdict" => gate.replace(Gate::Verdict).is_none(),
                "time" => gate.replace(Gate::Time).is_none(),
                "manual" => gate.replace(Gate::Manual).is_none(),
                "hold" => on_no_data.replace(OnNoData::Hold).is_none(),
                "advance" => on_no_data.replace(OnNoData::Advance).is_none(),
                _ => false,
            };
            if !known {
                return Err(StepError::Form);
            }
        }
        Ok(Self { weight, hold_ms, gate: gate.unwrap_or_default(), on_no_data: on_no_data.unwrap_or_default() })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%:{}", self.weight, span::show(self.hold()).replace(' ', ""))?;
        match self.gate {
            Gate::Verdict => {}
            Gate::Time => f.write_str(":time")?,
            Gate::Manual => f.write_str(":manual")?,
        }
        if self.on_no_data == OnNoData::Advance { f.write_str(":advance") } else { Ok(()) }
    }
}

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The version is empty, too long, or no line.
    #[error("a version is one line of 1 to {LONGEST_VERSION} characters without control characters")]
    Version,
    /// There is no step, or there are too many.
    #[error("a rollout has 1 to {MOST_STEPS} steps")]
    Steps,
    /// A step gives the canary nothing.
    #[error("the weight of step {0} is 0: a step gives the canary something")]
    Nothing(usize),
    /// A step gives the canary less than the one before.
    #[error("the weight falls at step {0}: from step to step it stays or rises")]
    Falls(usize),
    /// A step gives the canary more than the service allows.
    #[error("step {step} wants {weight} %, and the service allows {cap} % at most (rollout.max_weight)")]
    AboveCap {
        /// The step, from 1.
        step: usize,
        /// What it wants.
        weight: Weight,
        /// What is allowed.
        cap: Weight,
    },
    /// A time is too long, or zero where it may not be.
    #[error("{0} is at most 366 days, a deadline is more than zero, and a lease is at least 1s")]
    Time(&'static str),
    /// Its parts don't belong together.
    #[error("its phase and its step contradict each other")]
    Inconsistent,
    /// A sentence, a name or a reason in it has no end.
    #[error("what is said of it, by whom and why, is longer than 8 KiB")]
    Text,
    /// The flag on trial has no name, or its definitions don't differ.
    #[error("a flag on trial needs a name and a definition that differs from the one in force")]
    Trial,
    /// A definition of the flag on trial is so deep that who reads the state would give up.
    #[error(
        "a definition of {0} has more than {limit} objects and lists inside one another",
        limit = limits::DEFINITION_DEPTH
    )]
    Depth(String),
}

/// What a rollout is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: RolloutId,
    /// What it puts on trial: in JSON, `version` or `flag`.
    #[serde(flatten)]
    pub subject: Subject,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// Who began it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long it may take in all, in milliseconds.
    pub deadline_ms: u64,
    /// How long it lives without a sign of whoever drives it, in milliseconds; absent = for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The highest weight that the service allowed when it began.
    pub max_weight: Weight,
}

impl Plan {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        self.subject.check()?;
        check_steps(&self.steps, self.max_weight)?;
        let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        let shortest = u64::try_from(SHORTEST_LEASE.as_millis()).unwrap_or(u64::MAX);
        if !(1..=longest).contains(&self.deadline_ms) {
            return Err(PlanError::Time("a deadline"));
        }
        if self.lease_ms.is_some_and(|lease| !(shortest..=longest).contains(&lease)) {
            return Err(PlanError::Time("a lease"));
        }
        Ok(())
    }
}

#[cfg(test)]
impl Plan {
    /// A pipeline's: a version in one step.
    pub(crate) fn sample() -> Self {
        Self {
            id: RolloutId(1),
            subject: Subject::Version("1.5".into()),
            steps: vec!["10%:1h".parse().expect("a step")],
            by: "jenkins".into(),
            at: Timestamp::from_millis(0),
            reason: None,
            deadline_ms: 86_400_000,
            lease_ms: None,
            max_weight: Weight::FULL,
        }
    }
}

/// Whether these steps can be gone, below this cap.
///
/// # Errors
/// What is wrong with the first that can't.
pub fn check_steps(steps: &[Step], cap: Weight) -> Result<(), PlanError> {
    if !(1..=MOST_STEPS).contains(&steps.len()) {
        return Err(PlanError::Steps);
    }
    let mut before = Weight::ZERO;
    for (at, step) in (1..).zip(steps) {
        if step.weight.is_zero() {
            return Err(PlanError::Nothing(at));
        }
        if step.weight < before {
            return Err(PlanError::Falls(at));
        }
        if step.weight > cap {
            return Err(PlanError::AboveCap { step: at, weight: step.weight, cap });
        }
        if step.hold() > LONGEST {
            return Err(PlanError::Time("a hold"));
        }
        before = step.weight;
    }
    Ok(())
}

/// What a service says of its rollouts.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSpec {
    /// No step gives the canary more.
    pub max_weight: Weight,
    /// The steps of a rollout that names none.
    pub steps: Vec<Step>,
    /// When nothing starts and no weight rises.
    pub freeze: Vec<Freeze>,
    /// How long a rollout may take in all, unless it says so itself.
    pub deadline: Duration,
    /// How long a rollout lives without a sign of whoever drives it, unless it says so itself.
    pub lease: Option<Duration>,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        let steps = Self::default_steps(Weight::FULL);
        Self { max_weight: Weight::FULL, steps, freeze: Vec::new(), deadline: DEADLINE, lease: None }
    }
}

impl RolloutSpec {
    /// The steps where nobody named any: 1 %, 10 %, 50 %, 100 %, as far as the cap allows.
    pub fn default_steps(cap: Weight) -> Vec<Step> {
        const MINUTE: u64 = 60_000;
        let step = |weight, hold_ms| Step { weight, hold_ms, gate: Gate::Verdict, on_no_data: OnNoData::Hold };
        let usual = [(100, 5 * MINUTE), (1_000, 10 * MINUTE), (5_000, 10 * MINUTE), (10_000, 0)];
        let usual = usual.map(|(hundredths, hold)| step(Weight::from_hundredths(hundredths), hold));
        let within: Vec<_> = usual.into_iter().filter(|step| step.weight <= cap).collect();
        if within.is_empty() { vec![step(cap, 10 * MINUTE)] } else { within }
    }
}
