//! What the verdict says of the running episode, for people and programs to read.

use crate::model::circuit::Evidence;
use crate::model::split::{EpisodeId, PerArm};
use crate::model::verdict::{Decision, Expected};
use crate::model::weight::Weight;

/// The verdict on the running episode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerdictStatus {
    /// The episode it speaks of; none while none runs.
    pub episode: Option<EpisodeId>,
    /// The verdict in one word.
    pub decision: Decision,
    /// Why it is what it is, in a sentence.
    pub why: String,
    /// The evidence for a pull, over all signals and for each.
    pub evidence: Evidence,
    /// The evidence for a pass of the running step.
    pub pass: PassStatus,
    /// What the sample-ratio check says of the split itself.
    pub sample_ratio: RatioStatus,
    /// Whether stable itself is failing: nothing goes on until it recovers.
    pub stable_failing: bool,
    /// How far away a decision is.
    pub expected: Expected,
}

/// The evidence for a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassStatus {
    /// The evidence that the canary is good enough at this weight.
    pub e: f64,
    /// What `e` must reach: 1/β.
    pub threshold: f64,
    /// The weight of the step it speaks of; only of draws at this weight.
    pub weight: Weight,
    /// Distinct units of the step whose requests had time to fail.
    pub exposed: u64,
    /// Units of the step that went bad, for any signal.
    pub bad: PerArm<u64>,
}

/// The sample-ratio check.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RatioStatus {
    /// The strongest evidence of the episode that the split is broken.
    pub e: f64,
    /// What `e` must reach.
    pub threshold: f64,
    /// Whether it did: it then stays so for the episode.
    pub off: bool,
    /// Units of the step that came back, in the sample looked at.
    pub returned: PerArm<u64>,
}
