//! How many instances a pool should have, for people and programs to read.

use crate::model::scaling::{Decision, Sizes};

/// What this proxy says of the size of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalingStatus {
    /// The instances, as this proxy sees them.
    pub sizes: Sizes,
    /// The last decision, if this proxy leads.
    pub decision: Option<Decision>,
    /// What is done about it, or why nothing is.
    pub note: String,
}
