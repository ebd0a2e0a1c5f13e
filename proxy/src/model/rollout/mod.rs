//! A rollout: a plan that moves the canary weight in steps, and where it stands.
//!
//! It is kept in the store as a part of the service's state and changes only by
//! [`change::RolloutChange`]s. [`drive`] says what a leader does next, by what it sees.

pub mod change;
pub mod drive;
pub mod freeze;
pub mod plan;
pub mod subject;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::MOST_COUNTED;
use super::circuit::Trip;
use super::time::Timestamp;
use super::weight::Weight;
use plan::{Plan, PlanError, Step};

/// What is said of a rollout, by whom and why, is no longer than this, in bytes; what serin says itself is far shorter.
/// It goes into every answer, event and mail.
const LONGEST_TEXT: usize = 8 * 1024;

/// What names a rollout: 64 bits, written as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RolloutId(pub u64);

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Text that names no rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a rollout is 16 hex digits")]
pub struct RolloutIdError;

impl FromStr for RolloutId {
    type Err = RolloutIdError;

    fn from_str(text: &str) -> Result<Self, RolloutIdError> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Self).ok_or(RolloutIdError)
    }
}

impl Serialize for RolloutId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RolloutId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which leader speaks: a later one has a higher number, and an earlier one isn't listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl Fence {
    /// Whether a leader can have been given it: one beyond all that ever will be would keep every leader from being heard.
    pub const fn is_sound(self) -> bool {
        self.0 <= MOST_COUNTED
    }
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Begun: the canary gets nothing until it is ready and nothing forbids the first step.
    Pending,
    /// A step is in force.
    Progressing,
    /// The weight stays where it is until a person resumes.
    Paused,
    /// The version is approved, and the canary keeps its keys until stable carries it too. Or the definition of a flag
    /// is: everybody gets it, and it comes into force.
    Promoted,
    /// The circuit opened.
    Pulled,
    /// It was ended by a person, by its deadline, or because nobody renewed its lease.
    Aborted,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Progressing, Self::Paused, Self::Promoted, Self::Pulled, Self::Aborted];

    /// Its name in JSON, labels and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::Pulled => "pulled",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it is known how the rollout came out.
    pub const fn is_decided(self) -> bool {
        matches!(self, Self::Promoted | Self::Pulled | Self::Aborted)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rollout as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// What was asked for.
    pub plan: Plan,
    /// Where it stands.
    pub phase: Phase,
    /// The step in force, counted from 1; 0 before the first.
    pub step: usize,
    /// When the step began to hold: at its start, or when a pause ended.
    pub entered: Timestamp,
    /// The manual gate of this step was passed by a person; 0 = none was.
    #[serde(default)]
    pub approved: usize,
    /// The highest leader that is known to drive it.
    #[serde(default)]
    pub fence: Fence,
    /// When whoever drives it showed up last, where there is a lease.
    pub renewed: Timestamp,
    /// Whether all is done: the canary gets nothing any more.
    #[serde(default)]
    pub finished: bool,
    /// Whether it was promoted before it was aborted: then a flag's new definition may be in force all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_promoted: bool,
    /// What last happened to it, as a sentence for people.
    pub why: String,
    /// Who decided how it came out: a person, or the name of the proxy that led.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
}

impl Rollout {
    /// A rollout that waits for its first step.
    pub fn new(plan: Plan) -> Self {
        let why = format!("begun by {}: the first step waits for the canary", plan.by);
        Self {
            phase: Phase::Pending,
            step: 0,
            entered: plan.at,
            approved: 0,
            fence: Fence::default(),
            renewed: plan.at,
            finished: false,
            was_promoted: false,
            why,
            decided_by: None,
            decided_at: None,
            plan,
        }
    }

    /// Whether anything can still come of it: a promoted one lives until the canary is empty.
    pub const fn is_live(&self) -> bool {
        !self.finished
    }

    /// The step in force.
    pub fn current(&self) -> Option<&Step> {
        self.plan.steps.get(self.step.checked_sub(1)?)
    }

    /// Whether no step follows.
    pub fn is_at_last(&self) -> bool {
        self.step >= self.plan.steps.len()
    }

    /// The weight that it wants: zero before the first step and when all is done.
    pub fn weight(&self) -> Weight {
        let is_empty = self.finished || self.is_settled();
        if is_empty { Weight::ZERO } else { self.current().map_or(Weight::ZERO, |step| step.weight) }
    }

    /// Whether it is a flag that is promoted: everybody gets its new definition, so that nobody is on the canary any
    /// more and no trip is about it.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Promoted && self.plan.subject.flag().is_some()
    }

    /// Whether this trip pulled it.
    pub fn is_pulled_by(&self, trip: &Trip) -> bool {
        self.phase == Phase::Pulled && self.decided_at == Some(trip.at) && self.decided_by.as_ref() == Some(&trip.by)
    }

    /// How long it may take in all.
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.plan.deadline_ms)
    }

    /// How long it lives without a sign of whoever drives it.
    pub fn lease(&self) -> Option<Duration> {
        self.plan.lease_ms.map(Duration::from_millis)
    }

    /// Whether this is a rollout that can have come about.
    ///
    /// # Errors
    /// What is wrong with it: people and scripts may write it into the store.
    pub fn check(&self) -> Result<(), PlanError> {
        self.plan.check()?;
        let texts = [Some(&self.why), self.decided_by.as_ref(), Some(&self.plan.by), self.plan.reason.as_ref()];
        if texts.into_iter().flatten().any(|text| text.len() > LONGEST_TEXT) {
            return Err(PlanError::Text);
        }
        let ended = matches!(self.phase, Phase::Pulled | Phase::Aborted);
        let sound = self.step <= self.plan.steps.len()
            && (self.phase != Phase::Pending || self.step == 0)
            && (self.step > 0 || !matches!(self.phase, Phase::Progressing | Phase::Promoted))
            && (!ended || self.finished)
            && (!self.finished || self.phase.is_decided())
            && self.fence.is_sound();
        if sound { Ok(()) } else { Err(PlanError::Inconsistent) }
    }
}

#[cfg(test)]
mod tests;
