//! What the API sends about a rollout: fields may be added, never renamed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::live::ServiceView;
use crate::model::rollout::Rollout;
use crate::model::rollout::plan::{Gate, OnNoData, Step};
use crate::model::rollout::subject::Trial;
use crate::model::span;

/// A rollout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RolloutJson {
    /// Its service.
    pub service: String,
    /// Its id.
    pub id: String,
    /// What is on trial: the version that the canary must carry, or of a flag `flag` and its name.
    pub version: String,
    /// The flag on trial; null where it is a version.
    #[serde(default)]
    pub flag: Option<TrialJson>,
    /// `pending`, `progressing`, `paused`, `promoted`, `pulled` or `aborted`.
    pub phase: String,
    /// Whether it is known how it came out: promoted, pulled or aborted.
    pub decided: bool,
    /// Whether all is done: a promoted one isn't until the canary is empty.
    pub finished: bool,
    /// What happened last or is awaited, in a sentence.
    pub why: String,
    /// The step in force, from 1; 0 before the first.
    pub step: usize,
    /// The steps.
    pub steps: Vec<StepJson>,
    /// The weight that it wants now, in percent.
    pub weight: f64,
    /// Who began it.
    pub started_by: String,
    /// When, RFC 3339.
    pub started_at: String,
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// When the step in force began to hold, RFC 3339.
    pub entered_at: String,
    /// When it is aborted if it isn't decided by then, RFC 3339.
    pub deadline_at: String,
    /// How long it lives without a sign of whoever drives it; null = for ever.
    pub lease: Option<String>,
    /// Who decided how it came out.
    pub decided_by: Option<String>,
    /// When, RFC 3339.
    pub decided_at: Option<String>,
    /// The service's revision; also the `ETag`.
    pub revision: u64,
    /// What the caller of a change should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A flag on trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialJson {
    /// Its key.
    pub key: String,
    /// The definition that was in force.
    pub from: Value,
    /// The new one.
    pub to: Value,
}

/// A step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepJson {
    /// The canary weight, in percent.
    pub weight: f64,
    /// How long it holds at least.
    pub hold: String,
    /// `verdict`, `time` or `manual`.
    pub gate: Gate,
    /// `hold` or `advance`.
    pub on_no_data: OnNoData,
}

impl RolloutJson {
    /// The latest rollout of a service, if there ever was one.
    pub fn of(view: &ServiceView) -> Option<Self> {
        let rollout = view.rollout.as_ref()?;
        Some(Self::new(&view.spec.name, rollout, view.revision, &view.live.rollout_waits()))
    }

    /// A rollout, and what it waits for as far as this proxy knows.
    pub fn new(service: &str, rollout: &Rollout, revision: u64, waits: &str) -> Self {
        let plan = &rollout.plan;
        let going = rollout.is_live() && !waits.is_empty();
        Self {
            service: service.to_owned(),
            id: plan.id.to_string(),
            version: plan.subject.to_string(),
            flag: plan.subject.flag().map(TrialJson::of),
            phase: rollout.phase.name().to_owned(),
            decided: rollout.phase.is_decided(),
            finished: rollout.finished,
            why: if going { waits.to_owned() } else { rollout.why.clone() },
            step: rollout.step,
            steps: plan.steps.iter().map(StepJson::of).collect(),
            weight: rollout.weight().percent(),
            started_by: plan.by.clone(),
            started_at: plan.at.to_string(),
            reason: plan.reason.clone(),
            entered_at: rollout.entered.to_string(),
            deadline_at: (plan.at + rollout.deadline()).to_string(),
            lease: rollout.lease().map(span::show),
            decided_by: rollout.decided_by.clone(),
            decided_at: rollout.decided_at.map(|at| at.to_string()),
            revision,
            note: None,
        }
    }
}

impl TrialJson {
    fn of(trial: &Trial) -> Self {
        let Trial { key, from, to } = trial.clone();
        Self { key, from, to }
    }
}

impl StepJson {
    fn of(step: &Step) -> Self {
        Self {
            weight: step.weight.percent(),
            hold: span::show(step.hold()),
            gate: step.gate,
            on_no_data: step.on_no_data,
        }
    }
}
