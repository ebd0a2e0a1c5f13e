//! What the API sends about a fresh control.

use serde::{Deserialize, Serialize};

use super::verdict::finite;
use crate::live::ServiceView;
use crate::model::circuit::{ControlEvidence, Evidence};

/// The control of a running episode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ControlJson {
    /// Its share of the keys now, in percent: as large as the canary's, as far as there is room.
    pub share: f64,
    /// Why it isn't what was asked for, if it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The comparisons so far.
    #[serde(flatten)]
    pub comparisons: ComparisonsJson,
}

/// The three comparisons: each is the evidence that the first errs more than the second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ComparisonsJson {
    /// What decides while there is a control.
    pub canary_vs_control: f64,
    /// As if there were no control; decides nothing while there is one.
    pub canary_vs_stable: f64,
    /// What the restart does by itself; decides nothing.
    pub control_vs_rest: f64,
    /// Units that went bad on the canary and are compared with the control.
    pub bad_canary: u64,
    /// Units that went bad in the control.
    pub bad_control: u64,
}

impl ControlJson {
    /// None where no control was asked for.
    pub(super) fn of(view: &ServiceView, evidence: &Evidence) -> Option<Self> {
        view.spec.split.as_ref().filter(|split| !split.control.is_zero())?;
        // Before the first bad unit beside a control, all say the same: nothing, or what stable says.
        let nothing = ControlEvidence {
            canary_vs_control: 1.0,
            canary_vs_stable: evidence.e,
            control_vs_rest: 1.0,
            ..Default::default()
        };
        Some(Self {
            share: view.control_share(view.effective()).percent(),
            note: view.control_note(),
            comparisons: ComparisonsJson::of(&evidence.control.unwrap_or(nothing)),
        })
    }
}

impl ComparisonsJson {
    pub(super) fn of(evidence: &ControlEvidence) -> Self {
        Self {
            canary_vs_control: finite(evidence.canary_vs_control),
            canary_vs_stable: finite(evidence.canary_vs_stable),
            control_vs_rest: finite(evidence.control_vs_rest),
            bad_canary: evidence.bad_canary,
            bad_control: evidence.bad_control,
        }
    }
}
