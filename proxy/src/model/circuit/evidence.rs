//! What was known when a circuit opened: the proof of a pull.

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::outcome::{BadSample, PerSignal, Signal};
use crate::model::split::PerArm;
use crate::model::time::Timestamp;

/// What one arm showed in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmEvidence {
    /// Distinct units seen: exact up to some thousands, then an estimate, ± 3 %.
    pub units: u64,
    /// Units that went bad: exact.
    pub bad: u64,
}

/// The evidence of one signal in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SignalEvidence {
    /// The evidence against "the canary is no worse", by this signal alone.
    pub e: f64,
    /// What this `e` must reach for a pull: 1/α, divided by the signal's share of α.
    pub threshold: f64,
    /// How many times stable's risk the canary's may be.
    pub tolerance: f64,
    /// Units that went bad for it.
    pub bad: PerArm<u64>,
}

/// What is known where a service has a control: three comparisons, each against "the first is no worse".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ControlEvidence {
    /// The canary against the control, both restarted together: of the draws while there was a control.
    pub canary_vs_control: f64,
    /// The canary against all of stable: of all draws, as if there were no control. Decides nothing.
    pub canary_vs_stable: f64,
    /// The control against the rest of stable: what the restart does by itself. Decides nothing.
    pub control_vs_rest: f64,
    /// Units that went bad on the canary and are compared with the control.
    pub bad_canary: u64,
    /// Units that went bad in the control.
    pub bad_control: u64,
}

/// The proof of a pull: what was known at the moment of the decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The evidence against "the canary is no worse", over all signals: the largest of theirs, each by its
    /// share of α.
    pub e: f64,
    /// What `e` must reach: 1/α.
    pub threshold: f64,
    /// Each arm's units; bad are those that went bad for any signal.
    #[serde(flatten)]
    pub arms: PerArm<ArmEvidence>,
    /// Distinct client addresses seen in the episode, good outcomes included, by estimate.
    pub addresses: u64,
    /// The smallest `e` with any one address left out; absent where it can't be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_without_any_address: Option<f64>,
    /// The latest bad outcomes of the canary, the oldest first.
    #[serde(default, deserialize_with = "latest_samples")]
    pub samples: Vec<BadSample>,
    /// When the canary's first bad response of the episode was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<Timestamp>,
    /// Each signal that counts; none in what older versions wrote.
    #[serde(default)]
    pub signals: PerSignal<Option<SignalEvidence>>,
    /// The comparisons with the control; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlEvidence>,
}

/// More samples than this nobody shows.
const SAMPLES: usize = 20;

fn latest_samples<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BadSample>, D::Error> {
    let mut samples = Vec::deserialize(deserializer)?;
    samples.drain(..samples.len().saturating_sub(SAMPLES));
    Ok(samples)
}

impl Evidence {
    /// The signals whose evidence is enough for a pull, the strongest first.
    pub fn decisive(&self) -> Vec<Signal> {
        let part = |signal: &SignalEvidence| signal.e / signal.threshold;
        let mut enough: Vec<(Signal, f64)> = self
            .signals
            .iter()
            .filter_map(|(name, signal)| Some((name, signal.as_ref().map(part)?)))
            .filter(|(_, part)| *part >= 1.0)
            .collect();
        enough.sort_by(|one, other| other.1.total_cmp(&one.1));
        enough.into_iter().map(|(signal, _)| signal).collect()
    }
}
