//! What a rollout puts on trial: a version of the application, or a new definition of a flag.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{LONGEST_VERSION, PlanError};
use crate::model::flag::{FlagChange, is_name, limits};

/// What a rollout puts on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A new definition of a flag: stable serves both arms, and canary is who gets that definition.
    Flag(Trial),
    /// A version, which the canary pool carries.
    Version(String),
}

/// A new definition of a flag, beside the one in force when the trial began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The flag.
    pub key: String,
    /// The definition that was in force.
    pub from: Value,
    /// The new one.
    pub to: Value,
}

/// How a trial stands to the definition in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The one that was in force when the trial began.
    Former,
    /// The new one.
    New,
    /// Neither: somebody changed the flag meanwhile, or removed it.
    Other,
}

impl Subject {
    /// The flag on trial, if it is one.
    pub const fn flag(&self) -> Option<&Trial> {
        match self {
            Self::Flag(trial) => Some(trial),
            Self::Version(_) => None,
        }
    }

    /// Whether it can be put on trial at all.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        match self {
            Self::Flag(trial) => trial.check(),
            Self::Version(version) if is_version(version) => Ok(()),
            Self::Version(_) => Err(PlanError::Version),
        }
    }

    /// What a promotion waits for, as the end of a sentence.
    pub(super) fn awaits(&self) -> String {
        match self {
            Self::Flag(trial) => format!("everybody gets the new definition of {}, which is put in force", trial.key),
            Self::Version(version) => {
                format!("the canary keeps its users until every stable endpoint carries {version}")
            }
        }
    }

    /// What came of a promotion, as the end of a sentence.
    pub(super) fn arrived(&self) -> String {
        match self {
            Self::Flag(trial) => format!("the new definition of {} is in force", trial.key),
            Self::Version(version) => format!("every stable endpoint carries {version}, and the canary is empty"),
        }
    }
}

fn is_version(version: &str) -> bool {
    let fits = (1..=LONGEST_VERSION).contains(&version.chars().count());
    fits && !version.chars().any(char::is_control) && version.trim() == version
}

/// As people call it: `1.5`, `flag new-editor`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(trial) => write!(f, "flag {}", trial.key),
            Self::Version(version) => f.write_str(version),
        }
    }
}

impl Trial {
    fn check(&self) -> Result<(), PlanError> {
        if !is_name(&self.key) || self.from == self.to {
            return Err(PlanError::Trial);
        }
        if [&self.from, &self.to].iter().any(|definition| limits::depth_of(definition) > limits::DEFINITION_DEPTH) {
            return Err(PlanError::Depth(self.key.clone()));
        }
        Ok(())
    }

    /// The change that puts the new definition in force.
    pub fn put_in_force(&self) -> FlagChange {
        FlagChange::Exchange { key: self.key.clone(), from: self.from.clone(), to: self.to.clone() }
    }

    /// The change that takes that back.
    pub fn take_back(&self) -> FlagChange {
        FlagChange::Exchange { key: self.key.clone(), from: self.to.clone(), to: self.from.clone() }
    }

    /// How it stands to the definition in force, by its JSON text; none = the flag is gone.
    pub fn in_force(&self, definition: Option<&str>) -> InForce {
        match definition.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            Some(definition) if definition == self.from => InForce::Former,
            Some(definition) if definition == self.to => InForce::New,
            _ => InForce::Other,
        }
    }
}
