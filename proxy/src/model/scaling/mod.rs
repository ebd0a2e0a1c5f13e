//! How many instances a pool should have: rules over what is measured, and the limits that cut what they want.
//!
//! [`decide`] is the one place where a size is chosen. It is told the time, what was measured and what was done
//! lately, and says the size with its whole explanation: what each rule wanted, and which limit cut it to what. It
//! never chooses more than [`ScalingSpec::max`], whatever it is told.

mod check;
mod decide;
mod decision;
mod driver;
mod ledger;
mod memory;
mod record;
pub mod simulation;
mod spec;
#[cfg(test)]
mod tests;
mod trend;
mod victims;
mod voice;
mod week;

pub use check::ScalingError;
pub use decide::decide;
pub use decision::{Cut, Decision, Limit, Opinion, Voice};
pub use driver::{DockerSpec, DriverKind, DriverSpec, EngineSpec, EnvironmentError};
pub use ledger::{Ledger, Start};
pub use memory::Memory;
pub use record::{Act, Grant, Leaving, Order, Removal, Scaling, ScalingChange, Stage};
pub use spec::{
    InRollout, MOST_INSTANCES, Measure, Metric, Pace, RuleSpec, ScalingSpec, Schedule, Stride, Threshold, Want,
};
pub use victims::{Candidate, victims};
pub use week::{Lesson, Recall, Week};

use super::time::Timestamp;

/// How many instances a pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Registered, checked, and have answered.
    pub ready: u32,
    /// Those of the ready ones that are so new that what is measured doesn't show their help yet.
    pub warming: u32,
    /// Asked for and not ready yet.
    pub pending: u32,
    /// In the pool and not ready, beside those that are pending. They may run, so they count towards the most there may
    /// be, and towards nothing else.
    #[serde(default)]
    pub down: u32,
}

impl Sizes {
    /// All that count as the pool's size.
    pub const fn total(self) -> u32 {
        self.ready.saturating_add(self.pending)
    }

    /// All that may run.
    pub const fn there(self) -> u32 {
        self.total().saturating_add(self.down)
    }

    /// Whether what was asked for lately can't be seen in what is measured yet.
    const fn settling(self) -> bool {
        self.pending > 0 || self.warming > 0
    }
}

/// Why a pool is to be left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bar {
    /// The store can't be reached: nobody knows what the others do.
    StoreGone,
    /// A rollout goes on, or a canary gets traffic.
    Rollout,
    /// A freeze window, until then.
    Freeze(Timestamp),
    /// A person paused it, until then.
    Paused(Timestamp),
    /// A proxy isn't heard, or not yet: what is measured may be less than there is.
    Unheard,
}

/// What a decision is made on.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// Now.
    pub now: Timestamp,
    /// The instances.
    pub sizes: Sizes,
    /// What was measured for each rule, in their order; none where nothing was.
    pub values: &'a [Option<f64>],
    /// Why the pool is to be left as it is.
    pub bars: &'a [Bar],
    /// The size that a person set, while that holds.
    pub set: Option<u32>,
    /// What the load was in the last seven days, where that is known.
    pub week: Option<&'a Week>,
}
